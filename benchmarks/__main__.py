"""All benchmarks, or those named: `python -m benchmarks startup ocr`."""

from __future__ import annotations

import importlib
import sys

ALL = ("startup", "bundle", "load", "ocr", "isolation")

if __name__ == "__main__":
    for name in sys.argv[1:] or ALL:
        sys.argv[1:] = []
        importlib.import_module(f"benchmarks.{name}").main()

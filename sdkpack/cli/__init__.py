"""The command line: the only place that prints, reads argv or exits. One verb a file."""

from __future__ import annotations

from sdkpack.cli.main import main

__all__ = ["main"]

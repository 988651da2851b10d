"""Start-up: CPU time of the command line against importing click alone."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.measure import child_cpu_s, interleaved, machine, show

RUNS = 21


def main() -> None:
    sdkpack = str(Path(sys.executable).parent / "sdkpack")
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "empty.sdkpack"
        _write_bundle(bundle)
        sides = {
            "python -c 'import click'": lambda: child_cpu_s([sys.executable, "-c", "import click"]),
            "sdkpack --help": lambda: child_cpu_s([sdkpack, "--help"]),
            "sdkpack inspect BUNDLE": lambda: child_cpu_s([sdkpack, "inspect", str(bundle)]),
        }
        figures = interleaved(sides, RUNS)
    base = figures["python -c 'import click'"]
    rows = [("command", "CPU s", "ratio", "goal")]
    goals = {"sdkpack --help": "1.5", "sdkpack inspect BUNDLE": "5.0"}
    rows += [(name, f"{value:.4f}", f"{value / base:.2f}", goals.get(name, "")) for name, value in figures.items()]
    show(f"Start-up, medians of {RUNS} interleaved runs ({machine()})", rows)


def _write_bundle(path: Path) -> None:
    """A small encrypted bundle."""
    import os

    from sdkpack.bundle import BlobSource, BundleContent, FileItem, Seal, write_bundle
    from sdkpack.crypto.recipients import Kek

    item = FileItem(path="a/b", media_type="text/plain", source=BlobSource.from_bytes(b"x" * 1000))
    content = BundleContent(manifest={"name": "a", "version": "1", "sequence": 0}, files=(item,))
    write_bundle(content, path, seal=Seal(recipients=(Kek(os.urandom(32)),)))


if __name__ == "__main__":
    main()

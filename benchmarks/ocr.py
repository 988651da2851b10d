"""The OCR example against rapidocr-onnxruntime with its defaults, on one page, in turns.

The peer runs in an environment of its own (`make test` or tools/environments.py builds it); each side loads once,
warms up, and then takes turns with the other over a pipe.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from benchmarks.measure import interleaved, machine, show

ROOT = Path(__file__).resolve().parent.parent
PEER = ROOT / "build/envs/ocr-peer/bin/python"
PAGE = ROOT / "build/ocr-models/skimage/data/page.png"
BUNDLE = ROOT / "build/demo/acme-ocr-1.0.0.sdkpack"
KEYS = ROOT / "examples/ocr/keys"
RUNS = 15

_PEER_LOOP = """
import sys, time, json
from rapidocr_onnxruntime import RapidOCR
engine = RapidOCR()
engine(sys.argv[1])
print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    start = time.perf_counter()
    result, _ = engine(sys.argv[1])
    print(json.dumps([time.perf_counter() - start, [row[1] for row in result]]), flush=True)
"""

_OUR_LOOP = """
import sys, time, json
import sdkpack
page, bundle, trust, key = sys.argv[1:]
session = sdkpack.open(bundle, trust=trust, keys=[key])
session.run("read", image=page)
print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    start = time.perf_counter()
    result = session.run("read", image=page)
    print(json.dumps([time.perf_counter() - start, [row["text"] for row in result["lines"]]]), flush=True)
"""


def main() -> None:
    missing = [str(path.relative_to(ROOT)) for path in (PEER, PAGE, BUNDLE) if not path.exists()]
    if missing:
        print(f"\nOCR: skipped, {', '.join(missing)} missing; first: make demo && make test")
        return
    texts: dict[str, list[str]] = {}
    ours = _side([sys.executable, "-c", _OUR_LOOP, *_our_arguments()], "sdkpack", texts)
    peer = _side([str(PEER), "-c", _PEER_LOOP, str(PAGE)], "rapidocr", texts)
    figures = interleaved({"sdkpack": ours, "rapidocr": peer}, RUNS)
    same = "equal" if texts["sdkpack"] == texts["rapidocr"] else "DIFFERENT"
    rows = [("program", "seconds a page", "ratio")]
    rows += [(name, f"{value:.3f}", f"{figures['rapidocr'] / value:.2f}x") for name, value in figures.items()]
    title = f"OCR of one page, medians of {RUNS} interleaved runs, onnxruntime {version('onnxruntime')} ({machine()})"
    show(f"{title}; texts {same}; goal 1.5x", rows)


def _our_arguments() -> list[str]:
    return [str(PAGE), str(BUNDLE), str(KEYS / "publisher.pub"), str(KEYS / "customer.key")]


def _side(command: list[str], name: str, texts: dict[str, list[str]]) -> Callable[[], float]:
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONWARNINGS": "ignore"}
    )
    assert process.stdin is not None
    assert process.stdout is not None
    _answer(process)

    def turn() -> float:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        seconds, texts[name] = _answer(process)
        time.sleep(0.05)
        return float(seconds)

    return turn


def _answer(process: subprocess.Popen[str]) -> list[object]:
    """The next line of JSON; a library may print other lines before it."""
    assert process.stdout is not None
    for line in process.stdout:
        try:
            answer: list[object] = json.loads(line)
        except ValueError:
            continue
        return answer
    raise SystemExit(f"a side of the benchmark ended: {process.args!r}")


if __name__ == "__main__":
    main()

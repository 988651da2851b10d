"""Latency on OpenVINO, in its own environment: `python second.py INPUTS.npz ORIGINAL RESULT...`, JSON on stdout.

Every model has one turn a round; medians of processor time, which other programs disturb less.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Any

import numpy as np
import openvino

_ROUNDS = 15
_TIMES = 5


def opened(core: Any, path: str) -> Any:
    return core.compile_model(path, "CPU", {"INFERENCE_NUM_THREADS": 1}).create_infer_request()


def main(inputs_file: str, paths: list[str]) -> None:
    with np.load(inputs_file, allow_pickle=False) as stored:
        inputs = {name: stored[name] for name in stored.files}
    core = openvino.Core()
    requests: dict[str, Any] = {}
    times: dict[str, list[float]] = {}
    for path in paths:
        try:
            requests[path] = opened(core, path)
            requests[path].infer(inputs)
            times[path] = []
        except RuntimeError:
            # Not every model is one that OpenVINO takes; then there is no figure.
            requests.pop(path, None)
    for _ in range(_ROUNDS):
        for path, request in requests.items():
            start = time.process_time()
            for _ in range(_TIMES):
                request.infer(inputs)
            times[path].append((time.process_time() - start) / _TIMES)
    print(json.dumps({path: statistics.median(values) for path, values in times.items()}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])

"""One peer on one model, with its defaults: `python peer.py NAME SOURCE RESULT`, run in the peer's environment."""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path


def onnxslim(source: str, result: str) -> None:
    import onnx
    import onnxslim

    onnx.save(onnxslim.slim(onnx.load(source)), result)


def onnxsim(source: str, result: str) -> None:
    import onnx
    import onnxsim

    model, _ = onnxsim.simplify(onnx.load(source))
    onnx.save(model, result)


def onnxoptimizer(source: str, result: str) -> None:
    import onnx
    import onnxoptimizer

    onnx.save(onnxoptimizer.optimize(onnx.load(source), onnxoptimizer.get_fuse_and_elimination_passes()), result)


def onnxscript(source: str, result: str) -> None:
    import onnx
    import onnxscript.optimizer

    onnx.save(onnxscript.optimizer.optimize(onnx.load(source)), result)


def onnxruntime(source: str, result: str) -> None:
    """The level `basic`: what it does for every device; its models stay standard ONNX."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = result
    options.log_severity_level = 3
    onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    name, source, result = sys.argv[1:]
    start = time.perf_counter()
    {peer.__name__: peer for peer in (onnxslim, onnxsim, onnxoptimizer, onnxscript, onnxruntime)}[name](source, result)
    Path(f"{result}.json").write_text(json.dumps({"seconds": time.perf_counter() - start, "version": version(name)}))

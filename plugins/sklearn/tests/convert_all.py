"""Converts and evaluates the catalogue in one process: `python convert_all.py MODELS OUT`, by the environment's Python.

A job of its own for each case would spend most of its time importing; test_host.py has those. What came of each case
stands in OUT/NAME.json, beside NAME.onnx and NAME.npz.
"""

# ruff: noqa: E402  (run by an interpreter without these folders on its path)
from __future__ import annotations

import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[2]), str(HERE.parent / "src")]

import numpy as np
import train
from catalogue import CASES, Case
from sdkpack_sklearn.lgbm import LightGBMConverter
from sdkpack_sklearn.params import LightGBMParams, SklearnParams, XGBoostParams
from sdkpack_sklearn.pickled import PickleConverter
from sdkpack_sklearn.skopsfile import SkopsConverter
from sdkpack_sklearn.xgb import XGBoostConverter

from sdkpack.errors import SdkpackError
from sdkpack.plugin import ConvertRequest, EvaluateRequest
from sdkpack.types import TensorSpec

KINDS: dict[str, tuple[Any, Any]] = {
    ".joblib": (PickleConverter(), SklearnParams),
    ".skops": (SkopsConverter(), SklearnParams),
    ".ubj": (XGBoostConverter(), XGBoostParams),
    ".json": (XGBoostConverter(), XGBoostParams),
    ".txt": (LightGBMConverter(), LightGBMParams),
}


class Context:
    """A StepContext as far as converters use one."""

    seed = 0
    log = logging.getLogger("convert_all")

    def __init__(self, work: Path) -> None:
        self.work = work
        self.told: list[str] = []

    def progress(self, fraction: float | None, text: str = "") -> None:
        self.told.append(text)


def convert(case: Case, models: Path, out: Path, work: Path) -> dict[str, Any]:
    converter, params = KINDS[case.suffix]
    request = ConvertRequest(
        name=case.name, source=models / case.name / f"model{case.suffix}", params=params(**case.params),
        inputs=tuple(TensorSpec(name=name, dtype=dtype, shape=shape) for name, dtype, shape in case.inputs),
        allow_code=case.suffix == ".joblib" if case.allow_code is None else case.allow_code,
    )  # fmt: skip
    context = Context(work)
    result = converter.convert(request, context)
    sample = work / "sample.npz"
    np.savez(sample, **feeds(models / case.name / "sample.npz", result.model))
    tensors = ("margin",) if "boost" in case.name or "lightgbm" in case.name else ()
    request = EvaluateRequest(conversion=request, model=result.model, samples=(sample, sample), tensors=tensors)
    first, second = converter.evaluate(request, context).outputs
    for source, name in ((result.model, ".onnx"), (sample, ".sample.npz"), (first, ".npz"), (second, ".again.npz")):
        (out / f"{case.name}{name}").write_bytes(source.read_bytes())
    return {"notes": result.notes, "tools": dict(result.tools), "progress": context.told}


def feeds(sample: Path, model: Path) -> dict[str, Any]:
    import onnx

    with np.load(sample) as stored:
        arrays = {name: stored[name] for name in stored.files}
    if "*" in arrays:
        name = onnx.load(model).graph.input[0].name
        arrays = {name: arrays["*"]}
    return arrays


def main() -> None:
    # Models of train.py's own class were saved from it as a program.
    sys.modules["__main__"].Word = train.Word  # type: ignore[attr-defined]
    models, out = Path(sys.argv[1]), Path(sys.argv[2])
    for case in CASES:
        with tempfile.TemporaryDirectory() as work:
            try:
                found = convert(case, models, out, Path(work))
            except SdkpackError as error:
                found = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
        (out / f"{case.name}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()

"""Converts and evaluates in one process: `python convert_all.py REQUESTS.json OUT`, by the environment's Python.

A job of its own for each function would spend most of its time importing; test_jax.py has one.
"""

# ruff: noqa: E402  (run by an interpreter without these folders on its path)
from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[2]), str(HERE.parent / "src")]

from sdkpack_jax.convert import JaxConverter
from sdkpack_jax.params import JaxParams

from sdkpack.errors import SdkpackError
from sdkpack.plugin import ConvertRequest, EvaluateRequest
from sdkpack.types import TensorSpec


class Context:
    """A StepContext as far as converters use one."""

    seed = 0
    log = logging.getLogger("convert_all")

    def __init__(self, work: Path) -> None:
        self.work = work

    def progress(self, fraction: float | None, text: str = "") -> None: ...


def convert(case: dict[str, Any], work: Path) -> dict[str, Any]:
    request = ConvertRequest(
        name="net", source=HERE / "nets.py", params=JaxParams(function=f"nets:{case['function']}"), allow_code=True,
        files={name: Path(path) for name, path in case["files"].items()}, opset=case["opset"],
        inputs=(TensorSpec(name="in0", dtype="float32", shape=tuple(case["shape"])),),
    )  # fmt: skip
    context = Context(work)
    result = JaxConverter().convert(request, context)
    samples = tuple(Path(path) for path in case["samples"])
    asked = EvaluateRequest(conversion=request, model=result.model, samples=samples)
    answers = JaxConverter().evaluate(asked, context).outputs
    return {"model": str(result.model), "answers": [str(path) for path in answers]}


def main() -> None:
    out, found = Path(sys.argv[2]), {}
    for case in json.loads(Path(sys.argv[1]).read_text()):
        work = out / case["function"]
        work.mkdir()
        try:
            found[case["function"]] = convert(case, work)
        except SdkpackError as error:
            found[case["function"]] = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
    (out / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()

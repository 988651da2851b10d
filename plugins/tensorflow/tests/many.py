"""Runs many jobs in one process of the plugin's environment, for tests that need no process each: many.py JOBS.json.

A job: id, load, source, params (a class's name and its fields), inputs, opset, allow_code, files, samples, tensors. Its
answer: the error by type, message and problems, or the model, the notes and what an evaluation gave.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
import traceback
from pathlib import Path
from typing import Any

from sdkpack.errors import SdkpackError
from sdkpack.plugin import ConvertRequest, EvaluateRequest
from sdkpack.types import TensorSpec


class Context:
    """A StepContext of a folder."""

    seed = 0
    log = logging.getLogger("many")

    def __init__(self, work: Path) -> None:
        work.mkdir(parents=True)
        self.work = work

    def progress(self, fraction: float | None, text: str = "") -> None: ...


def run(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    module, _, name = job["load"].partition(":")
    tool = getattr(importlib.import_module(module), name)()
    params = None
    if job.get("params"):
        kind, fields = job["params"]
        given = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
        params = getattr(importlib.import_module("sdkpack_tensorflow.params"), kind)(**given)
    request = ConvertRequest(
        name="net",
        source=Path(job["source"]),
        files={key: Path(value) for key, value in job.get("files", {}).items()},
        params=params,
        inputs=tuple(TensorSpec(name=n, dtype=d, shape=tuple(shape)) for n, d, shape in job.get("inputs", [])),
        opset=job.get("opset"),
        allow_code=job.get("allow_code", False),
    )
    result = tool.convert(request, Context(folder / "convert"))
    answer = {"model": str(result.model), "notes": list(result.notes), "tools": dict(result.tools)}
    if job.get("samples"):
        evaluation = EvaluateRequest(
            conversion=request,
            model=result.model,
            samples=tuple(Path(sample) for sample in job["samples"]),
            tensors=inner_tensors(result.model) if job.get("tensors") else (),
        )
        answer["outputs"] = [str(path) for path in tool.evaluate(evaluation, Context(folder / "evaluate")).outputs]
    return answer


def inner_tensors(model: Path) -> tuple[str, ...]:
    import onnx

    return tuple(value.name for value in onnx.shape_inference.infer_shapes(onnx.load(model)).graph.value_info)


def main() -> None:
    file = Path(sys.argv[1])
    answers = {}
    for number, job in enumerate(json.loads(file.read_text())):
        print(job["id"], flush=True)  # the last one, where the process crashes
        try:
            answers[job["id"]] = run(job, file.parent / str(number))
        except SdkpackError as error:
            answers[job["id"]] = {"error": type(error).__name__, **error.as_dict()}
        except Exception as error:
            answers[job["id"]] = {"error": type(error).__name__, "message": traceback.format_exc()}
    (file.parent / "answers.json").write_text(json.dumps(answers))


if __name__ == "__main__":
    main()

"""Real models: split, compiled and opened from memory, they give what onnxruntime gives for the file."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sdkpack_onnxruntime.compile import OnnxRuntimeCompiler
from sdkpack_onnxruntime.library import load_library
from sdkpack_onnxruntime.params import OnnxRuntimeParams
from sdkpack_onnxruntime.run import OnnxRuntimeRunner

from sdkpack.compare import compare
from sdkpack.model.check import check_model, check_split
from sdkpack.model.external import ExternalFolder
from sdkpack.model.facts import describe
from sdkpack.model.join import join_external
from sdkpack.model.load import load_model
from sdkpack.model.sample import make_samples
from sdkpack.model.split import split_model
from sdkpack.model.table import write_table
from sdkpack.plugin import CompileRequest, ModelInput, OpenRequest
from sdkpack.session.blobs import FileBlob

MODELS = Path(os.environ.get("SDKPACK_TEST_MODELS", Path(__file__).parents[2].parent / "shared" / "models"))
PATHS = sorted(MODELS.rglob("*.onnx"))
DIMS = {"batch": 1, "sequence": 512, "input.0": 1, "input.1": 512, "state.1": 1}

pytestmark = pytest.mark.skipif(not PATHS, reason=f"no models in {MODELS}; set SDKPACK_TEST_MODELS")


class _Context:
    """What this compiler uses of a step's surroundings."""

    work = Path()
    seed = 0
    log = logging.getLogger("sdkpack.test")

    def progress(self, fraction: float | None, text: str = "") -> None: ...

    def run(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("no tool is run")


def _split(path: Path, folder: Path) -> ModelInput:
    model = load_model(path)
    with ExternalFolder(model.folder) as files:
        check_model(model, files)
        split = split_model(model, files)
        check_split(split)
        (folder / "weights").write_bytes(split.weights.read_all())
    (folder / "graph").write_bytes(split.graph)
    (folder / "tensors").write_bytes(write_table(split.tensors))
    (folder / "model.onnx").write_bytes(join_external(split.graph, split.tensors, "weights"))
    facts = describe(model)
    return ModelInput(
        name="net", path=folder / "model.onnx", graph=folder / "graph", weights=folder / "weights",
        tensors=folder / "tensors", inputs=facts.inputs, outputs=facts.outputs,
    )  # fmt: skip


@pytest.mark.parametrize("weights", ["packed", "shared"])
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_outputs_equal_those_of_the_file(path: Path, weights: Any, tmp_path: Path) -> None:
    model = _split(path, tmp_path)
    request = CompileRequest(models=(model,), target="cpu", params=OnnxRuntimeParams(weights=weights, threads=1))
    (part,) = OnnxRuntimeCompiler().compile(request, _Context()).models[0].parts
    inputs = make_samples(model.inputs, dims=DIMS)
    if "sr" in inputs:
        inputs["sr"] = np.array(16000, "int64")
    library = load_library()
    settings = library.SessionOptions()
    settings.intra_op_num_threads = 1
    expected = library.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"]).run(None, inputs)
    for encrypted in (True, False):
        files = {file.role: FileBlob(file.path) for file in part.files}
        session = OnnxRuntimeRunner().open(
            OpenRequest(
                files=files, inputs=part.inputs, outputs=part.outputs, options=part.options, encrypted=encrypted
            )
        )
        got = session.run(inputs)
        session.close()
        for spec, want in zip(model.outputs, expected, strict=True):
            # The same kernels in the same order, but for fusions that shared weights do not allow.
            difference = compare(got[spec.name], want)
            assert difference.within(1e-5), (spec.name, difference)

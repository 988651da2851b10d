"""Fixing settings at pack time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from sdkpack_onnxruntime import compile as compile_module
from sdkpack_onnxruntime.compile import OnnxRuntimeCompiler
from sdkpack_onnxruntime.params import OnnxRuntimeParams
from sdkpack_onnxruntime.run import OnnxRuntimeRunner

from plugins.onnxruntime.tests.parts import MemoryBlob, products
from sdkpack.errors import ModelError, StepError
from sdkpack.plugin import Compiler, CompileRequest, OpenRequest, Runner
from sdkpack.types import TensorSpec


@dataclass
class Context:
    """The part of a step's surroundings that this compiler uses."""

    work: Path
    seed: int = 0
    log: Any = None

    def progress(self, fraction: float | None, text: str = "") -> None:
        assert fraction is None or 0 <= fraction <= 1

    def run(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("no tool is run")


def compiled(folder: Path, part: Any, **more: Any) -> Any:
    request = CompileRequest(models=(part.model_input(folder),), target="cpu", **more)
    return OnnxRuntimeCompiler().compile(request, Context(folder)).models[0]


def test_halves_keep_their_contracts() -> None:
    assert isinstance(OnnxRuntimeCompiler(), Compiler)
    assert isinstance(OnnxRuntimeRunner(), Runner)


def test_what_was_compiled_runs(tmp_path: Path) -> None:
    part = products()
    model = compiled(tmp_path, part)
    (made,) = model.parts
    assert {file.role: file.media_type for file in made.files} == {
        "graph": "application/vnd.onnx.graph",
        "weights": "application/vnd.onnx.weights",
        "tensors": "application/vnd.onnx.tensors+json",
    }
    assert OnnxRuntimeRunner().check(model.needs, model.token).verdict == "works"
    files = {file.role: MemoryBlob(file.path.read_bytes()) for file in made.files}
    session = OnnxRuntimeRunner().open(
        OpenRequest(files=files, inputs=made.inputs, outputs=made.outputs, options=made.options, encrypted=True)
    )
    x = np.ones((2, 128), "float32")
    assert np.allclose(session.run({"x": x})["r1"], part.expected(x), rtol=1e-4)
    assert (model.coverage.nodes_total, model.coverage.nodes_on_device) == (4, 4)
    assert model.needs == {"version": ">=1.23", "device": "cpu"}


def test_compiling_changes_no_file(tmp_path: Path) -> None:
    part = products()
    compiled(tmp_path, part)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {
        "graph": part.graph, "weights": part.weights, "tensors": part.tensors,
    }  # fmt: skip


def test_large_weights_are_shared_and_small_ones_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = products()
    assert compiled(tmp_path, part).parts[0].options["weights"] == "packed"
    monkeypatch.setattr(compile_module, "SHARE_FROM_BYTES", 1000)
    assert compiled(tmp_path, part).parts[0].options["weights"] == "shared"
    folding = products(transposed=True)
    assert compiled(tmp_path, folding).parts[0].options["weights"] == "packed"
    wished = compiled(tmp_path, part, params=OnnxRuntimeParams(weights="packed", threads=2))
    assert (wished.parts[0].options["weights"], wished.parts[0].options["threads"]) == ("packed", 2)


def test_a_model_without_large_weights_is_its_graph_alone(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"], "n")], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 8])],
    )  # fmt: skip
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    spec = TensorSpec(name="x", dtype="float32", shape=("N", 8))
    part = replace(
        products(), graph=content, weights=b"", tensors=b'{"tensors":[]}', inputs=(spec,),
        outputs=(replace(spec, name="y"),),
    )  # fmt: skip
    assert [file.role for file in compiled(tmp_path, part).parts[0].files] == ["graph"]


def test_operators_that_onnxruntime_lacks_are_named_together(tmp_path: Path) -> None:
    part = products()
    model = onnx.ModelProto.FromString(part.graph)
    model.graph.node[1].domain = model.graph.node[3].domain = "acme"
    model.graph.node[3].op_type = "Swirl"
    model.opset_import.add(domain="acme", version=1)
    with pytest.raises(ModelError, match=r"no operators acme\.Relu, acme\.Swirl"):
        compiled(tmp_path, replace(part, graph=model.SerializeToString()))


def test_a_model_that_onnxruntime_refuses_is_a_model_error_with_its_reason(tmp_path: Path) -> None:
    part = products()
    model = onnx.ModelProto.FromString(part.graph)
    model.graph.node[1].op_type = "Rellu"
    with pytest.raises(ModelError, match=r"refused the model.*Rellu") as caught:
        compiled(tmp_path, replace(part, graph=model.SerializeToString()))
    assert caught.value.where == "net"


def test_declared_names_must_be_the_models(tmp_path: Path) -> None:
    part = products()
    wrong = replace(part, outputs=(replace(part.outputs[0], name="other"),))
    with pytest.raises(ModelError, match="sees other inputs and outputs"):
        compiled(tmp_path, wrong)


def test_precision_and_shapes_are_not_ours_to_change(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="precision 'int8'"):
        compiled(tmp_path, products(), precision="int8")
    with pytest.raises(ModelError, match="symbolic dimensions"):
        compiled(tmp_path, products(), shapes={"N": 1})


def test_params_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="threads: got -1"):
        OnnxRuntimeParams(threads=-1)
    with pytest.raises(ValueError, match="device: got 'GPU 0'"):
        OnnxRuntimeParams(device="GPU 0")


def test_the_fingerprint_names_the_library() -> None:
    import onnxruntime

    probe = OnnxRuntimeCompiler().probe()
    assert probe.ok
    assert onnxruntime.__version__ in probe.fingerprint

"""A real model in a real bundle: made with onnx, split, compiled by the onnxruntime plugin, packed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sdkpack.documents.manifest import (
    Golden,
    Manifest,
    ModelEntry,
    ModelSource,
    Needs,
    TensorEntry,
    Variant,
    VariantPart,
)
from sdkpack.model.external import ExternalFolder
from sdkpack.model.facts import describe
from sdkpack.model.load import load_model
from sdkpack.model.split import split_model
from sdkpack.model.table import write_table
from sdkpack.plugin import CompileRequest, ModelInput
from tests.unit.session.bundles import npz

CANARY = b"the weights of this model are a secret of its publisher"
WIDTH = 600


def write_model(path: Path, *, hidden: int = 64) -> None:
    """y = relu(x @ W1 + b1) @ W2, with a canary among the bytes of W1."""
    rng = np.random.default_rng(1)
    w1 = (rng.standard_normal((WIDTH, hidden)) / 25).astype(np.float32)
    raw = bytearray(w1.tobytes())
    raw[: len(CANARY)] = CANARY
    arrays = {
        "w1": np.frombuffer(bytes(raw), np.float32).reshape(w1.shape),
        "b1": rng.standard_normal(hidden).astype(np.float32),
        "w2": (rng.standard_normal((hidden, 3)) / 8).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h0"]),
        helper.make_node("Add", ["h0", "b1"], ["h1"]),
        helper.make_node("Relu", ["h1"], ["h2"]),
        helper.make_node("MatMul", ["h2", "w2"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save_model(model, path)


def packed(model_path: Path, work: Path, **params: Any) -> tuple[Manifest, dict[str, bytes]]:
    """Manifest and files of a bundle of that one model, with a recorded run of plain onnxruntime."""
    import onnxruntime
    from sdkpack_onnxruntime.compile import OnnxRuntimeCompiler
    from sdkpack_onnxruntime.params import OnnxRuntimeParams

    loaded = load_model(model_path)
    facts = describe(loaded)
    paths = {role: work / role for role in ("graph", "weights", "tensors")}
    with ExternalFolder(model_path.parent) as folder:
        split = split_model(loaded, folder)
        paths["graph"].write_bytes(split.graph)
        paths["weights"].write_bytes(split.weights.read_all())
        paths["tensors"].write_bytes(write_table(split.tensors))
    made = ModelInput(name="net", path=model_path, inputs=facts.inputs, outputs=facts.outputs, **paths)
    request = CompileRequest(models=(made,), target="cpu", params=OnnxRuntimeParams(**params))
    context: Any = SimpleNamespace(progress=lambda *_: None, work=work)
    (compiled,) = OnnxRuntimeCompiler().compile(request, context).models
    (part,) = compiled.parts
    x = np.random.default_rng(2).standard_normal((2, WIDTH)).astype(np.float32)
    y = onnxruntime.InferenceSession(model_path).run(None, {"x": x})[0]
    files = {f"models/net/{file.role}": file.path.read_bytes() for file in part.files}
    files |= {"goldens/in.npz": npz(x=x), "goldens/out.npz": npz(y=y)}
    variant = Variant(
        target="cpu",
        portable=True,
        needs=Needs(runtime=dict(compiled.needs), token=compiled.token),
        parts=(
            VariantPart(
                runtime=part.runtime,
                files={file.role: f"models/net/{file.role}" for file in part.files},
                inputs=tuple(map(TensorEntry.of, part.inputs)),
                outputs=tuple(map(TensorEntry.of, part.outputs)),
                options=dict(part.options),
            ),
        ),
    )
    entry = ModelEntry(
        inputs=tuple(map(TensorEntry.of, facts.inputs)),
        outputs=tuple(map(TensorEntry.of, facts.outputs)),
        source=ModelSource(reference="net.onnx", digest="sha256:" + "0" * 64, size_bytes=1, format="onnx"),
        variants=(variant,),
        golden=Golden(inputs="goldens/in.npz", outputs="goldens/out.npz", tolerance=1e-5),
    )
    return Manifest(manifest=1, name="net", version="1.0.0", sequence=1, models={"net": entry}), files

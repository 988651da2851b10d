"""Parts of small models, as the core would hand them to the plugin, made without the core's model layer."""

from __future__ import annotations

import json
import mmap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper

from sdkpack.plugin import ModelInput, OpenRequest
from sdkpack.types import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(slots=True)
class MemoryBlob:
    """A file of an encrypted bundle: it exists in memory only, and counts what happens to it."""

    content: bytes
    media_type: str = "application/octet-stream"
    released: int = 0
    _view: memoryview | None = None

    @property
    def size_bytes(self) -> int:
        return len(self.content)

    def memory(self) -> memoryview:
        if self._view is None:
            area = mmap.mmap(-1, max(len(self.content), 1), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            area[: len(self.content)] = self.content
            self._view = memoryview(area)[: len(self.content)]
        return self._view

    def release(self) -> None:
        self._view = None
        self.released += 1

    def file_range(self) -> tuple[Path, int, int] | None:
        return None

    def path(self) -> Path:
        raise AssertionError("nothing needs a path")


@dataclass(slots=True)
class PlainBlob(MemoryBlob):
    """A file of a plain bundle: a stretch of a larger file."""

    place: tuple[Path, int, int] | None = None

    def file_range(self) -> tuple[Path, int, int] | None:
        return self.place

    def memory(self) -> memoryview:
        if self.media_type == "weights":
            raise AssertionError("weights of a plain bundle are not loaded")
        return MemoryBlob.memory(self)


@dataclass(frozen=True, slots=True)
class Part:
    """A model of `layers` matrix products, split the way the packer splits."""

    graph: bytes
    weights: bytes
    tensors: bytes
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    matrices: list[Any] = field(default_factory=list)

    def expected(self, x: Any) -> Any:
        for matrix in self.matrices:
            x = np.maximum(x.astype("f8") @ matrix, 0)
        return x

    def request(self, files: Mapping[str, Any] | None = None, **more: Any) -> OpenRequest:
        blobs = {name: MemoryBlob(getattr(self, name)) for name in ("graph", "weights", "tensors")}
        values = {"files": files or blobs, "inputs": self.inputs, "outputs": self.outputs, "encrypted": files is None}
        return OpenRequest(**{**values, **more})

    def in_bundle(self, path: Path, before: bytes = b"#" * 65536) -> dict[str, Any]:
        """Blobs of a plain bundle file at `path`."""
        path.write_bytes(before + self.weights)
        place = (path, len(before), len(self.weights))
        return {
            "graph": MemoryBlob(self.graph),
            "tensors": MemoryBlob(self.tensors),
            "weights": PlainBlob(self.weights, "weights", place=place),
        }

    def model_input(self, folder: Path, name: str = "net") -> ModelInput:
        for role in ("graph", "weights", "tensors"):
            (folder / role).write_bytes(getattr(self, role))
        return ModelInput(
            name=name, path=folder / "graph", graph=folder / "graph", weights=folder / "weights",
            tensors=folder / "tensors", inputs=self.inputs, outputs=self.outputs,
        )  # fmt: skip


def products(layers: int = 2, size: int = 128, *, transposed: bool = False, seed: int = 0) -> Part:
    """relu(x @ w0), relu(... @ w1), ...; `transposed` makes onnxruntime fold a constant at load."""
    rng = np.random.default_rng(seed)
    nodes, rows, blob, matrices, at = [], [], bytearray(), [], "x"
    for number in range(layers):
        matrix = (rng.standard_normal((size, size)) / np.sqrt(size)).astype("<f4")
        stored = matrix.T.copy() if transposed else matrix
        blob += bytes(-len(blob) % 64)
        rows.append([f"w{number}", "float32", [size, size], len(blob), stored.nbytes])
        blob += stored.tobytes()
        matrices.append(matrix)
        weight = f"w{number}"
        if transposed:
            nodes.append(helper.make_node("Transpose", [weight], [f"t{number}"], f"transpose{number}"))
            weight = f"t{number}"
        nodes.append(helper.make_node("MatMul", [at, weight], [f"h{number}"], f"product{number}"))
        nodes.append(helper.make_node("Relu", [f"h{number}"], [f"r{number}"], f"relu{number}"))
        at = f"r{number}"
    graph = helper.make_graph(
        nodes, "products",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", size])],
        [helper.make_tensor_value_info(at, TensorProto.FLOAT, ["N", size])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return Part(
        graph=model.SerializeToString(deterministic=True),
        weights=bytes(blob),
        tensors=json.dumps({"tensors": rows}).encode(),
        inputs=(TensorSpec(name="x", dtype="float32", shape=("N", size)),),
        outputs=(TensorSpec(name=at, dtype="float32", shape=("N", size)),),
        matrices=matrices,
    )

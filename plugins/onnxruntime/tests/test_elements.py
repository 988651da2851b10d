"""Element types that NumPy lacks, through OrtValues and through a session."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import helper
from sdkpack_onnxruntime.elements import FOREIGN, array_of, element_name, is_foreign, value_of
from sdkpack_onnxruntime.library import load_library
from sdkpack_onnxruntime.run import OnnxRuntimeRunner

from plugins.onnxruntime.tests.parts import MemoryBlob
from sdkpack.errors import InputError
from sdkpack.plugin import OpenRequest
from sdkpack.types import DTYPES, TensorSpec


def every_pattern(name: str, count: int) -> Any:
    """`count` elements that go through all bit patterns of the type."""
    element = FOREIGN[name]
    dtype = np.dtype(getattr(ml_dtypes, element.dtype))
    if element.bits == 16:
        return (np.arange(count, dtype=np.uint16) * 257).view(dtype)
    codes = (np.arange(count) % (1 << element.bits)).astype(np.uint8)
    if name in ("int4", "int2"):
        low, high = -(1 << (element.bits - 1)), 1 << (element.bits - 1)
        return np.resize(np.arange(low, high), count).astype(dtype)
    return codes.view(dtype)


@pytest.mark.parametrize("name", sorted(FOREIGN))
@pytest.mark.parametrize("shape", [(), (1,), (3,), (4,), (5,), (2, 3), (0, 3), (7, 11)], ids=str)
def test_arrays_survive_the_way_there_and_back(name: str, shape: tuple[int, ...]) -> None:
    array = every_pattern(name, int(np.prod(shape))).reshape(shape)
    value = value_of(load_library(), array)
    back = array_of(value, f"tensor({name})")
    assert back.dtype == array.dtype and back.shape == array.shape
    assert back.tobytes() == array.tobytes()


def test_names_are_those_of_sdkpack() -> None:
    assert set(FOREIGN) <= DTYPES
    assert element_name(np.zeros(1, ml_dtypes.float8_e8m0fnu)) == "float8e8m0"
    assert element_name(np.zeros(1, np.float32)) == "float32"
    assert (
        is_foreign("tensor(bfloat16)") and not is_foreign("tensor(float)") and not is_foreign("seq(tensor(bfloat16))")
    )


def test_a_session_takes_and_gives_them() -> None:
    numbers = {"bfloat16": 16, "float8e4m3fn": 17}
    graph = helper.make_graph(
        [helper.make_node("Cast", ["x"], ["y"], "cast", to=numbers["float8e4m3fn"])], "g",
        [helper.make_tensor_value_info("x", numbers["bfloat16"], ["N"])],
        [helper.make_tensor_value_info("y", numbers["float8e4m3fn"], ["N"])],
    )  # fmt: skip
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10).SerializeToString()
    x = TensorSpec(name="x", dtype="bfloat16", shape=("N",))
    y = TensorSpec(name="y", dtype="float8e4m3fn", shape=("N",))
    session = OnnxRuntimeRunner().open(
        OpenRequest(files={"graph": MemoryBlob(content)}, inputs=(x,), outputs=(y,), encrypted=True)
    )
    given = np.array([0.5, -1.5, 300.0], ml_dtypes.bfloat16)
    assert session.run({"x": given})["y"].astype(np.float32).tolist() == [0.5, -1.5, 288.0]
    with pytest.raises(InputError, match="wrong element type, got float32"):
        session.run({"x": given.astype(np.float32)})

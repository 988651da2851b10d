from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sdkpack.errors import InputError, PluginBrokenError, Problem
from sdkpack.session.tensors import check_inputs, check_outputs, dtype_name
from sdkpack.types import TensorSpec

X = TensorSpec(name="x", dtype="float32", shape=("N", 3, "?"))
Y = TensorSpec(name="mask", dtype="int64", shape=("N",))


def problems(specs: tuple[TensorSpec, ...], values: dict[str, Any]) -> tuple[Problem, ...]:
    with pytest.raises(InputError) as caught:
        check_inputs(specs, values, what="model 'net'")
    return caught.value.problems


def f32(*shape: int) -> np.ndarray[Any, Any]:
    return np.zeros(shape, np.float32)


def test_right_arrays_pass_as_they_are() -> None:
    x, y = f32(2, 3, 9), np.zeros(2, np.int64)
    checked = check_inputs((X, Y), {"mask": y, "x": x}, what="model 'net'")
    assert checked["x"] is x and list(checked) == ["x", "mask"]


def test_all_findings_at_once_with_got_and_expected() -> None:
    found = problems((X, Y), {"x": f32(2, 4, 9), "masc": np.zeros(2)})
    assert [str(problem) for problem in found] == [
        "mask: missing, expected tensor(int64, [N])",
        "masc: unknown input, expected one of x, mask (did you mean 'mask'?)",
        "x: wrong size along axis 1, 4 instead of 3, expected tensor(float32, [N, 3, ?]), got [2, 4, 9]",
    ]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[1.0]], "not an array"),
        (None, "not an array"),
        ("text", "not an array"),
        (np.zeros((2, 3, 9)), "wrong element type"),
        (np.zeros((2, 3, 9), np.float16), "wrong element type"),
        (f32(2, 3), "wrong number of dimensions, 2 instead of 3"),
        (f32(3), "wrong number of dimensions, 1 instead of 3"),
    ],
)
def test_wrong_values_are_refused(value: Any, message: str) -> None:
    (problem,) = problems((X,), {"x": value})
    assert problem.message == message and problem.path == "x" and problem.expected


def test_a_symbol_is_one_size_in_all_inputs() -> None:
    (problem,) = problems((X, Y), {"x": f32(2, 3, 9), "mask": np.zeros(5, np.int64)})
    assert problem.message == "N is 5 along axis 0, but 2 in 'x'"


def test_a_symbol_twice_in_one_shape_and_any_is_free() -> None:
    square = TensorSpec(name="x", dtype="float32", shape=("N", "N"))
    free = TensorSpec(name="x", dtype="float32", shape=("?", "?"))
    assert problems((square,), {"x": f32(2, 3)})
    assert check_inputs((free,), {"x": f32(2, 3)}, what="m")


def test_strided_foreign_and_scalar_arrays_are_made_usable() -> None:
    plain, scalar = TensorSpec(name="x", dtype="float32", shape=(2, 3)), TensorSpec(name="s", dtype="int64", shape=())
    turned = np.arange(6, dtype=np.float32).reshape(3, 2).T
    swapped = turned.astype(">f4")
    for array in (turned, swapped):
        made = check_inputs((plain, scalar), {"x": array, "s": np.int64(7)}, what="m")
        assert made["x"].flags.c_contiguous and made["x"].dtype.isnative and made["s"].shape == ()
        np.testing.assert_array_equal(made["x"], turned)


def test_strings_of_any_kind_and_nothing_else_as_objects() -> None:
    spec = TensorSpec(name="t", dtype="string", shape=(2,))
    for array in (np.array(["a", "b"]), np.array(["a", "b"], object)):
        assert dtype_name(array) == "string" and check_inputs((spec,), {"t": array}, what="m")
    assert problems((spec,), {"t": np.array(["a", 1], object)})[0].message == "an item is not a str"


@pytest.mark.parametrize(
    "values",
    [{}, {"x": f32(1, 3)}, {"x": np.zeros((1, 3, 1))}, {"x": f32(1, 4, 1)}],
    ids=["none", "rank", "type", "size"],
)
def test_a_runner_that_breaks_its_contract_is_named(values: dict[str, Any]) -> None:
    with pytest.raises(PluginBrokenError, match="model 'net' on fake gave outputs"):
        check_outputs((X,), values, what="model 'net' on fake")


def test_outputs_come_in_the_order_of_the_specs_and_symbols_are_free() -> None:
    given = {"mask": np.zeros(7, np.int64), "x": f32(2, 3, 9), "more": f32(1)}
    assert list(check_outputs((X, Y), given, what="m")) == ["x", "mask"]

"""Inputs made from specs."""

from __future__ import annotations

import numpy as np
import pytest

from sdkpack.errors import ModelError
from sdkpack.model.sample import make_samples, sample_shape
from sdkpack.types import TensorSpec

FLOATS = [-0.023195862770080566, 0.20797216892242432, -0.8563699722290039, 0.9736309051513672]
BYTES = [21, 226, 99, 127]
WORDS = [5, 5, 3, 3]


def spec(dtype: str = "float32", shape: tuple[int | str, ...] = ("N", 3, "H", "?"), name: str = "x") -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


def test_the_numbers_are_known_and_stay_so() -> None:
    """Golden outputs in bundles hang on these: a change here is a change of format."""
    made = make_samples([spec(shape=(4,)), spec("uint8", (4,), "u"), spec("int64", (4,), "i")])
    assert made["x"].tolist() == FLOATS
    assert made["u"].tolist() == BYTES
    assert made["i"].tolist() == WORDS


def test_shapes_come_from_symbols_places_and_defaults() -> None:
    dims = {"H": 48, "x.3": 320}
    assert sample_shape(spec(), dims) == (1, 3, 48, 320)
    assert sample_shape(spec(), {}) == (1, 3, 16, 16)
    assert sample_shape(spec(), {"N": 2}, other_dim=5) == (2, 3, 5, 5)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int8", "int32", "uint64", "bool"])
def test_values_suit_the_element_type(dtype: str) -> None:
    array = make_samples([spec(dtype, (3, 1000))])["x"]
    assert array.shape == (3, 1000)
    assert array.dtype == dtype
    if array.dtype.kind == "f":
        assert np.abs(array).max() <= 1
        assert abs(float(array.astype("f8").mean())) < 0.05
    assert len(np.unique(array)) > 1


def test_seed_and_name_change_the_numbers() -> None:
    one, two = spec(shape=(8,)), spec(shape=(8,), name="y")
    made = make_samples([one, two])
    assert not np.array_equal(made["x"], made["y"])
    assert not np.array_equal(made["x"], make_samples([one], seed=1)["x"])
    assert np.array_equal(made["x"], make_samples([one])["x"])


def test_strings_are_made_and_odd_types_refused() -> None:
    assert make_samples([spec("string", (2,))])["x"].tolist() == ["sample", "sample"]
    with pytest.raises(ModelError, match="no sample can be made"):
        make_samples([spec("complex64", (2,))])
    with pytest.raises(ModelError, match="elements, expected at most"):
        make_samples([spec(shape=(1 << 20, 1 << 20))])

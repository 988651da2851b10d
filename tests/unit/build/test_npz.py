from __future__ import annotations

import io
import time
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdkpack.build.npz import read_npz, write_npz
from sdkpack.errors import ModelError
from sdkpack.session.npz import read_npz as strict_read

DTYPES = ("float16", "float32", "float64", "int8", "uint8", "int64", "uint64", "bool", "complex64")


@given(
    st.dictionaries(
        st.text(
            st.characters(codec="ascii", categories=("L", "N"), include_characters="/:._"), min_size=1, max_size=20
        ),
        st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 4), max_size=4)),
        max_size=4,
    )
)
def test_arrays_come_back_through_both_readers(shapes: dict[str, tuple[str, list[int]]]) -> None:
    arrays = {name: np.ones(shape, dtype) for name, (dtype, shape) in shapes.items()}
    data = write_npz(arrays)
    for back in (read_npz(data), strict_read(data, where="test")):
        assert set(back) == set(arrays)
        for name, array in arrays.items():
            assert back[name].dtype == array.dtype
            assert back[name].shape == array.shape
            np.testing.assert_array_equal(back[name], array)


def test_the_bytes_depend_on_the_arrays_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = {"b": np.arange(6.0).reshape(2, 3), "a": np.arange(3)}
    first = write_npz(arrays)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    again = write_npz({"a": np.arange(3), "b": np.asfortranarray(np.arange(6.0).reshape(2, 3))})
    assert again == first
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        assert [member.filename for member in archive.infolist()] == ["a.npy", "b.npy"]
        assert {member.date_time[0] for member in archive.infolist()} == {1980}


def test_strings_are_kept_and_other_objects_refused() -> None:
    back = read_npz(write_npz({"s": np.array(["ä", "longer"], dtype=object)}))["s"]
    assert back.tolist() == ["ä", "longer"]
    with pytest.raises(ModelError, match="other than strings"):
        write_npz({"s": np.array([{"a": 1}], dtype=object)})


def test_a_scalar_keeps_its_shape() -> None:
    assert read_npz(write_npz({"x": np.array(3.0)}))["x"].shape == ()

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sdkpack.cli.console import json_text, size_text, table

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_json_text_is_json(value: Any) -> None:
    assert json.loads(json_text(value)) == value


def test_json_text_keeps_lists_of_numbers_on_one_line() -> None:
    text = json_text({"faces": [{"box": [[1.5, 2.0], [3.0, 4.0]], "score": 0.5}]})
    assert text == '{\n  "faces": [\n    {\n      "box": [[1.5, 2.0], [3.0, 4.0]],\n      "score": 0.5\n    }\n  ]\n}'


def test_size_text() -> None:
    sizes = {0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 3 << 20: "3.0 MiB", 5 << 40: "5120.0 GiB"}
    assert {size: size_text(size) for size in sizes} == sizes


def test_table_is_as_wide_as_its_cells() -> None:
    assert table([("a", "bb"), ("ccc", "d")], indent="  ") == "  a    bb\n  ccc  d"
    assert table([]) == ""

"""The README says what the layers say."""

from __future__ import annotations

from pathlib import Path

from sdkpack_caffe.layers import rules
from sdkpack_caffe.table import with_table
from sdkpack_caffe.writer.operators import node_rules

README = Path(__file__).parents[1] / "README.md"


def test_the_tables_are_up_to_date() -> None:
    page = README.read_text()
    assert page == with_table(page), "run: python -m sdkpack_caffe.table plugins/caffe/README.md"


def test_every_layer_is_defined() -> None:
    assert all(rule.__doc__ for rule in rules().values())


def test_every_operator_is_defined() -> None:
    assert all(rule.__doc__ for rule in node_rules().values())

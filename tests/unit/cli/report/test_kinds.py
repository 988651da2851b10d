"""Kinds of operators, and colours that can be told apart and read."""

from __future__ import annotations

from itertools import combinations

import onnx
import pytest

from sdkpack.cli.report.kinds import KINDS, OPERATORS, OTHER, TERMINAL, TEXT_COLOUR, kind_of


def _luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("kind", [*KINDS, TERMINAL], ids=lambda kind: kind.name)
def test_labels_can_be_read_on_every_colour(kind) -> None:  # type: ignore[no-untyped-def]
    assert (_luminance(kind.colour) + 0.05) / (_luminance(TEXT_COLOUR) + 0.05) >= 7


def test_no_two_kinds_have_a_colour_or_a_name_in_common() -> None:
    for one, other in combinations((*KINDS, TERMINAL), 2):
        assert one.name != other.name
        far = sum(abs(int(one.colour[at : at + 2], 16) - int(other.colour[at : at + 2], 16)) for at in (1, 3, 5))
        assert far >= 40, (one.name, other.name)


def test_every_operator_in_the_table_is_one_of_onnx_and_stands_once() -> None:
    named = [name for names in OPERATORS.values() for name in names.split()]
    assert len(named) == len(set(named))
    defined = {schema.name for schema in onnx.defs.get_all_schemas_with_history()}
    assert set(named) <= defined


@pytest.mark.parametrize(
    ("operator", "domain", "kind"),
    [
        ("Conv", "", "conv"), ("MatMul", "", "matrix"), ("LayerNormalization", "", "norm"), ("Gelu", "", "act"),
        ("Where", "", "arith"), ("ReduceMean", "", "pool"), ("Reshape", "", "shape"), ("Loop", "", "flow"),
        ("QLinearConv", "", "quant"), ("StringSplit", "", "other"), ("FusedConv", "com.microsoft", "conv"),
        ("SkipLayerNormalization", "com.microsoft", "norm"), ("MultiHeadAttention", "com.microsoft", "matrix"),
        ("QLinearAdd", "com.microsoft", "quant"), ("BiasGelu", "com.microsoft", "act"), ("Convolver3", "", "other"),
        ("Gelu", "com.microsoft", "act"), ("Thing", "com.acme", "other"),
    ],
)  # fmt: skip
def test_kinds(operator: str, domain: str, kind: str) -> None:
    assert kind_of(operator, domain).name == kind


def test_what_is_common_has_a_kind() -> None:
    """Operators without one are those of strings, sequences, classical models and random numbers."""
    rest = {
        schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == "" and kind_of(schema.name) is OTHER
    }
    words = ("Sequence", "String", "Random", "Optional", "Window", "Loss", "Regex", "Image", "Mel", "Multinomial",
             "Bernoulli", "TfIdf")  # fmt: skip
    assert {name for name in rest if not any(word in name for word in words)} == set()

"""Parameters: JSON in, the plugin's dataclass out, every problem told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from sdkpack.errors import DocumentError, PluginBrokenError
from sdkpack.host.params import ParamSchema
from sdkpack.plugin import AssetMarker, FileBytes, Lines, OperatorInfo


@dataclass(frozen=True)
class Border:
    size_px: int
    value: float = 0.0

    def __post_init__(self) -> None:
        if self.size_px < 0:
            raise ValueError("size_px is below 0")


@dataclass(frozen=True, kw_only=True)
class Params:
    width_px: int
    mean: float | tuple[float, ...] = 0.5
    mode: Literal["linear", "cubic"] = "linear"
    border: Border | None = None
    size: tuple[int, int] = (1, 1)
    names: dict[str, int] = field(default_factory=dict)
    flag: bool = False
    labels: Lines = ()
    raw: FileBytes = b""
    derived: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        if self.width_px == 7:
            raise ValueError("width_px 7 is odd, expected an even one")


def schema(params: type[Any] | None = Params) -> ParamSchema:
    return ParamSchema(OperatorInfo(name="acme.op", summary="", load="acme:Op", params=params))


def problems(values: dict[str, Any]) -> list[str]:
    return [str(problem) for problem in schema().problems(values, path="steps[0].with")]


def test_json_values_become_the_dataclass() -> None:
    made = schema().instance(
        {
            "width_px": 4,
            "mean": [1, 2.5],
            "mode": "cubic",
            "border": {"size_px": 2},
            "size": [3, 4],
            "labels": ["a", "b"],
        }
    )
    assert made == Params(width_px=4, mean=(1.0, 2.5), mode="cubic", border=Border(2), size=(3, 4), labels=("a", "b"))
    assert isinstance(made.mean, tuple)
    assert isinstance(made.mean[0], float)


def test_content_of_assets_is_taken_as_it_is() -> None:
    made = schema().instance({"width_px": 1, "labels": ("x", "y"), "raw": b"\xff\x00"})
    assert (made.labels, made.raw) == (("x", "y"), b"\xff\x00")
    assert schema().assets == {
        "labels": AssetMarker(content="lines"),
        "raw": AssetMarker(content="bytes", media_type="application/octet-stream"),
    }


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "width_px: missing"),
        ({"width_px": "1"}, "width_px: wrong type, expected a whole number, got '1'"),
        ({"width_px": True}, "width_px: wrong type, expected a whole number, got True"),
        ({"width_px": 1.0}, "width_px: wrong type, expected a whole number, got 1.0"),
        ({"width_px": None}, "width_px: null stands for nothing here (leave the key out)"),
        ({"width_px": 2**70}, "width_px: number does not fit into 64 bits"),
        ({"width_px": 1, "flag": 1}, "flag: wrong type, expected true or false, got 1"),
        ({"width_px": 1, "mean": "0.5"}, "mean: wrong type, expected a number or a list, got '0.5'"),
        ({"width_px": 1, "mean": [1, "a"]}, "mean[1]: wrong type, expected a number, got 'a'"),
        ({"width_px": 1, "mean": float("inf")}, "mean: inf is not a number"),
        ({"width_px": 1, "size": [1]}, "size[1]: missing"),
        ({"width_px": 1, "mode": "cubik"}, "mode: not allowed, expected 'linear' or 'cubic', got 'cubik' (did you mean 'cubic'?)"),
        ({"width_px": 1, "border": {"size_px": -1}}, "border: size_px is below 0"),
        ({"width_px": 1, "border": {"size_px": 1, "valu": 2}}, "border.valu: unknown key, expected one of size_px, value (did you mean 'value'?)"),
        ({"width_px": 1, "derived": 3}, "derived: unknown parameter"),
        ({"width_px": 1, "names": {"a": "b"}}, "names.a: wrong type, expected a whole number, got 'b'"),
        ({"width_px": 1, "raw": 3}, "raw: wrong type, expected bytes, got 3"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_with_its_path(values: dict[str, Any], told: str) -> None:
    found = problems(values)
    assert len(found) == 1
    assert found[0].startswith(f"steps[0].with.{told}")


def test_post_init_speaks_for_itself() -> None:
    assert problems({"width_px": 7}) == ["steps[0].with: width_px 7 is odd, expected an even one"]


def test_all_problems_together() -> None:
    found = problems({"widht_px": 4, "mode": "x", "border": {"size_px": "1"}})
    assert [line.split(": ")[0].removeprefix("steps[0].with.") for line in found] == [
        "border.size_px", "mode", "widht_px", "width_px",
    ]  # fmt: skip
    assert "did you mean 'width_px'?" in found[2]


def test_a_plugin_without_params_takes_none() -> None:
    assert schema(None).instance({}) is None
    assert schema(None).dump(None) == {}
    with pytest.raises(DocumentError, match="takes no parameters"):
        schema(None).instance({"a": 1})


@pytest.mark.parametrize(
    "values",
    [{"width_px": 4}, {"width_px": 4, "mean": [1.5], "border": {"size_px": 1}, "names": {"a": 1}, "labels": ["é", ""]}],
)
def test_dump_writes_every_default_and_reads_back(values: dict[str, Any]) -> None:
    made = schema().instance(values)
    dumped = schema().dump(made)
    assert schema().instance(dumped) == made
    assert schema().dump(schema().instance(dumped)) == dumped
    assert dumped.keys() >= {"width_px", "mean", "mode", "size", "flag", "labels"}
    assert "derived" not in dumped
    assert None not in dumped.values()


def test_schema_for_people_and_editors() -> None:
    described = schema(Border).json_schema()
    assert described["required"] == ["size_px"]
    assert described["additionalProperties"] is False
    assert schema(None).json_schema()["properties"] == {}


def test_annotations_that_cannot_be_read_are_the_plugins_fault() -> None:
    @dataclass(frozen=True)
    class Odd:
        a: NoSuchName  # type: ignore[name-defined]  # noqa: F821

    @dataclass(frozen=True)
    class Unknown:
        a: object = field(default_factory=object)
        b: type[ParamSchema].mro = 1  # type: ignore[valid-type]

    with pytest.raises(PluginBrokenError, match=r"params of 'acme.op' cannot be read: NameError"):
        schema(Odd).instance({"a": 1})
    with pytest.raises(PluginBrokenError, match="cannot be read"):
        schema(Unknown).instance({"b": 1})

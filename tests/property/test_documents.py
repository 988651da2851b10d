"""Every document that can be written reads back as itself, byte for byte; whatever else is read is refused in words."""

from __future__ import annotations

import dataclasses
import json
import math
import types
from datetime import date
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgpack
import pytest
from annotated_types import Ge, Gt, Le, MaxLen, MinLen
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, JsonValue
from pydantic.fields import FieldInfo

from sdkpack.documents.base import Part
from sdkpack.documents.schemas import DOCUMENTS
from sdkpack.errors import DocumentError, FormatVersionError
from sdkpack.types import DTYPES

LETTERS = st.characters(codec="utf-8")
TEXT = st.text(LETTERS, max_size=8)
FLOATS = st.floats(allow_nan=False, allow_infinity=False).map(lambda value: value + 0.0)
JSON = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**64 - 1) | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)


def strategy(annotation: Any, metadata: tuple[Any, ...] = ()) -> st.SearchStrategy[Any]:
    """JSON values that an annotation lets through, built from the annotation itself."""
    if annotation is JsonValue:
        return JSON
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return strategy(args[0], (*metadata, *args[1:]))
    if origin in (Union, types.UnionType):
        return st.one_of([strategy(arg, metadata) for arg in args if arg is not type(None)])
    if origin is Literal:
        return st.sampled_from(args)
    low, high, shortest, longest, pattern = _bounds(metadata)
    if origin is tuple:
        return _lists(args, shortest)
    if origin is dict:
        return st.dictionaries(strategy(args[0]), strategy(args[1]), min_size=shortest, max_size=shortest + 1)
    if annotation is str:
        return st.from_regex(pattern, fullmatch=True).filter(lambda text: len(text) <= longest) if pattern else TEXT
    if annotation is int:
        return st.integers(-(2**63) if low is None else low, 2**63 if high is None else high)
    if annotation is float:
        return st.floats(min_value=low, max_value=high, allow_nan=False, allow_infinity=False).map(lambda v: v + 0.0)
    if annotation is bool:
        return st.booleans()
    if annotation is date:
        return st.dates().map(date.isoformat)
    assert issubclass(annotation, BaseModel), annotation
    return objects(annotation)


def _lists(args: tuple[Any, ...], shortest: int) -> st.SearchStrategy[Any]:
    if Ellipsis not in args:
        return st.tuples(*map(strategy, args)).map(list)
    return st.lists(strategy(args[0]), min_size=shortest, max_size=shortest + 1)


def _bounds(metadata: tuple[Any, ...]) -> tuple[Any, Any, int, int, str]:
    low, high, shortest, longest, pattern = None, None, 0, 64, ""
    flat = [part for each in metadata for part in (each.metadata if isinstance(each, FieldInfo) else [each])]
    for part in flat:
        low = part.ge if isinstance(part, Ge) else low
        if isinstance(part, Gt):
            low = math.nextafter(float(part.gt), math.inf)
        high = part.le if isinstance(part, Le) else high
        shortest = part.min_length if isinstance(part, MinLen) else shortest
        longest = part.max_length if isinstance(part, MaxLen) else longest
        pattern = getattr(part, "pattern", None) or pattern
    return low, high, shortest, longest, pattern


def objects(model: type[BaseModel]) -> st.SearchStrategy[dict[str, Any]]:
    """Values of every field, `x-` keys now and then, and what ties fields together set right."""
    required: dict[str, Any] = {}
    optional: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        (required if field.is_required() else optional)[field.alias or name] = _field(name, field)
    extensions = st.dictionaries(st.just("x-note"), JSON, max_size=1)
    made = st.fixed_dictionaries(required, optional=optional)
    return st.builds(lambda value, extra: mended(model.__name__, value | extra), made, extensions)


def _field(name: str, field: FieldInfo) -> st.SearchStrategy[Any]:
    return st.sampled_from(sorted(DTYPES)) if name == "dtype" else strategy(field.annotation, tuple(field.metadata))


def mended(name: str, value: dict[str, Any]) -> dict[str, Any]:  # noqa: C901 -- one case a document
    """What no single field says: the rules between fields, which have tests of their own."""
    match name:
        case "StepSection" | "Step":
            value.pop("model" if "op" in value else "op", None)
            if "op" not in value:
                value.setdefault("model", "net")
            if "when" not in value:
                value.pop("otherwise", None)
        case "CutSection":
            value["outputs"] = [*value.get("outputs", ()), "y"]
        case "InputSection":
            if "range" in value:
                value["range"] = [-1.5, 2.0]
        case "ParamSpec":
            for key in ("min", "max", "choices"):
                value.pop(key, None)
        case "QuantizationEntry":
            value.update(scale=[0.5], zero_point=[3])
        case "TensorEntry":
            value["shape"] = [abs(size) if isinstance(size, int) else size for size in value["shape"]]
        case "TrustedKey":
            value.pop("not_after", None)
        case "Trust":
            value["threshold"] = 1
            value["keys"] = [key | {"key": f"{number}.pub"} for number, key in enumerate(value["keys"])]
        case "ModelEntry":
            value["variants"] = [variant | {"target": f"t{number}"} for number, variant in enumerate(value["variants"])]
        case "PipelineSection":
            value.pop("samples", None)
            value["inputs"] = {f"i{number}": kind for number, kind in enumerate(value["inputs"].values())}
        case "Pipeline":
            value["inputs"] = {f"i{number}": kind for number, kind in enumerate(value["inputs"].values())}
            value["steps"] = [step | {"id": f"s{number}"} for number, step in enumerate(value["steps"])]
        case "Recipe":
            for model in value["models"].values():
                model.pop("targets", None)
            value.pop("pipelines", None)
        case "Manifest":
            value["pipelines"] = {f"p{n}": each for n, each in enumerate(value.get("pipelines", {}).values())}
            value["models"] = {f"m{n}": each for n, each in enumerate(value["models"].values())}
            value.pop("goldens", None)
            for pipeline in value["pipelines"].values():
                for step in pipeline["steps"]:
                    if "model" in step:
                        step.pop("model")
                        step["op"] = "image.resize/1"
    return value


# Shrinking a manifest takes minutes; the finding itself says where it is.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
SLOW = settings(max_examples=12, phases=PHASES, deadline=None, suppress_health_check=list(HealthCheck))


def exactly(value: Any) -> Any:
    """A form in which 1, 1.0 and True differ."""
    if isinstance(value, dict):
        return {key: exactly(item) for key, item in value.items()}
    if isinstance(value, list):
        return [exactly(item) for item in value]
    return (type(value).__name__, value)


@pytest.mark.parametrize("model", DOCUMENTS, ids=lambda model: model.word())
def test_what_is_written_reads_back_as_itself(model: type[Part]) -> None:
    @SLOW
    @given(objects(model))
    def check(value: dict[str, Any]) -> None:
        made = model.from_object(value)
        written = made.to_object()
        again = model.from_object(written)
        assert again == made
        assert exactly(again.to_object()) == exactly(written)
        assert exactly(model.from_object(json.loads(made.to_json())).to_object()) == exactly(written)
        packed = msgpack.unpackb(msgpack.packb(written, use_bin_type=True), raw=False)
        assert exactly(model.from_object(packed).to_object()) == exactly(written)

    check()


@pytest.mark.parametrize("model", DOCUMENTS, ids=lambda model: model.word())
def test_nothing_that_was_written_is_lost(model: type[Part]) -> None:
    @SLOW
    @given(objects(model))
    def check(value: dict[str, Any]) -> None:
        _covers(model.from_object(value).to_object(), value)

    check()


def _covers(written: Any, value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _covers(written[key], item)
    elif isinstance(value, list):
        assert len(written) == len(value)
        for left, right in zip(written, value, strict=True):
            _covers(left, right)
    else:
        assert written == value


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.binary(max_size=3) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("model", DOCUMENTS, ids=lambda model: model.word())
def test_one_value_replaced_by_anything_is_read_or_refused_in_words(model: type[Part]) -> None:
    @SLOW
    @given(objects(model), st.data())
    def check(value: dict[str, Any], data: st.DataObject) -> None:
        here: Any = value
        while True:
            keys = list(here) if isinstance(here, dict) else list(range(len(here)))
            key = data.draw(st.sampled_from(keys))
            if not (isinstance(here[key], dict | list) and here[key] and data.draw(st.booleans())):
                break
            here = here[key]
        here[key] = data.draw(ANYTHING)
        try:
            made = model.from_object(value)
        except (DocumentError, FormatVersionError) as error:
            for problem in error.problems:
                assert problem.message
                assert dataclasses.astuple(problem)
                assert not any(label in problem.path for label in ("function-", "constrained-", "tuple[", "dict["))
            return
        assert model.from_object(made.to_object()) == made

    check()

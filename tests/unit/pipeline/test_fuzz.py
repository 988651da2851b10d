"""Whatever stands in a recipe or manifest: a pipeline that runs, or a typed error, never another exception."""

from __future__ import annotations

import contextlib
import copy
import functools
import operator
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sdkpack.documents.pipeline import Pipeline
from sdkpack.documents.recipe import PipelineSection
from sdkpack.errors import DocumentError, PluginBrokenError, SdkpackError
from sdkpack.host.registry import Registry
from sdkpack.pipeline import ModelSignature, check, normalize
from sdkpack.types import TensorSpec

MODELS = {
    "net": ModelSignature(
        inputs=(TensorSpec(name="x", dtype="float32", shape=("N", 1, "H", "W")),),
        outputs=(TensorSpec(name="y", dtype="float32", shape=("N", 1)),),
    )
}
KINDS = [
    "any", "int", "float", "bool", "bytes", "list(any)", "list(bool)", "tensor(float32)", "tensor(float32, [N])",
    "list(tensor(float32, [1, 1, 2, W]))", "tensor(float32, [1, 1, 2, 3])",
]  # fmt: skip
OPERATORS = ["t.read", "t.scale", "t.scale/1", "t.strips", "t.sum", "t.label", "t.crash", "t.liar", "t.short", "t.none"]

names = st.sampled_from(["a", "b", "c", "x", "y", "_", "$f"])
one_or_more = names | st.lists(names, max_size=3)
params = st.dictionaries(
    st.sampled_from(["factor", "low", "height", "labels", "prefix"]),
    st.sampled_from([1, 2.5, -1, "$f", "$g", "labels.txt", ["$x"], {"asset": "a"}, True, {}]),
    max_size=2,
)
batches = st.fixed_dictionaries(
    {"max": st.integers(1, 3)},
    optional={
        "sort_by": st.sampled_from(["none", "aspect"]),
        "pad": st.sampled_from(["none", "right"]),
        "min_width_px": st.integers(0, 4),
        "multiple_of": st.integers(1, 3),
    },
)
steps = st.fixed_dictionaries(
    {},
    optional={
        "in": one_or_more | st.dictionaries(st.sampled_from(["x", "bias", "blob", "index"]), names, max_size=2),
        "as": st.sampled_from("abcy_") | st.lists(st.sampled_from("abcy_"), max_size=3),
        "with": params,
        "each": one_or_more,
        "batch": batches,
        "when": names,
    },
).flatmap(lambda step: st.sampled_from([{**step, "op": op} for op in OPERATORS] + [{**step, "model": "net"}]))
# Steps that often fit behind each other, so that many pipelines get as far as running.
plain = st.sampled_from(
    [
        {"op": "t.strips", "as": ["s", "_"]}, {"op": "t.strips", "as": ["s", "e"]},
        {"op": "t.scale"}, {"op": "t.scale", "each": "x"}, {"op": "t.scale", "each": "x", "when": "e"},
        {"op": "t.scale", "each": "x", "with": {"factor": "$f"}}, {"op": "t.sum"}, {"op": "t.sum", "each": "x"},
        {"model": "net"}, {"model": "net", "each": "x"}, {"model": "net", "each": "x", "batch": {"max": 2}},
        {"model": "net", "each": "x", "batch": {"max": 2, "pad": "right", "sort_by": "aspect"}},
    ]
)  # fmt: skip
sections = st.fixed_dictionaries(
    {
        "inputs": st.dictionaries(st.just("a"), st.sampled_from(KINDS), min_size=1)
        | st.dictionaries(st.sampled_from("abx"), st.sampled_from(KINDS), min_size=1, max_size=2),
        "steps": st.lists(plain, min_size=1, max_size=3) | st.lists(plain | steps, min_size=1, max_size=3),
    },
    optional={
        "outputs": st.none() | one_or_more,
        "params": st.just({"f": {"default": 2.0, "min": 1.0, "max": 3.0}}) | st.just({}),
    },
)
values = st.sampled_from(
    [
        None, 0, 2.5, True, b"\1\2", [], [True, False], [1, "x"], np.zeros(3, np.float32), np.array([2, 3], np.float32),
        [np.ones((1, 1, 2, n), np.float32) for n in (3, 1)], np.ones((1, 1, 2, 3), np.float32), np.array(object()),
    ]
)  # fmt: skip


FITTING: dict[str, list[Any]] = {
    "int": [1], "float": [1.5], "bool": [True], "bytes": [b"\1\2"], "list(bool)": [[True, False], []],
    "tensor(float32)": [np.ones((2, 3), np.float32)], "tensor(float32, [N])": [np.array([2, 3], np.float32)],
    "list(tensor(float32, [1, 1, 2, W]))": [[np.ones((1, 1, 2, n), np.float32) for n in (3, 1)], []],
    "tensor(float32, [1, 1, 2, 3])": [np.ones((1, 1, 2, 3), np.float32)],
    "any": [np.array([2, 3], np.float32), [np.ones((1, 1, 2, 3), np.float32)], 3],
}  # fmt: skip


def net(inputs: Any) -> dict[str, Any]:
    return {"y": inputs["x"].sum(axis=(1, 2, 3))[:, None]}


def run_or_refuse(pipeline: Pipeline, registry: Registry, data: st.DataObject) -> None:
    checked = check("p", pipeline, registry=registry, models=MODELS, assets=lambda path: b"cat\ndog\n")
    fitting = {name: st.sampled_from(FITTING.get(kind, [1])) for name, kind in pipeline.inputs.items()}
    inputs = {name: data.draw(good | good | values) for name, good in fitting.items()}
    result = checked.run(inputs, models={"net": net})
    assert set(result) == set(pipeline.outputs)


@settings(max_examples=400, deadline=None)
@given(sections, st.data())
def test_a_recipe_runs_or_is_refused(registry: Registry, section: dict[str, Any], data: st.DataObject) -> None:
    with contextlib.suppress(DocumentError, PluginBrokenError):
        pipeline = normalize(
            "p", PipelineSection.model_validate(section), registry=registry, models=MODELS,
            assets=lambda reference, marker: reference, read=lambda path: b"cat\ndog\n",
        )  # fmt: skip
        # What normalize lets through, check accepts.
        check("p", pipeline, registry=registry, models=MODELS, assets=lambda path: b"cat\ndog\n")
        with contextlib.suppress(SdkpackError):
            run_or_refuse(pipeline, registry, data)


FORM: dict[str, Any] = {
    "inputs": {"a": "tensor(float32, [N])"},
    "params": {"f": {"default": 2.0, "min": 1.0, "max": 3.0}},
    "steps": [
        {"id": "s", "op": "t.strips/1", "inputs": {"x": "a"}, "outputs": {"strips": "b", "even": "e"},
         "params": {"height": 2}},
        {"id": "t", "op": "t.scale/1", "inputs": {"x": "b"}, "outputs": {"y": "c"}, "each": ["x"],
         "params": {"factor": "$f", "low": 0.0}, "when": {"value": "e", "otherwise": "b"}},
        {"id": "u", "model": "net", "inputs": {"x": "c"}, "outputs": {"y": "d"}, "each": ["x"],
         "batch": {"max": 2, "sort_by": "aspect", "pad": "right"}},
        {"id": "v", "op": "t.sum/1", "inputs": {"x": "d"}, "outputs": {"y": "z"}, "each": ["x"]},
    ],
    "outputs": {"o": {"value": "z", "type": "list(float)"}},
}  # fmt: skip
LEAVES = st.sampled_from(
    [
        "a",
        "b",
        "c",
        "e",
        "x",
        "y",
        "$f",
        "net",
        "t.sum/1",
        "t.read/1",
        "t.crash/1",
        "s",
        1,
        0,
        -1,
        3.5,
        True,
        None,
        *KINDS,
    ]
)


def places_in(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The place of every key and item."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in items for place in ((*at, key), *places_in(item, (*at, key)))]


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_changed_manifest_runs_or_is_refused(registry: Registry, data: st.DataObject) -> None:
    form = copy.deepcopy(FORM)
    for _ in range(data.draw(st.integers(0, 3))):
        *way, key = data.draw(st.sampled_from(places_in(form)))
        parent = functools.reduce(operator.getitem, way, form)
        if data.draw(st.booleans()):
            parent[key] = data.draw(LEAVES)
        else:
            del parent[key]
    with contextlib.suppress(ValidationError, SdkpackError):
        run_or_refuse(Pipeline.model_validate(form), registry, data)

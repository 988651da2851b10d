"""A pipeline in its normal form is proved before it runs, whoever wrote it."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import pytest

from sdkpack.errors import LimitError, PipelineError, PluginMissingError

GOOD: dict[str, Any] = {
    "inputs": {"v": "tensor(float32, [N])"},
    "params": {"f": {"default": 2.0, "min": 1.0, "max": 9.0}, "go": {"default": True}},
    "steps": [
        {
            "id": "strips", "op": "t.strips/1", "inputs": {"x": "v"}, "outputs": {"strips": "s"},
            "params": {"height": 2},
        },
        {
            "id": "scale", "op": "t.scale/1", "inputs": {"x": "s"}, "outputs": {"y": "t"}, "each": ["x"],
            "params": {"factor": "$f", "low": 0.0}, "when": {"value": "$go", "otherwise": "s"},
        },
        {
            "id": "net", "model": "net", "inputs": {"image": "t"}, "outputs": {"/out:0": "rows"}, "each": ["image"],
            "batch": {"max": 4, "pad": "right", "sort_by": "aspect"},
        },
    ],
    "outputs": {"rows": {"value": "rows", "type": "list(tensor(float32))"}},
}  # fmt: skip


def changed(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    form = copy.deepcopy(GOOD)
    change(form)
    return form


def step(number: int, **keys: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda form: form["steps"][number - 1].update(keys)


def test_accepts_a_good_one(verify: Any) -> None:
    pipeline = verify(GOOD)
    assert pipeline.models == {"net"}
    assert str(pipeline.outputs["rows"]) == "list(tensor(float32))"


@pytest.mark.parametrize(
    ("change", "path", "text"),
    [
        (step(2, id="strips"), "steps[1].id", "'strips' is step 1 already"),
        (step(2, outputs={"y": "s"}), "steps[1].outputs.y", "'s' is defined by step 1 already"),
        (step(2, outputs={"y": "v"}), "steps[1].outputs.y", "'v' is an input of the pipeline already"),
        (step(2, outputs={"z": "t"}), "steps[1].outputs.z", "t.scale has no output 'z', expected one of y"),
        (step(2, outputs={"y": "u"}), "steps[2].inputs.image", "no value is called 't'"),
        (step(2, outputs={}), "steps[1]", "nothing uses what this step gives"),
        (step(1, outputs={"strips": "s", "even": "e"}), "steps[0].outputs", "nothing uses 'e'"),
        (step(1, inputs={}), "steps[0].inputs.x", "t.strips needs 'x', expected tensor(float32, [N])"),
        (step(1, inputs={"x": "v", "y": "v"}), "steps[0].inputs.y", "t.strips has no input 'y', expected one of x"),
        (step(1, inputs={"x": "w"}), "steps[0].inputs.x", "no value is called 'w'"),
        (step(1, inputs={"x": "s"}), "steps[0].inputs.x", "step 1 feeds itself: it defines 's'"),
        (step(1, inputs={"x": "rows"}), "steps[0].inputs.x",
         "a cycle of steps, 1 -> 3 -> 2 -> 1: step 1 needs 'rows', which depends on what it gives"),
        (lambda form: form["steps"].reverse(), "steps[0].inputs.image",
         "step 2 defines 't' later: move it before step 1"),
        (step(1, params={"heigt": 2}), "steps[0].params.heigt",
         "unknown parameter, expected one of height (did you mean 'height'?)"),
        (step(1, params={"height": "tall"}), "steps[0].params.height",
         "wrong type, expected a whole number, got 'tall'"),
        (step(2, params={"factor": "$g"}), "steps[1]", "$g is not declared"),
        (step(2, params={"factor": 1.0}), "params.f", "no step uses it"),
        (lambda form: form["params"]["f"].update(min=-1.0), "params.f.min",
         "the operator at pipelines.p.steps[1].params refuses it: factor must be above low, got -1.0 and 0.0"),
        (step(2, each=[]), "steps[1].inputs.x",
         ("step 1 (t.strips) gives list(tensor(float32, [1, 1, H, W])), t.scale wants tensor(float32) as 'x': "
         'a list is not a tensor (to map over the list: each = "x")')),
        (step(1, each=["x"]), "steps[0].inputs.x",
         "`each` maps over a list, input 'v' gives tensor(float32, [N]) (drop it from `each`)"),
        (step(2, each=["y"]), "steps[1].each", "nothing feeds port 'y'"),
        (step(2, each=["x", "x"]), "steps[1].each", "'x' is mapped twice"),
        (step(2, batch={"max": 2}), "steps[1].batch", "only a model step with `each` can be batched"),
        (step(2, when={"value": "s", "otherwise": "s"}), "steps[1].when.value",
         ("step 1 (t.strips) gives list(tensor(float32, [1, 1, H, W])), which is no condition, "
         "expected bool or list(bool)")),
        (step(2, when={"value": "$f", "otherwise": "s"}), "steps[1].when.value",
         "$f is no condition, expected true or false, got 2.0"),
        (step(2, when={"value": "$go", "otherwise": "v"}), "steps[1].when.otherwise",
         ("input 'v' gives tensor(float32, [N]), it stands in for 'y', list(tensor(float32, [1, 1, H, W])): "
         "a tensor is not a list")),
        (step(3, model="nett"), "steps[2].model", "no model is called 'nett' (did you mean 'net'?)"),
        (step(3, params={"a": 1}), "steps[2].params", "a model takes no parameters"),
        (step(3, batch={"max": 2, "multiple_of": 2}), "steps[2].batch",
         'min_width_px and multiple_of need padding (add: pad = "right")'),
        (step(3, model="fixed", outputs={"sum": "rows"}), "steps[2].batch",
         ("model fixed cannot be batched: 'image' is tensor(float32, [1, 1, 2, 640]), "
         "its first axis is fixed at 1, `max` is 4")),
        (lambda form: form["inputs"].update(v="tensr(float31"), "inputs.v", "unexpected text"),
        (lambda form: form["inputs"].update(w="int"), "inputs.w", "no step uses it"),
        (lambda form: form["outputs"]["rows"].update(type="list(string)"), "outputs.rows.type",
         ("step 3 (model net) gives list(tensor(float32, [1, 1])): in its items: a tensor is not a string, "
         "got list(string)")),
        (lambda form: form["outputs"]["rows"].update(value="row"), "outputs.rows.value",
         "no value is called 'row' (did you mean 'rows'?)"),
    ],
)  # fmt: skip
def test_refuses(verify: Any, change: Any, path: str, text: str) -> None:
    with pytest.raises(PipelineError) as caught:
        verify(changed(change))
    found = [str(problem) for problem in caught.value.problems if problem.path == f"pipelines.p.{path}"]
    assert [line for line in found if text in line], str(caught.value)


def test_a_size_that_cannot_fit_is_told_by_axis(checked: Any) -> None:
    with pytest.raises(PipelineError) as caught:
        checked({"model": "fixed"}, inputs={"image": "tensor(float32, [1, 1, H, 320])"})
    (problem,) = caught.value.problems
    assert problem.message == (
        "input 'image' gives tensor(float32, [1, 1, H, 320]), "
        "model fixed wants tensor(float32, [1, 1, 2, 640]) as 'image': axis 3 is 320, expected 640"
    )


def test_an_operator_that_is_not_installed_is_a_missing_plugin(verify: Any) -> None:
    with pytest.raises(PluginMissingError) as caught:
        verify(changed(_with_an_operator_of_another_plugin))
    assert [str(problem) for problem in caught.value.problems] == [
        "pipelines.p.steps[1].op: no plugin in use has an operator 'acme.scale' (did you mean 't.scale'?)"
    ]


def _with_an_operator_of_another_plugin(form: dict[str, Any]) -> None:
    form["params"] = {}
    form["steps"][1] = {
        "id": "scale", "op": "acme.scale/1", "inputs": {"x": "s"}, "outputs": {"y": "t"}, "each": ["x"],
    }  # fmt: skip


def test_a_huge_wrong_pipeline_is_refused_in_time(verify: Any) -> None:
    count = 2000
    steps = [
        {"id": f"s{n}", "op": "t.sum/1", "inputs": {"x": f"v{n + 1}"}, "outputs": {"y": f"v{n}"}} for n in range(count)
    ]
    form = {"inputs": {"v": "int"}, "steps": steps, "outputs": {"o": {"value": "v0", "type": "any"}}}
    begin = time.monotonic()
    with pytest.raises(PipelineError, match="50 problems, more were not looked for"):
        verify(form)
    assert time.monotonic() - begin < 20


def test_a_pipeline_of_too_many_steps_is_not_read(verify: Any) -> None:
    steps = [{"id": f"s{n}", "op": "t.sum/1", "inputs": {}, "outputs": {}} for n in range(2001)]
    with pytest.raises(LimitError, match="has 2001 steps, at most 2000 are read"):
        verify({"inputs": {"v": "int"}, "steps": steps, "outputs": {}})


def test_operators_see_the_file_s_content(verify: Any) -> None:
    form = {
        "inputs": {"i": "int"},
        "steps": [{
            "id": "a", "op": "t.label/1", "inputs": {"index": "i"}, "outputs": {"text": "t"},
            "params": {"labels": {"asset": "assets/labels.txt"}, "prefix": ""},
        }],
        "outputs": {"t": {"value": "t", "type": "string"}},
    }  # fmt: skip
    pipeline = verify(form)
    assert [pipeline.run({"i": index}, models={})["t"] for index in (0, 1)] == ["cat", "dog"]

"""What a recipe leaves out is written out, and what is wrong is told in the recipe's words."""

from __future__ import annotations

from typing import Any

import pytest

from sdkpack.errors import PipelineError, PluginBrokenError

READ = {"op": "t.read", "as": "x"}
STRIPS = {"op": "t.strips", "as": ["strips", "even"]}
TENSOR = {"x": "tensor(float32, [N])"}


def problems(error: pytest.ExceptionInfo[PipelineError]) -> dict[str, str]:
    """Path -> the rest of each problem's text."""
    found: dict[str, str] = {}
    for problem in error.value.problems:
        assert problem.path not in found, "two problems at one place"
        found[problem.path] = str(problem).removeprefix(f"{problem.path}: ")
    return found


def refused(normalized: Any, *steps: dict[str, Any], **more: Any) -> dict[str, str]:
    with pytest.raises(PipelineError) as caught:
        normalized(*steps, **more)
    return problems(caught)


def test_writes_out_ports_names_versions_parameters_and_types(normalized: Any) -> None:
    pipeline = normalized({"op": "t.read"}, {"op": "t.scale"}, {"op": "t.scale/1"}, {"op": "t.sum"}, summary="adds")
    assert pipeline.model_dump(mode="json", exclude_defaults=True) == {
        "summary": "adds",
        "inputs": {"blob": "bytes"},
        "outputs": {"y": {"value": "sum-y", "type": "float"}},
        "steps": [
            {"id": "read", "op": "t.read/1", "inputs": {"blob": "blob"}, "outputs": {"x": "read-x"}},
            {
                "id": "scale", "op": "t.scale/2", "inputs": {"x": "read-x"}, "outputs": {"y": "scale-y"},
                "params": {"factor": 2.0, "low": 0.0},
            },
            {
                "id": "scale-2", "op": "t.scale/1", "inputs": {"x": "scale-y"}, "outputs": {"y": "scale-2-y"},
                "params": {"factor": 2.0, "low": 0.0},
            },
            {"id": "sum", "op": "t.sum/1", "inputs": {"x": "scale-2-y"}, "outputs": {"y": "sum-y"}},
        ],
        "needs": ["t.read/1", "t.scale/1", "t.scale/2", "t.sum/1"],
    }  # fmt: skip


def test_names_of_model_tensors_become_names(normalized: Any) -> None:
    pipeline = normalized({"model": "net"}, inputs={"image": "tensor(float32, [1, 1, 4, 4])"})
    assert pipeline.steps[0].outputs == {"/out:0": "net-_out_0"}
    assert pipeline.outputs["_out_0"].value == "net-_out_0"
    assert pipeline.outputs["_out_0"].type == "tensor(float32, [1, 1])"
    assert pipeline.tier == "portable"


def test_a_generated_name_gives_way_to_the_author_s(normalized: Any) -> None:
    pipeline = normalized({"op": "t.read"}, {"op": "t.scale", "as": "read-x"}, {"op": "t.sum"})
    assert [step.outputs for step in pipeline.steps][:2] == [{"x": "read-x-2"}, {"y": "read-x"}]


def test_outputs_that_nobody_names_or_uses_are_left_out(normalized: Any) -> None:
    pipeline = normalized({"op": "t.strips"}, {"op": "t.sum", "each": "x", "in": "strips-strips"}, inputs=TENSOR)
    assert pipeline.steps[0].outputs == {"strips": "strips-strips"}


@pytest.mark.parametrize(
    ("written", "outputs"),
    [
        ("a", {"a": "a"}),
        (["a", "b"], {"a": "a", "b": "b"}),
        ({"first": "a", "again": "a", "other": "b"}, {"first": "a", "again": "a", "other": "b"}),
        (None, {"a": "a", "b": "b"}),
    ],
)
def test_outputs_are_named_in_every_form(normalized: Any, written: Any, outputs: dict[str, str]) -> None:
    names = ["a", "b"] if written != "a" else ["a", "_"]
    pipeline = normalized({"op": "t.strips", "as": names}, outputs=written, inputs=TENSOR)
    assert {name: output.value for name, output in pipeline.outputs.items()} == outputs


@pytest.mark.parametrize(
    "step",
    [
        {"each": "x"},  # a port, fed by chaining
        {"each": "strips"},  # a value, chained to the first port
        {"in": "strips", "each": "strips"},
        {"in": {"x": "strips"}, "each": "x"},
        {"in": ["strips"], "each": ["x"]},
    ],
)
def test_each_names_a_port_or_a_value(normalized: Any, step: dict[str, Any]) -> None:
    pipeline = normalized({"op": "t.strips", "as": ["strips", "_"]}, {"op": "t.sum", **step}, inputs={"v": TENSOR["x"]})
    assert (pipeline.steps[1].inputs, pipeline.steps[1].each) == ({"x": "strips"}, ("x",))
    assert pipeline.outputs["y"].type == "list(float)"


def test_each_brings_a_value_from_elsewhere_to_the_first_free_port(normalized: Any) -> None:
    steps = [
        {"op": "t.strips", "as": ["strips", "_"]},
        {"op": "t.sum", "in": "v", "as": "total"},
        {"op": "t.sum", "each": "strips", "as": "sums"},
    ]
    pipeline = normalized(*steps, inputs={"v": TENSOR["x"]}, outputs=["total", "sums"])
    assert pipeline.steps[2].inputs == {"x": "strips"}


def test_chaining_leaves_optional_ports_alone(normalized: Any) -> None:
    pipeline = normalized({"op": "t.strips"}, {"op": "t.sum", "each": "x"}, inputs={"v": TENSOR["x"]})
    assert pipeline.steps[1].inputs == {"x": "strips-strips"}


def test_a_file_becomes_an_asset_and_a_list_stays(normalized: Any) -> None:
    pipeline = normalized(
        {"op": "t.label", "with": {"labels": "labels.txt"}, "as": "a"},
        {"op": "t.label", "in": "i", "with": {"labels": ["x", "y"]}, "as": "b"},
        inputs={"i": "int"}, outputs=["a", "b"],
    )  # fmt: skip
    assert pipeline.steps[0].params == {"labels": {"asset": "assets/labels.txt"}, "prefix": ""}
    assert pipeline.steps[1].params == {"labels": ["x", "y"], "prefix": ""}


def test_without_contents_an_operator_that_needs_them_has_its_port_types(normalized: Any) -> None:
    pipeline = normalized({"op": "t.label", "with": {"labels": "latin.txt"}}, inputs={"i": "int"}, read=None)
    assert pipeline.outputs["text"].type == "string"


def test_run_time_parameters_stay_references(normalized: Any) -> None:
    pipeline = normalized(READ, {"op": "t.scale", "with": {"factor": "$f"}}, params={"f": {"default": 3, "min": 1}})
    assert pipeline.steps[1].params == {"factor": "$f", "low": 0.0}


def test_a_dollar_sign_that_names_nothing_is_a_text(normalized: Any) -> None:
    step = {"op": "t.label", "with": {"labels": ["1"], "prefix": "$5 "}}
    assert normalized(step, inputs={"i": "int"}).steps[0].params["prefix"] == "$5 "


def test_a_condition_s_stand_in_is_the_first_input(normalized: Any) -> None:
    pipeline = normalized(STRIPS, {"op": "t.scale", "each": "strips", "when": "even"}, inputs=TENSOR)
    when = pipeline.steps[1].when
    assert (when.value, when.otherwise) == ("even", "strips")
    assert pipeline.outputs["y"].type == "list(tensor(float32, [1, 1, ?, ?]))"


# What is wrong ------------------------------------------------------------------------------------------------------
def test_all_problems_are_told_together_in_reading_order(normalized: Any) -> None:
    with pytest.raises(PipelineError) as caught:
        normalized({"op": "t.raed"}, {"op": "t.scale", "with": {"facto": 1}}, {"model": "nte", "in": "blub"})
    assert str(caught.value) == (
        "pipeline 'p' has 5 problems\n"
        "  pipelines.p.steps[0].op: no plugin in use has an operator 't.raed' (did you mean 't.read'?)\n"
        "  pipelines.p.steps[1]: nothing uses what this step gives (drop it)\n"
        "  pipelines.p.steps[1].with.facto: unknown parameter, expected one of factor, low (did you mean 'factor'?)\n"
        "  pipelines.p.steps[2].model: no model is called 'nte', expected one of net, fixed (did you mean 'net'?)\n"
        "  pipelines.p.steps[2].in: no value is called 'blub', expected one of blob (did you mean 'blob'?)"
    )


def test_one_mistake_is_told_once(normalized: Any) -> None:
    assert list(refused(normalized, {"op": "t.raed"}, {"op": "t.scale"}, {"op": "t.sum"})) == [
        "pipelines.p.steps[0].op"
    ]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (
            [READ, {"op": "t.scale", "in": ["x", "x"]}],
            {"steps[1].in": "too many inputs for t.scale, expected at most 1: x, got 2: x, x"},
        ),
        (
            [READ, {"op": "t.sum", "in": {"y": "x"}}],
            {"steps[1].in.y": "t.sum has no input 'y', expected one of x, bias"},
        ),
        (
            [READ, {"op": "t.sum", "in": []}],
            {
                "steps[0].as": "nothing uses 'x' (use it, or name it \"_\")",
                "steps[1]": "t.sum needs 'x', expected tensor(float32)",
            },
        ),
        (
            [READ, {"op": "t.sum", "as": ["a", "b"]}],
            {"steps[1].as": "more names than t.sum has outputs, expected at most 1: y, got a, b"},
        ),
        (
            [READ, {"op": "t.scale", "as": "x"}, {"op": "t.sum"}],
            {"steps[1].as": "'x' is defined by step 1 already (choose another name)"},
        ),
        (
            [{"op": "t.read", "as": "blob"}, {"op": "t.sum"}],
            {"steps[0].as": "'blob' is an input of the pipeline already (choose another name)"},
        ),
        (
            [{"op": "t.strips", "in": "x", "as": ["x", "x"]}],
            {
                "steps[0].as": "'x' is defined by the same step already (choose another name)",
                "steps[0].in": "step 1 feeds itself: it defines 'x'",
                "inputs.blob": "no step uses it (drop it)",
            },
        ),
        (
            [READ, {"op": "t.strips", "as": ["s", "even"]}, {"op": "t.scale", "each": "s"}],
            {"steps[1].as": "nothing uses 'even' (use it, or name it \"_\")"},
        ),
        (
            [READ, {"op": "t.sum", "in": "scaled", "as": "a"}, {"op": "t.scale", "in": "x", "as": "scaled"},
             {"op": "t.sum", "in": {"x": "x", "bias": "a"}}],
            {"steps[1].in": "step 3 defines 'scaled' later: move it before step 2"},
        ),
        (
            [READ, {"op": "t.scale", "in": "b", "as": "a"}, {"op": "t.scale"}, {"op": "t.scale", "as": "b"},
             {"op": "t.sum", "in": "x"}],
            {"steps[1].in": "a cycle of steps, 2 -> 4 -> 3 -> 2: step 2 needs 'b', which depends on what it gives"},
        ),
        ([READ, {"op": "t.sum", "in": "x", "with": {"a": 1}}],
         {"steps[1].with.a": "unknown parameter, expected nothing"}),
        ([READ, {"op": "t.scale", "with": {"factor": "many"}}],
         {"steps[1].with.factor": "wrong type, expected a number, got 'many'"}),
        ([READ, {"op": "t.scale", "with": {"factor": -1}}],
         {"steps[1].with": "factor must be above low, got -1.0 and 0.0"}),
        ([READ, {"op": "t.scale/3"}],
         {"steps[1].op": "operator t.scale/3 is not installed, only t.scale/1, t.scale/2 "
                         "(install a version of sdkpack_tests_fake_plugin that has it)"}),
        ([READ, {"op": "t.sum", "in": "$x"}],
         {"steps[0].as": "nothing uses 'x' (use it, or name it \"_\")",
          "steps[1].in": "'$x' is a run-time parameter, no value (parameters go into `with`)"}),
    ],
)  # fmt: skip
def test_tells_what_is_wrong_and_where(normalized: Any, steps: list[dict[str, Any]], expected: dict[str, str]) -> None:
    found = refused(normalized, *steps)
    assert found == {f"pipelines.p.{path}": text for path, text in expected.items()}


def test_tells_of_an_asset_that_is_not_there(normalized: Any) -> None:
    found = refused(normalized, {"op": "t.label", "with": {"labels": "lables.txt"}}, inputs={"i": "int"})
    assert found == {"pipelines.p.steps[0].with.labels": "no file 'lables.txt', got 'lables.txt' (look again)"}


def test_tells_of_an_asset_that_is_no_text(normalized: Any) -> None:
    found = refused(normalized, {"op": "t.label", "with": {"labels": "latin.txt"}}, inputs={"i": "int"})
    assert found == {"pipelines.p.steps[0].with.labels": "'assets/latin.txt' is not UTF-8, got a wrong byte at 3"}


def test_tells_of_a_parameter_that_is_missing(normalized: Any) -> None:
    found = refused(normalized, {"op": "t.label"}, inputs={"i": "int"})
    assert found == {"pipelines.p.steps[0].with.labels": "missing"}


def test_tells_of_wrong_types_of_inputs(normalized: Any) -> None:
    found = refused(normalized, {"op": "t.sum"}, inputs={"x": "tensor(float31)"})
    assert found == {"pipelines.p.inputs.x": "type 'tensor(float31)': unknown element type 'float31'"}


def test_tells_of_outputs_that_are_no_values(normalized: Any) -> None:
    found = refused(normalized, {"op": "t.sum", "as": "a"}, inputs=TENSOR, outputs={"one": "a", "two": "b"})
    assert found == {"pipelines.p.outputs.two": "no value is called 'b', expected one of a, x"}


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"f": {"default": 2.0, "min": -1.0}},
         {"params.f.min": "the operator at pipelines.p.steps[1].with refuses it: "
                          "factor must be above low, got -1.0 and 0.0, got -1.0"}),
        ({"f": {"default": 2.0}, "g": {"default": 1}},
         {"params.g": 'no step uses it (write "$g" in a step, or drop it)'}),
        ({"ff": {"default": 2.0}},
         {"params.ff": 'no step uses it (write "$ff" in a step, or drop it)',
          "steps[1].with.factor": "$f is not declared, expected one of ff (did you mean 'ff'?)"}),
        ({"f": {"default": "wide", "choices": ["wide"]}},
         {"steps[1].with.factor": "wrong type, expected a number, got 'wide'"}),
    ],
)  # fmt: skip
def test_run_time_parameters_fit_at_every_end(normalized: Any, params: Any, expected: dict[str, str]) -> None:
    found = refused(normalized, READ, {"op": "t.scale", "with": {"factor": "$f"}}, params=params)
    assert found == {f"pipelines.p.{path}": text for path, text in expected.items()}


@pytest.mark.parametrize(
    ("step", "text"),
    [
        ({"op": "t.sum", "in": {"x": "v", "bias": "v"}, "each": "v"}, "'v' is it feeds the ports x and bias"),
        ({"op": "t.sum", "in": {"x": "v"}, "each": ["v", "x"]}, "'x' is mapped twice"),
        ({"op": "t.sum", "in": {"x": "v"}, "each": "bias"}, "nothing feeds port 'bias'"),
        ({"op": "t.sum", "in": {"x": "v"}, "each": "w"}, "no value is called 'w'"),
        ({"op": "t.scale", "in": {"x": "v"}, "each": "bias"}, "no port of t.scale is left for 'bias'"),
        ({"op": "t.sum", "in": {"x": "v", "bias": "x"}, "each": "x"}, "ambiguous: 'x' is port 'x' and value 'x'"),
    ],
)
def test_each_that_could_mean_two_things_is_refused(normalized: Any, step: dict[str, Any], text: str) -> None:
    inputs = {"v": "list(tensor(float32))", "x": "list(float)"} | (
        {"bias": "list(int)"} if "scale" in step["op"] else {}
    )
    found = refused(normalized, step, inputs=inputs)
    assert text in found["pipelines.p.steps[0].each"]


def test_an_operator_that_breaks_its_word_is_named(normalized: Any) -> None:
    with pytest.raises(PluginBrokenError, match=r"operator 't.bad_infer' infers string for 'y', its port says float"):
        normalized(READ, {"op": "t.bad_infer"})
    with pytest.raises(PluginBrokenError, match=r"'t.ghost' cannot be loaded"):
        normalized(READ, {"op": "t.ghost"})

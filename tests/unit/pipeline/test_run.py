"""Running: conditions, parameters, traces, deadlines, memory, and errors that name their place."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest

from sdkpack.errors import (
    DeadlineError,
    InputError,
    InternalError,
    PluginBrokenError,
    RunError,
    UsageError,
)
from sdkpack.pipeline import Deadline

READ = {"op": "t.read", "as": "x"}
STRIPS = {"op": "t.strips", "as": ["strips", "even"]}
V = {"v": "tensor(float32, [N])"}
ROW = {"/out:0": np.zeros((1, 1), np.float32)}


def vector(*numbers: float) -> Any:
    return np.array(numbers, np.float32)


def sums(inputs: Any) -> dict[str, Any]:
    return {"/out:0": inputs["image"].sum(axis=(1, 2, 3))[:, None]}


# Conditions ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("go", "total"), [(True, 60.0), (False, 6.0)])
def test_a_condition_may_be_a_run_time_parameter(checked: Any, go: bool, total: float) -> None:
    pipeline = checked(
        READ, {"op": "t.scale", "when": "$go", "with": {"factor": 10}}, {"op": "t.sum", "as": "y"},
        params={"go": {"default": True}},
    )  # fmt: skip
    assert pipeline.run({"blob": b"\1\2\3"}, params={"go": go}, models={}) == {"y": total}


def test_only_chosen_items_are_batched(checked: Any) -> None:
    pipeline = checked(
        {"op": "t.strips", "in": "v", "as": ["strips", "even"]},
        {"model": "net", "in": "strips", "each": "image", "when": "even", "batch": {"max": 8, "pad": "right"},
         "otherwise": "spare", "as": "rows"},
        inputs={**V, "spare": "list(tensor(float32, [1, 1]))"},
    )  # fmt: skip
    shapes = []

    def net(inputs: Any) -> dict[str, Any]:
        shapes.append(inputs["image"].shape)
        return sums(inputs)

    spare = [np.full((1, 1), -n, np.float32) for n in range(4)]
    rows = pipeline.run({"v": vector(1, 2, 3, 4), "spare": spare}, models={"net": net})["rows"]
    assert shapes == [(2, 1, 2, 4)]
    assert [float(row[0, 0]) for row in rows] == [0.0, 8.0, -2.0, 32.0]
    with pytest.raises(RunError, match="different lengths: image has 4, when has 4, otherwise has 3"):
        pipeline.run({"v": vector(1, 2, 3, 4), "spare": spare[:3]}, models={"net": net})


def test_lists_that_are_mapped_together_have_one_length(checked: Any) -> None:
    pipeline = checked(
        {"op": "t.sum", "in": ["a", "b"], "each": ["a", "b"], "as": "y"},
        inputs={"a": "list(tensor(float32))", "b": "list(float)"},
    )
    assert pipeline.run({"a": [vector(1), vector(2)], "b": [1, 2.5]}, models={}) == {"y": [2.0, 4.5]}
    with pytest.raises(RunError, match="different lengths: x has 2, bias has 1"):
        pipeline.run({"a": [vector(1), vector(2)], "b": [1]}, models={})


def test_a_value_beside_the_list_goes_to_every_item(checked: Any) -> None:
    pipeline = checked(
        {"op": "t.sum", "in": ["a", "b"], "each": "a", "as": "y"}, inputs={"a": "list(tensor(float32))", "b": "float"}
    )
    assert pipeline.run({"a": [vector(1), vector(2)], "b": 10}, models={}) == {"y": [11.0, 12.0]}


# Run-time parameters ------------------------------------------------------------------------------------------------
def test_run_time_parameters_make_the_operator_anew(checked: Any) -> None:
    pipeline = checked(
        READ, {"op": "t.scale", "with": {"factor": "$f"}}, {"op": "t.sum", "as": "y"},
        params={"f": {"default": 2.0, "min": 0.5, "max": 100.0}},
    )  # fmt: skip
    totals = [pipeline.run({"blob": b"\1\2"}, params={"f": n}, models={})["y"] for n in (1, 2.0, *range(3, 30), 1.0)]
    assert totals == [3.0 * n for n in (1, 2, *range(3, 30), 1)]
    assert pipeline.run({"blob": b"\1\2"}, models={})["y"] == 6.0


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"f": 0.4}, "params.f: not allowed, expected a number from 0.5 to 9.0, got 0.4"),
        ({"f": float("nan")}, "params.f: not allowed, expected a number from 0.5 to 9.0, got nan"),
        ({"f": 10**400}, "params.f: not allowed, expected a number from 0.5 to 9.0, got 1000"),
        ({"f": True}, "params.f: not allowed, expected a number from 0.5 to 9.0, got True"),
        ({"f": "2"}, "params.f: not allowed, expected a number from 0.5 to 9.0, got '2'"),
        ({"n": 1.0}, "params.n: not allowed, expected a whole number from 0, got 1.0"),
        ({"word": "c"}, "params.word: not allowed, expected one of a, b, got 'c'"),
        ({"word": ["a"]}, "params.word: not allowed, expected one of a, b, got ['a']"),
        ({"go": 1}, "params.go: not allowed, expected true or false, got 1"),
        ({"wrd": "a"}, "params.wrd: no such run-time parameter, expected one of f, n, word, go (did you mean 'word'?)"),
    ],
)
def test_run_time_parameters_stay_in_their_bounds(checked: Any, params: dict[str, Any], text: str) -> None:
    pipeline = checked(
        {"op": "t.label", "with": {"labels": ["one"], "prefix": "$word"}, "as": "text"},
        {"op": "t.scale", "in": "v", "with": {"factor": "$f", "low": "$n"}, "when": "$go", "as": "scaled"},
        inputs={"i": "int", **V}, outputs=["text", "scaled"],
        params={"f": {"default": 2.0, "min": 0.5, "max": 9.0}, "n": {"default": 0, "min": 0},
                "word": {"default": "a", "choices": ["a", "b"]}, "go": {"default": True}},
    )  # fmt: skip
    with pytest.raises(InputError) as caught:
        pipeline.run({"i": 0, "v": vector(1)}, params=params, models={})
    assert text in str(caught.value)


def test_parameters_that_only_clash_together_are_the_caller_s_mistake(checked: Any) -> None:
    pipeline = checked(
        {"op": "t.scale", "in": "v", "with": {"factor": "$f", "low": "$n"}, "as": "y"}, inputs=V,
        params={"f": {"default": 2.0, "min": 1.5, "max": 9.0}, "n": {"default": 0, "min": 0, "max": 1}},
    )  # fmt: skip
    pipeline.run({"v": vector(1)}, params={"n": 1}, models={})
    wide = checked(
        {"op": "t.scale", "in": "v", "with": {"factor": "$f", "low": "$n"}, "as": "y"}, inputs=V,
        params={"f": {"default": 5.0, "min": 1.0}, "n": {"default": 0, "max": 4}},
    )  # fmt: skip
    with pytest.raises(InputError, match=r"factor must be above low, got 1.0 and 4.0") as caught:
        wide.run({"v": vector(1)}, params={"f": 1, "n": 4}, models={})
    assert caught.value.where == "scale"


# Inputs -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({}, "v: missing, expected tensor(float32, [N, 2])"),
        ({"v": [1.0]}, "v: got a list of 1, expected an array"),
        ({"v": np.zeros((1, 2))}, "v: got float64 [1, 2], expected tensor(float32, [N, 2]): element type is float64"),
        ({"v": np.zeros(2, np.float32)}, "the number of axes is 1"),
        ({"v": np.zeros((1, 3), np.float32)}, "axis 1 is 3, expected 2"),
        ({"v": np.zeros((1, 2), np.float32), "w": 1}, "w: no such input, expected one of v"),
    ],
)
def test_inputs_are_what_they_should_be(checked: Any, inputs: dict[str, Any], text: str) -> None:
    pipeline = checked({"op": "t.sum", "as": "y"}, inputs={"v": "tensor(float32, [N, 2])"})
    with pytest.raises(InputError) as caught:
        pipeline.run(inputs, models={})
    assert text in str(caught.value)


def test_a_size_that_was_a_symbol_is_looked_at_again(checked: Any) -> None:
    pipeline = checked({"model": "fixed", "as": "y"}, inputs={"v": "tensor(float32, [1, 1, H, W])"})
    with pytest.raises(
        InputError, match=r"step 1 \(model fixed\) cannot take its input 'image': .*axis 3 is 4, expected 640"
    ):
        pipeline.run({"v": np.zeros((1, 1, 2, 4), np.float32)}, models={"fixed": lambda _: {}})
    inside = checked({"op": "t.scale"}, {"model": "fixed", "as": "y"}, inputs={"v": "tensor(float32, [1, 1, H, W])"})
    with pytest.raises(RunError, match=r"step 2 \(model fixed\) cannot take its input 'image'") as caught:
        inside.run({"v": np.zeros((1, 1, 2, 4), np.float32)}, models={"fixed": lambda _: {}})
    assert caught.value.where == "fixed"


# Errors -------------------------------------------------------------------------------------------------------------
def test_an_operator_s_input_error_passes_with_its_step(checked: Any) -> None:
    with pytest.raises(InputError) as caught:
        checked(READ, {"op": "t.sum", "as": "y"}).run({"blob": b""}, models={})
    assert (caught.value.message, caught.value.where) == ("no bytes to read", "read")


def test_an_input_error_under_each_tells_the_item(checked: Any) -> None:
    pipeline = checked({"op": "t.read", "each": "blob", "as": "y"}, inputs={"blob": "list(bytes)"})
    with pytest.raises(InputError, match="item 1: no bytes to read"):
        pipeline.run({"blob": [b"1", b""]}, models={})


def test_a_crash_names_step_operator_and_plugin_in_one_line(checked: Any) -> None:
    with pytest.raises(RunError) as caught:
        checked(READ, {"op": "t.crash", "as": "y"}).run({"blob": b"1"}, models={})
    assert caught.value.message.startswith("step 2 (t.crash) of plugin 'sdkpack_tests_fake_plugin' failed: KeyError: ")
    assert "\n" not in caught.value.message
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("operator", "text"),
    [
        ("t.liar", "broke its word at output 'y': got a str, expected float"),
        ("t.short", "returned a float, expected a tuple of 2"),
    ],
)
def test_an_operator_that_breaks_its_word_is_a_broken_plugin(checked: Any, operator: str, text: str) -> None:
    pipeline = checked(READ, {"op": operator, "as": "y"})
    with pytest.raises(PluginBrokenError) as caught:
        pipeline.run({"blob": b"1"}, models={})
    assert text in caught.value.message
    assert caught.value.where == operator.removeprefix("t.")


class OwnError(InputError):
    """An error of a plugin's own, with arguments of its own."""

    def __init__(self, number: int) -> None:
        super().__init__(f"number {number} is wrong", hint="send another")


def raising(error: Exception) -> Any:
    def call(_: Any) -> Any:
        raise error

    return call


@pytest.mark.parametrize(
    ("model", "kind", "text"),
    [
        (raising(ValueError("bad\nmore")), RunError, "step 1 (model net) failed: ValueError: bad"),
        (raising(InternalError("a bug")), InternalError, "a bug"),
        (raising(OwnError(3)), InputError, "number 3 is wrong"),
        (lambda _: {}, RunError, "gave no output '/out:0'"),
        (lambda _: {"/out:0": np.zeros((1, 1))}, RunError, "element type is float64"),
        (lambda _: {"/out:0": np.zeros(1, np.float32)}, RunError, "the number of axes is 1"),
    ],
)
def test_a_model_that_fails_is_named(checked: Any, model: Any, kind: type[Exception], text: str) -> None:
    pipeline = checked({"model": "net", "as": "y"}, inputs={"v": "tensor(float32, [1, 1, 2, 2])"})
    with pytest.raises(kind) as caught:
        pipeline.run({"v": np.zeros((1, 1, 2, 2), np.float32)}, models={"net": model})
    assert text in str(caught.value)
    assert caught.value.where == "net"


def test_a_model_that_mixes_up_its_batch_is_refused(checked: Any) -> None:
    pipeline = checked(
        {"op": "t.strips", "as": ["s", "_"]},
        {"model": "net", "each": "s", "batch": {"max": 4, "pad": "right"}, "as": "y"},
        inputs=V,
    )  # fmt: skip
    with pytest.raises(RunError, match=r"a batch of 2 gave \[1, 1\] at '/out:0', expected 2 rows"):
        pipeline.run({"v": vector(1, 2)}, models={"net": lambda _: ROW})


def test_items_that_cannot_be_joined_are_refused(checked: Any) -> None:
    pipeline = checked(
        {"model": "net", "each": "v", "batch": {"max": 4, "pad": "right"}, "as": "y"}, inputs={"v": "list(any)"}
    )
    with pytest.raises(RunError, match=r"item 0 at 'image' cannot be batched: its shape is \[2, 1, 1, 1\]"):
        pipeline.run({"v": [np.zeros((2, 1, 1, 1), np.float32)]}, models={"net": sums})


@pytest.mark.parametrize(
    ("value", "text"), [(3, "`each` maps over a list, 'x' got a int"), ([3], "got a int, expected an")]
)
def test_a_value_of_any_type_is_looked_at_when_it_comes(checked: Any, value: Any, text: str) -> None:
    pipeline = checked({"op": "t.sum", "each": "v", "as": "y"}, inputs={"v": "any"})
    with pytest.raises((RunError, InputError)) as caught:
        pipeline.run({"v": value}, models={})
    assert text in str(caught.value)


def test_a_condition_of_any_type_is_looked_at_when_it_comes(checked: Any) -> None:
    pipeline = checked({"op": "t.scale", "in": "v", "when": "c", "as": "y"}, inputs={**V, "c": "any"})
    with pytest.raises(RunError, match="the condition 'c' cannot be used: got a list of 1, expected bool"):
        pipeline.run({"v": vector(1), "c": [True]}, models={})


def test_a_run_without_its_models_is_refused(checked: Any) -> None:
    pipeline = checked({"model": "net", "as": "y"}, inputs={"v": "tensor(float32, [1, 1, 2, 2])"})
    with pytest.raises(UsageError, match="cannot run without the models net"):
        pipeline.run({"v": np.zeros((1, 1, 2, 2), np.float32)}, models={})


# Trace, until, deadline ---------------------------------------------------------------------------------------------
def test_a_trace_sees_every_value(checked: Any) -> None:
    seen: list[tuple[str, str, Any]] = []
    pipeline = checked(READ, {"op": "t.scale"}, {"op": "t.sum", "as": "y"})
    pipeline.run({"blob": b"\1\2"}, models={}, trace=lambda *event: seen.append(event))
    assert [event[:2] for event in seen] == [("read", "x"), ("scale", "scale-y"), ("sum", "y")]
    assert seen[1][2].tolist() == [2.0, 4.0]
    assert seen[2][2] == 6.0


def test_until_stops_and_needs_only_what_comes_before(checked: Any) -> None:
    pipeline = checked(
        {"op": "t.strips", "as": ["s", "e"]},
        {"op": "t.scale", "in": "s", "each": "s", "when": "e", "as": "t"},
        {"model": "net", "each": "t"},
        inputs=V,
    )
    assert pipeline.run({"v": vector(1, 2)}, models={}, until="e") == {"e": [False, True]}
    assert pipeline.run({"v": vector(1, 2)}, models={}, until="v")["v"].tolist() == [1, 2]
    with pytest.raises(UsageError, match="no value 'f'") as caught:
        pipeline.run({"v": vector(1, 2)}, models={}, until="f")
    assert caught.value.hint == "its values are v, s, e, t, net-_out_0"


def test_a_deadline_stops_between_steps_and_items(checked: Any) -> None:
    now = [0.0]
    pipeline = checked({"op": "t.strips", "as": ["s", "_"]}, {"model": "net", "each": "s", "as": "y"}, inputs=V)

    def slow(inputs: Any) -> dict[str, Any]:
        now[0] += 1.0
        return sums(inputs)

    deadline = Deadline.after(1.5, clock=lambda: now[0])
    with pytest.raises(DeadlineError, match=r"the deadline of 1.5 s passed before item 2 of step 'net'"):
        pipeline.run({"v": vector(1, 2, 3)}, models={"net": slow}, deadline=deadline)
    with pytest.raises(DeadlineError, match="before step 'strips'"):
        pipeline.run({"v": vector(1, 2, 3)}, models={"net": slow}, deadline=deadline)
    later = Deadline.after(60, clock=lambda: now[0])
    assert len(pipeline.run({"v": vector(1, 2, 3)}, models={"net": slow}, deadline=later)["y"]) == 3


def test_a_deadline_stops_between_batches(checked: Any) -> None:
    now = [0.0]
    pipeline = checked(
        {"op": "t.strips", "as": ["s", "_"]}, {"model": "net", "each": "s", "batch": {"max": 1}, "as": "y"}, inputs=V
    )

    def slow(inputs: Any) -> dict[str, Any]:
        now[0] += 1.0
        return sums(inputs)

    with pytest.raises(DeadlineError, match="before a batch of step 'net'"):
        pipeline.run({"v": vector(1, 2)}, models={"net": slow}, deadline=Deadline.after(0.5, clock=lambda: now[0]))


# Memory and threads -------------------------------------------------------------------------------------------------
def test_values_are_freed_after_their_last_use(checked: Any) -> None:
    alive: dict[str, weakref.ref[Any]] = {}
    at: dict[str, list[str]] = {}

    def trace(step_id: str, name: str, value: Any) -> None:
        gc.collect()
        at[step_id] = sorted(other for other, reference in alive.items() if reference() is not None)
        if isinstance(value, np.ndarray):
            alive[name] = weakref.ref(value)

    pipeline = checked(
        READ, {"op": "t.scale", "as": "a"}, {"op": "t.scale", "as": "b"}, {"op": "t.scale", "as": "c"},
        {"op": "t.sum", "as": "y"},
    )  # fmt: skip
    pipeline.run({"blob": b"\1"}, models={}, trace=trace)
    # While a step's outputs are shown, its inputs still live; nothing older does.
    assert at == {"read": [], "scale": ["x"], "scale-2": ["a"], "scale-3": ["b"], "sum": ["c"]}


def test_runs_in_several_threads_do_not_meet(checked: Any) -> None:
    pipeline = checked(
        READ, {"op": "t.scale", "with": {"factor": "$f"}}, {"op": "t.strips", "as": ["s", "_"]},
        {"model": "net", "each": "s", "batch": {"max": 3, "pad": "right"}, "as": "rows"},
        params={"f": {"default": 1, "min": 1, "max": 20}},
    )  # fmt: skip
    wrong: list[Any] = []

    def work(factor: int) -> None:
        for _ in range(20):
            rows = pipeline.run({"blob": b"\1\3\2"}, params={"f": factor}, models={"net": sums})["rows"]
            found = [float(row[0, 0]) for row in rows]
            if found != [2.0 * (factor * n) ** 2 for n in (1, 3, 2)]:
                wrong.append((factor, found))

    threads = [threading.Thread(target=work, args=(factor,)) for factor in range(1, 13)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []

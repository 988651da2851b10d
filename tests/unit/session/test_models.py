from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from sdkpack.errors import BundleError, InputError, PluginBrokenError, PluginMissingError, RunError, UsageError
from sdkpack.pipeline.deadline import Deadline
from sdkpack.session.models import LoadedModel, Resources, open_variant
from tests.unit.session import fakes
from tests.unit.session.fakes import entry, part, registry, tensor, variant

X = np.array([[1, 2, 3]], np.float32)


@pytest.fixture(autouse=True)
def opened() -> Iterator[list[fakes.FakeSession]]:
    fakes.OPENED.clear()
    yield fakes.OPENED
    fakes.OPENED.clear()


def load(*parts: Any, resources: Resources | None = None, **more: Any) -> LoadedModel:
    one = variant("cpu", *parts)
    return open_variant(entry(one), one, _no_blobs, registry(), name="net", resources=resources or Resources(), **more)


def _no_blobs(path: str) -> Any:
    raise AssertionError(path)


def test_runs_one_part() -> None:
    model = load(part(scale=2.0))
    np.testing.assert_array_equal(model({"x": X})["y"], X * 2)
    model.close()


def test_runs_a_chain_and_lets_intermediates_go() -> None:
    model = load(part(gives="a", scale=2.0), part("fake.fast", takes="a", gives="b", scale=3.0), part(takes="b"))
    outputs = model({"x": X})
    assert list(outputs) == ["y"]
    np.testing.assert_array_equal(outputs["y"], X * 6)
    model.close()
    assert [session.closed for session in fakes.OPENED] == [1, 1, 1]


def test_a_later_part_may_take_a_first_input() -> None:
    second = part(takes="a").model_copy(update={"inputs": (tensor("a"), tensor("x"))})
    model = load(part(gives="a", scale=2.0), second)
    np.testing.assert_array_equal(model({"x": X})["y"], X * 3)
    model.close()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((part(takes="q"),), "part 1 of model 'net' for 'cpu' takes 'q', which nothing gives"),
        ((part(gives="q"),), "gives 'y', which nothing gives"),
        ((part(gives="a"), part(takes="b")), "part 2 of model 'net' for 'cpu' takes 'b', which nothing gives"),
        ((part().model_copy(update={"inputs": (tensor("x", ("N",)),)}),), "what gives it says x: tensor"),
        ((part().model_copy(update={"outputs": (tensor("y", dtype="int64"),)}),), "what gives it says y: tensor"),
    ],
)
def test_parts_that_make_no_chain_are_refused(parts: Any, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        load(*parts)
    assert not fakes.OPENED


def test_bad_inputs_never_reach_the_runtime() -> None:
    model = load()
    with pytest.raises(InputError):
        model({"x": X.astype(np.float64)})
    assert len(fakes.OPENED[0].threads) == 1
    model.close()


def test_sizes_that_a_variant_fixes_are_checked() -> None:
    fixed = part().model_copy(update={"inputs": (tensor("x", (1, 3)),)})
    model = load(fixed)
    assert model({"x": X})
    with pytest.raises(InputError, match="model 'net' on fake"):
        model({"x": np.zeros((2, 3), np.float32)})
    model.close()


@pytest.mark.parametrize("wrong", ["missing", "dtype", "shape"])
def test_wrong_outputs_are_the_plugins_fault(wrong: str) -> None:
    model = load(part(wrong=wrong))
    with pytest.raises(PluginBrokenError, match="model 'net' on fake"):
        model({"x": X})
    model.close()


def test_whatever_a_runtime_raises_becomes_a_run_error_with_its_name() -> None:
    model = load(part(fail=True))
    with pytest.raises(RunError, match="model 'net' on fake failed: ArithmeticError: the device is on fire"):
        model({"x": X})
    model.close()
    with pytest.raises(RunError, match="could not be opened: ValueError: no such kernel"):
        load(part(refuse=True))
    with pytest.raises(RunError, match="the file is of a newer version"):
        load(part(refuse_kindly=True))
    with pytest.raises(PluginMissingError):
        load(part("fake.none"))


def test_a_failing_later_part_closes_the_earlier_ones() -> None:
    with pytest.raises(RunError):
        load(part(gives="a"), part(takes="a", refuse=True))
    assert [session.closed for session in fakes.OPENED] == [1]


def test_without_the_word_one_owner_thread_does_everything() -> None:
    model = load(part(sleep_s=0.01))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: model({"x": X}), range(8)))
    model.close()
    (session,) = fakes.OPENED
    assert session.most_busy == 1
    assert len(set(session.threads)) == 1 and threading.get_ident() not in session.threads
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sdkpack-net")]


def test_with_the_word_calls_go_in_side_by_side() -> None:
    model = load(part("fake.fast", sleep_s=0.05))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: model({"x": X}), range(4)))
    model.close()
    assert fakes.OPENED[0].most_busy > 1


@pytest.mark.parametrize(("runtime", "shared"), [("fake", False), ("fake.clone", True)])
def test_instances_run_side_by_side_and_say_whether_they_share(runtime: str, shared: bool) -> None:
    model = load(part(runtime, sleep_s=0.05), resources=Resources(instances=3, threads=7, memory_limit_bytes=900))
    assert model.copies == 3 and model.weights_shared is shared
    began = time.monotonic()
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: model({"x": X}), range(3)))
    assert time.monotonic() - began < 0.14  # three times 0.05 one after another
    assert {session.most_busy for session in fakes.OPENED} == {1}
    request = fakes.OPENED[0].request
    assert (request.threads, request.memory_limit_bytes) == (2, 300)
    model.close()
    assert [session.closed for session in fakes.OPENED] == [1, 1, 1]


def test_a_concurrent_runtime_serves_all_instances_from_one_copy_with_the_whole_budget() -> None:
    resources = Resources(instances=3, threads=6, memory_limit_bytes=900)
    model = load(part("fake.fast", sleep_s=0.05), resources=resources)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: model({"x": X}), range(3)))
    assert (model.copies, model.weights_shared, len(fakes.OPENED)) == (1, True, 1)
    assert fakes.OPENED[0].most_busy > 1
    assert (fakes.OPENED[0].request.threads, fakes.OPENED[0].request.memory_limit_bytes) == (6, 900)
    model.close()


def test_one_instance_shares_with_nobody_and_budgets_are_whole() -> None:
    model = load(resources=Resources(threads=4))
    assert model.weights_shared and fakes.OPENED[0].request.threads == 4
    model.close()


def test_at_least_one_thread_each() -> None:
    assert Resources(threads=2).divided(5) == (1, None)


@pytest.mark.parametrize("runtime", ["fake", "fake.clone"])
def test_a_deadline_ends_the_wait_for_a_busy_instance(runtime: str) -> None:
    model = load(part(runtime, sleep_s=0.3), resources=Resources(instances=2))
    with ThreadPoolExecutor(2) as pool:
        busy = [pool.submit(model, {"x": X}) for _ in range(2)]
        time.sleep(0.05)
        with pytest.raises(RunError, match="deadline"):
            model({"x": X}, deadline=Deadline.after(0.05))
        assert all(future.result() for future in busy)
    assert model({"x": X}, deadline=Deadline.after(5.0))
    model.close()


def test_an_encrypted_model_is_opened_as_secret() -> None:
    load(encrypted=True).close()
    assert fakes.OPENED[0].request.encrypted


def test_closes_twice_and_refuses_use_after() -> None:
    model = load()
    model.close()
    model.close()
    assert fakes.OPENED[0].closed == 1
    with pytest.raises(UsageError, match="model 'net' is closed"):
        model({"x": X})


def test_close_waits_for_calls_under_way() -> None:
    model = load(part(sleep_s=0.2))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(model, {"x": X})
        time.sleep(0.05)
        model.close()
        assert running.done()
        np.testing.assert_array_equal(running.result()["y"], X)


def test_a_part_that_fails_to_close_keeps_no_other_open(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(part(gives="a"), part(takes="a"))

    def fail() -> None:
        raise RunError("stuck")

    monkeypatch.setattr(fakes.OPENED[1], "close", fail)
    with pytest.raises(RunError, match="stuck"):
        model.close()
    assert fakes.OPENED[0].closed == 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sdkpack-net")]

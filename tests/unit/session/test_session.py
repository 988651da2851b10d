from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import sdkpack
from sdkpack.errors import (
    DeadlineError,
    InputError,
    NoFittingVariantError,
    PipelineError,
    PluginMissingError,
    RunError,
    SdkpackError,
    UsageError,
)
from sdkpack.session import Session
from tests.unit.session import bundles, fakes
from tests.unit.session.bundles import BIAS, FAKES, Publisher, fake_model, files, manifest
from tests.unit.session.fakes import entry, part, variant

X = np.array([[1, 2, 3]], np.float32)
Opener = Callable[..., Session]


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    return Publisher.new(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def opened(publisher: Publisher) -> Iterator[Opener]:
    fakes.OPENED.clear()
    sessions: list[Session] = []

    def open_one(model: Any = None, *, document: Any = None, **options: Any) -> Session:
        made = document or manifest({"net": model} if model else None)
        path = publisher.write(made.to_object(), files())
        session = sdkpack.open(path, trust=publisher.public, keys=[publisher.key], plugins=[FAKES], **options)
        sessions.append(session)
        return session

    yield open_one
    for session in sessions:
        session.close()
    fakes.OPENED.clear()


def test_runs_a_pipeline_and_a_model(opened: Opener) -> None:
    session = opened()
    np.testing.assert_array_equal(session.run("main", x=X)["result"], 2 * X + BIAS)
    np.testing.assert_array_equal(session.run("net", x=X)["y"], X + BIAS)
    np.testing.assert_array_equal(session.run("net", {"x": X})["y"], X + BIAS)
    np.testing.assert_array_equal(session.model("net")({"x": X})["y"], X + BIAS)
    assert len(fakes.OPENED) == 1


def test_opens_models_at_their_first_use_or_eagerly(opened: Opener) -> None:
    opened()
    assert not fakes.OPENED
    opened(eager=True)
    assert len(fakes.OPENED) == 1


def test_one_thread_opens_and_the_others_wait(opened: Opener) -> None:
    session = opened()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: session.run("main", x=X), range(16)))
    assert len(fakes.OPENED) == 1


def test_trace_sees_every_value_and_until_stops_early(opened: Opener) -> None:
    session = opened()
    seen: list[tuple[str, str]] = []
    session.run("main", x=X, trace=lambda step, name, _: seen.append((step, name)))
    assert seen == [("double", "twice"), ("net", "y")]
    np.testing.assert_array_equal(session.run("main", x=X, until="twice")["twice"], 2 * X)
    seen.clear()
    session.run("net", x=X, trace=lambda step, name, _: seen.append((step, name)))
    assert seen == [("net", "y")]
    with pytest.raises(UsageError, match="until are for pipelines"):
        session.run("net", x=X, until="y")


def test_unknown_names_are_told_with_the_nearest(opened: Opener) -> None:
    session = opened()
    with pytest.raises(UsageError, match="no pipeline or model 'mian'") as caught:
        session.run("mian", x=X)
    assert caught.value.hint == "did you mean 'main'?"
    with pytest.raises(UsageError) as caught:
        session.model("zzz")
    assert caught.value.hint == "it has main, net"
    with pytest.raises(UsageError):
        session.warm_up("zzz")


def test_wrong_inputs_are_input_errors(opened: Opener) -> None:
    session = opened()
    for name in ("main", "net"):
        with pytest.raises(InputError):
            session.run(name, x=X.astype(np.float64))
        with pytest.raises(InputError):
            session.run(name, y=X)


def test_run_many_keeps_the_order_and_names_the_item_that_failed(opened: Opener) -> None:
    for instances in (1, 3):
        session = opened(instances=instances)
        items = [{"x": X * number} for number in range(7)]
        results = session.run_many("net", items)
        for number, result in enumerate(results):
            np.testing.assert_array_equal(result["y"], X * number + BIAS)
        items[4] = {"x": X[0]}
        with pytest.raises(InputError, match="item 4"):
            session.run_many("net", items)


def test_warm_up_uses_the_recorded_inputs_or_zeros(opened: Opener) -> None:
    session = opened()
    session.warm_up("main")
    assert len(fakes.OPENED[0].threads) == 2
    session = opened(fake_model().model_copy(update={"golden": None}))
    session.warm_up()
    assert len(fakes.OPENED[1].threads) == 2


def test_close_is_idempotent_and_refuses_use_after(opened: Opener) -> None:
    with opened() as session:
        session.run("net", x=X)
    session.close()
    assert fakes.OPENED[0].closed == 1
    for use in (lambda: session.run("net", x=X), lambda: session.model("net"), session.warm_up, session.load):
        with pytest.raises(UsageError, match=r"session of net 1\.0\.0 is closed"):
            use()


def test_close_waits_for_runs_under_way(opened: Opener) -> None:
    session = opened(fake_model(sleep_s=0.2))
    session.load()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(session.run, "net", x=X)
        time.sleep(0.05)
        session.close()
        assert running.done()
        np.testing.assert_array_equal(running.result()["y"], X + BIAS)


def test_close_from_within_a_run_is_refused_instead_of_waiting_for_ever(opened: Opener) -> None:
    session = opened()
    with pytest.raises(UsageError, match="from within"):
        session.run("net", x=X, trace=lambda *_: session.close())
    assert session.run("net", x=X)


def _use_in_fork(session: Session, queue: Any) -> None:
    for use in (lambda: session.run("net", x=X), lambda: session.model("net"), session.warm_up):
        try:
            use()
            queue.put("worked")
        except SdkpackError as error:
            queue.put(f"{type(error).__name__}: {error}")
    session.close()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_use_in_a_fork_is_refused_and_leaves_the_parent_alone(opened: Opener) -> None:
    session = opened()
    session.run("net", x=X)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_use_in_fork, args=(session, queue))
    child.start()
    answers = [queue.get(timeout=10) for _ in range(3)]
    child.join(10)
    assert child.exitcode == 0
    assert all(answer.startswith("UsageError: session of net 1.0.0 was opened in process") for answer in answers)
    assert session.run("net", x=X) and fakes.OPENED[0].closed == 0


def test_a_deadline_ends_a_run(opened: Opener) -> None:
    session = opened(fake_model(sleep_s=0.1))
    with pytest.raises(DeadlineError):
        session.run("main", x=X, deadline_s=0.0)
    with pytest.raises(DeadlineError):
        session.run("net", x=X, deadline_s=0.0)
    assert session.run("main", x=X, deadline_s=30.0)


def test_a_failing_runtime_is_a_run_error_and_the_session_lives_on(opened: Opener) -> None:
    session = opened(fake_model(fail=True))
    for _ in range(2):
        with pytest.raises(RunError, match="the device is on fire"):
            session.run("main", x=X)


def test_the_variant_is_chosen_and_info_says_why(opened: Opener) -> None:
    good = fake_model().variants[0]
    model = fake_model().model_copy(update={"variants": (variant("npu", token="foreign"), good)})
    session = opened(model, threads=4)
    session.run("net", x=X)
    facts = session.info()
    assert facts["encrypted"] and facts["identity"].startswith("sha256:") and len(facts["signed_by"]) == 1
    net = facts["models"]["net"]
    assert (net["loaded"], net["target"], net["runtimes"], net["copies"]) == (True, "cpu", ["fake"], 1)
    assert net["refused"] == [{"target": "npu", "reason": "was compiled for another chip"}]
    assert net["size_bytes"] == BIAS.nbytes
    assert facts["pipelines"]["main"]["inputs"] == {"x": "tensor(float32, [N, 3])"}
    import json

    json.dumps(facts, allow_nan=False)


def test_a_model_that_fits_nowhere_spoils_only_what_needs_it(opened: Opener) -> None:
    lost = entry(variant("npu", token="foreign"))
    session = opened(document=manifest({"net": fake_model(), "lost": lost}))
    assert session.run("main", x=X)
    with pytest.raises(NoFittingVariantError):
        session.run("lost", x=X)
    assert session.info()["models"]["lost"]["refused"][0]["reason"] == "was compiled for another chip"
    with pytest.raises(NoFittingVariantError):
        opened(document=manifest({"net": fake_model(), "lost": lost}), eager=True)


def test_prefer_and_targets_are_checked_against_the_bundle(opened: Opener) -> None:
    good = fake_model().variants[0]
    model = fake_model().model_copy(update={"variants": (good, good.model_copy(update={"target": "gpu"}))})
    assert opened(model).choice("net").variant.target == "cpu"
    assert opened(model, prefer=["gpu"]).choice("net").variant.target == "gpu"
    assert opened(model, targets=["gpu"]).choice("net").variant.target == "gpu"
    with pytest.raises(UsageError, match="no target 'gqu'") as caught:
        opened(model, prefer=["gqu"])
    assert caught.value.hint == "did you mean 'gpu'?"


def test_budgets_reach_the_runner(opened: Opener) -> None:
    session = opened(fake_model("fake.clone"), threads=6, instances=2, memory_limit=4000)
    session.load()
    request = fakes.OPENED[0].request
    assert (request.threads, request.memory_limit_bytes, request.encrypted) == (3, 2000, True)
    assert session.info()["models"]["net"]["weights_shared"] is True
    assert opened(instances=2, eager=True).info()["models"]["net"]["weights_shared"] is False


def test_a_memory_limit_below_the_models_is_refused_before_loading(opened: Opener) -> None:
    with pytest.raises(RunError, match="12 bytes, which is above the memory limit of 11"):
        opened(memory_limit=11, eager=True)
    assert not fakes.OPENED


@pytest.mark.parametrize("option", [{"threads": 0}, {"instances": 0}, {"memory_limit": -1}])
def test_senseless_options_are_refused(opened: Opener, option: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="expected a whole number"):
        opened(**option)


def test_a_pipeline_that_does_not_fit_together_is_refused_at_open(opened: Opener) -> None:
    broken = manifest().model_dump(by_alias=True)
    broken["pipelines"]["main"]["steps"][1]["inputs"] = {"x": "thrice"}
    with pytest.raises(PipelineError, match="thrice"):
        opened(document=type(manifest()).model_validate(broken))


def test_an_operator_that_is_not_installed_is_named_at_open(publisher: Publisher) -> None:
    path = publisher.write(manifest().to_object(), files())
    with pytest.raises(PluginMissingError, match=r"fake\.times"):
        sdkpack.open(path, trust=publisher.public, keys=[publisher.key], plugins=[])
    path = publisher.write(manifest(plugins={"acme-times": "1.2"}).to_object(), files())
    with pytest.raises(PluginMissingError) as caught:
        sdkpack.open(path, trust=publisher.public, keys=[publisher.key], plugins=[])
    assert caught.value.hint == "the bundle was made with: pip install acme-times==1.2"


def test_no_thread_is_left_behind(opened: Opener) -> None:
    session = opened(instances=2)
    session.run_many("net", [{"x": X}] * 4)
    session.close()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("sdkpack")]


def test_loads_nothing_with_the_name_of_a_part_that_the_bundle_lacks(opened: Opener, publisher: Publisher) -> None:
    bad = part().model_copy(update={"files": {"weights": "models/net/none.bin"}})
    made = manifest({"net": entry(variant("cpu", bad))})
    path = publisher.write(made.to_object(), files())
    with pytest.raises(SdkpackError, match=r"models/net/none\.bin") as caught:
        sdkpack.open(path, trust=publisher.public, keys=[publisher.key], plugins=[FAKES])
    assert caught.value.exit_code == 4


def test_logs_hold_neither_inputs_nor_keys(
    opened: Opener, publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    import logging

    secret = publisher.key.read_text().splitlines()[-1][-20:]
    with caplog.at_level(logging.DEBUG):
        session = opened()
        session.run("main", x=np.full((1, 3), 123456.5, np.float32))
        with pytest.raises(SdkpackError) as caught:
            session.run("main", x=np.full((1, 4), 123456.5, np.float32))
    assert "opened target cpu" in caplog.text
    for text in (caplog.text, str(caught.value), str(caught.value.as_dict())):
        assert "123456" not in text and "246913" not in text and secret not in text
    assert not logging.getLogger("sdkpack").handlers


def test_bundles_helper_is_real(publisher: Publisher) -> None:
    path = publisher.write(manifest().to_object(), files())
    assert BIAS.tobytes() not in path.read_bytes()
    plain = publisher.write(manifest().to_object(), files(), encrypted=False)
    assert BIAS.tobytes() in plain.read_bytes() and bundles.BIAS is BIAS

"""Runner halves outside of this process: the same answers, and no way of ending that this process feels."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdkpack.errors import PluginBrokenError, PluginError, RunError
from sdkpack.host.runners import RemoteRunner, RemoteSession
from sdkpack.host.tools import ToolHost
from sdkpack.plugin import EnvironmentSpec, Half, OpenRequest
from sdkpack.session.blobs import FileBlob
from sdkpack.types import TensorSpec
from tests.unit.host import apart
from tests.unit.host.conftest import CANARY, registered

ROOT = Path(__file__).parents[3]
X = np.array([1, 2, 3, 4], np.float32)
BAD = np.array([-1, 2, 3, 4], np.float32)


@pytest.fixture(scope="session")
def host() -> ToolHost:
    """Its environments are kept between runs, as a user's are."""
    folder = str(ROOT / "build" / "envs" / "runners")
    made = ToolHost(environ={**os.environ, "SDKPACK_ENVIRONMENTS": folder, "ACME_TOKEN": CANARY})
    try:
        made.environments.ensure(apart.ENVIRONMENT, plugin="test.apart")
    except PluginError as error:
        pytest.skip(f"no package index with {apart.ENVIRONMENT.requirements[0]} here: {error}")
    return made


@pytest.fixture(scope="session")
def runner(host: ToolHost) -> RemoteRunner:
    row = registered(apart.info())
    return host.runner(row, row.info.runner)


@pytest.fixture
def request_(tmp_path: Path) -> OpenRequest:
    path = tmp_path / "weights.bin"
    path.write_bytes(np.arange(4, dtype=np.float32).tobytes())
    return asking(files={"weights": FileBlob(path)})


@pytest.fixture
def session(runner: RemoteRunner, request_: OpenRequest) -> Iterator[RemoteSession]:
    made = runner.open(request_)
    yield made
    made.close()


def asking(**more: Any) -> OpenRequest:
    spec = TensorSpec(name="x", dtype="float32", shape=("N",))
    return OpenRequest(**{"files": {}, "inputs": (spec,), "outputs": (replace(spec, name="y"),), **more})


def faulty(request: OpenRequest, fault: str) -> OpenRequest:
    return replace(request, options={"fault": fault})


def children(name: bytes) -> list[int]:
    """Processes whose command line has `name` in it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += [int(path.parent.name)] if name in path.read_bytes() else []
        except OSError:
            continue
    return found


def test_it_answers_as_in_this_process(runner: RemoteRunner, session: RemoteSession, request_: OpenRequest) -> None:
    inside = apart.Runner().open(request_)
    for array in (X, X[::-1], np.zeros((3, 4), np.float32), np.float32(2.5)):
        np.testing.assert_array_equal(session.run({"x": array})["y"], inside.run({"x": array})["y"])
    (device,) = runner.devices()
    assert (device.name, device.kind) == ("apart", "simulator")
    assert runner.check({}, "mine").verdict == "best"
    assert runner.check({}, "foreign").reason == "another chip"


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "complex64", "bfloat16", "float8_e4m3fn"])
def test_arrays_keep_their_element_type(dtype: str) -> None:
    from sdkpack_job import frames

    array = np.arange(6).reshape(2, 3).astype(frames._dtype(np, dtype))
    for sent in (array, array[:, ::2], array[:0], array[0, 0]):
        (came,) = _through({"a": sent})
        assert (came.dtype, came.shape) == (np.asarray(sent).dtype, np.asarray(sent).shape)
        assert came.tobytes() == np.asarray(sent).tobytes()


def test_strings_and_foreign_byte_orders_arrive() -> None:
    words = np.array([["a", "ü"], ["", "long\n"]], dtype=object)
    (came,) = _through({"words": words})
    assert came.tolist() == words.tolist()
    (came,) = _through({"a": np.arange(3, dtype=">i4")})
    assert came.tolist() == [0, 1, 2]


def _through(arrays: dict[str, Any]) -> list[Any]:
    import io

    from sdkpack_job import frames

    stream = io.BytesIO(b"".join(frames.message({"call": "run"}, arrays)))
    head, found = frames.receive(stream.readinto, 1 << 20)
    assert head == {"call": "run"}
    return list(found.values())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"HTTP/1.1 200", "no message begins like this"),
        (b"SDK1" + (1 << 40).to_bytes(8, "little"), "no message begins like this"),
        (b'{"arrays": [["y", "object", [1]]]}', "unknown element type 'object'"),
        (b'{"arrays": [["y", "float32", [-1]]]}', "has the sizes"),
        (b'{"arrays": [["y", "float32", [99999999999, 9999999999]]]}', "cannot be read"),
        (b'{"arrays": [["y", "string", [1], [3]]]}', "holds something else"),
        (b'{"arrays": [["y", "string", [7], ["a"]]]}', "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b"{}", "cannot be read"),
    ],
)
def test_what_is_no_message_is_refused(content: bytes, message: str) -> None:
    import io

    from sdkpack_job import frames

    if content[:1] in b"{[":
        content = b"SDK1" + len(content).to_bytes(8, "little") + content
    with pytest.raises(frames.FrameError, match=message):
        frames.receive(io.BytesIO(content).readinto, 1 << 20)


FAULTS = {
    "segfault": (RunError, "the process of 'test.apart' was ended by SIGSEGV"),
    "quit": (RunError, "the process of 'test.apart' ended by itself"),
    "garbage": (PluginBrokenError, "plugin 'test.apart': its process answered with what is no answer: no message"),
    "huge": (PluginBrokenError, "its process answered with what is no answer: a message cannot be read"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_an_error_and_the_next_call_works(runner: RemoteRunner, request_: OpenRequest, fault: str) -> None:
    session = runner.open(faulty(request_, fault))
    kind, message = FAULTS[fault]
    with pytest.raises(kind, match=message) as caught:
        session.run({"x": BAD})
    if fault == "segfault":
        assert caught.value.hint == "it printed last: about to read nothing"
    np.testing.assert_array_equal(session.run({"x": X})["y"], X + np.arange(4))
    session.close()


@pytest.mark.parametrize(("fault", "message"), [("raise", "ArithmeticError: the device is on fire"),
                                                ("objects", "TypeError: 'y' is an array of objects")])  # fmt: skip
def test_an_exception_leaves_the_process_alive(
    runner: RemoteRunner, request_: OpenRequest, fault: str, message: str
) -> None:
    session = runner.open(faulty(request_, fault))
    worker = session._worker
    with pytest.raises(RunError, match=message):
        session.run({"x": BAD})
    assert session.run({"x": X})["y"].tolist() == [1, 3, 5, 7]
    assert session._worker is worker
    session.close()


def test_a_hang_ends_with_its_time(runner: RemoteRunner, request_: OpenRequest) -> None:
    session = runner.open(faulty(request_, "hang"))
    with pytest.raises(RunError, match=r"'test.apart' took longer than 0.3 s and its process was ended"):
        session.run({"x": BAD}, limit_s=0.3)
    assert session.run({"x": X})["y"].tolist() == [1, 3, 5, 7]
    session.close()


def test_one_that_talks_is_not_held_up(runner: RemoteRunner, request_: OpenRequest) -> None:
    session = runner.open(faulty(request_, "talk"))
    assert session.run({"x": BAD})["y"].tolist() == BAD.tolist()
    session.close()


def test_refusals_and_crashes_while_opening(runner: RemoteRunner) -> None:
    with pytest.raises(RunError, match="the driver refused the program") as caught:
        runner.open(asking(options={"refuse": True}))
    assert caught.value.hint == "pack it again"
    with pytest.raises(RunError, match="was ended by SIGSEGV"):
        runner.open(asking(options={"crash_at_open": True}))
    with pytest.raises(RunError, match="was ended by SIGABRT"):
        runner.check({"crash": True}, "")


def test_a_class_that_is_not_there_is_told(host: ToolHost) -> None:
    half = Half(load=f"{apart.__name__}:Absent", isolation="environment", environment=apart.ENVIRONMENT)
    row = registered(apart.info(runner=half))
    with pytest.raises(PluginBrokenError, match=r"'test.apart' cannot be loaded in its environment: AttributeError"):
        host.runner(row, half).devices()


def test_an_environment_is_not_built_by_who_opens_a_bundle(host: ToolHost) -> None:
    spec = EnvironmentSpec(requirements=("no-such-package==1",), smoke_test="import x")
    half = Half(load=f"{apart.__name__}:Runner", isolation="environment", environment=spec)
    with pytest.raises(PluginError, match=r"the environment of runtime 'test.apart' is not built yet") as caught:
        host.runner(registered(apart.info(runner=half)), half)
    assert caught.value.hint == "sdkpack plugins env build test.apart"


def test_close_ends_the_process_and_takes_its_folder_away(runner: RemoteRunner, request_: OpenRequest) -> None:
    session = runner.open(request_)
    assert session._worker is not None
    folder = session._worker._folder
    assert children(str(folder).encode())
    session.close()
    session.close()
    assert not children(str(folder).encode())
    assert not folder.exists()
    with pytest.raises(RunError, match="the session is closed"):
        session.run({"x": X})


def test_a_forgotten_session_takes_its_process_with_it(runner: RemoteRunner, request_: OpenRequest) -> None:
    session = runner.open(request_)
    assert session._worker is not None
    folder = session._worker._folder
    del session
    assert not children(str(folder).encode())
    assert not folder.exists()


def test_closing_ends_a_call_that_hangs(runner: RemoteRunner, request_: OpenRequest) -> None:
    session = runner.open(faulty(request_, "hang"))
    told: list[str] = []

    def call() -> None:
        try:
            session.run({"x": BAD})
        except RunError as error:
            told.append(error.message)

    thread = threading.Thread(target=call)
    thread.start()
    time.sleep(0.2)
    begin = time.monotonic()
    session.close()
    thread.join()
    assert time.monotonic() - begin < 30, "not the 60 s of the descriptor"
    assert told == ["the session was closed while 'test.apart' was still running"]


def test_a_second_thread_waits(session: RemoteSession) -> None:
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda n=number: found.append((n, session.run({"x": X + n})["y"][0])))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [(number, 1.0 + number) for number in range(8)]


def test_what_is_secret_stays_in_memory(runner: RemoteRunner, request_: OpenRequest) -> None:
    session = runner.open(replace(faulty(request_, "look"), encrypted=True))
    told = session.run({"x": BAD})["y"].tolist()
    session.close()
    assert not [line for line in told if line.startswith("wrote")]
    assert "changed the weights" not in told
    assert "weights 16 .bin" in told
    assert {line.partition("=")[0] for line in told if "=" in line} >= {"PATH", "HOME", "TMPDIR"}
    assert CANARY not in "".join(told)


def test_what_is_not_secret_may_be_cached(runner: RemoteRunner, request_: OpenRequest) -> None:
    session = runner.open(faulty(request_, "look"))
    assert session.enforced["files"].startswith("landlock") or "not enforced" in session.enforced["files"]
    told = session.run({"x": BAD})["y"].tolist()
    session.close()
    assert len([line for line in told if line.startswith("wrote")]) == 3


def test_its_environment_cannot_be_removed_meanwhile(host: ToolHost, session: RemoteSession) -> None:
    from sdkpack.errors import OutputError

    environment = host.environments.find(apart.ENVIRONMENT)
    assert environment is not None
    with pytest.raises(OutputError, match="is in use"):
        host.environments.remove(environment.name)


def test_a_killed_process_is_noticed(session: RemoteSession, caplog: pytest.LogCaptureFixture) -> None:
    assert session._worker is not None
    (first, *_) = sorted(children(str(session._worker._folder).encode()))
    os.kill(first, 9)
    deadline = time.monotonic() + 10
    while session._worker.alive and time.monotonic() < deadline:
        time.sleep(0.01)
    assert session.run({"x": X})["y"].tolist() == [1, 3, 5, 7]
    assert "the process of test.apart had ended and is started anew" in caplog.text

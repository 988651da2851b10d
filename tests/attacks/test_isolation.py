"""THREATS row 24: a toolchain that reads secrets, uses the network, forks, takes 4 GiB, fills the disk.

Each probe is a job that tries, with something real behind it that it would reach from an ordinary process. Either it is
blocked, or what was enforced says `not enforced` with the reason: never neither.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import sdkpack_job
from sdkpack.errors import StepError
from sdkpack.host import sandbox
from tests.unit.host.conftest import CANARY, Bench, bench, environments_root

__all__ = ["bench", "environments_root"]


def blocked(bench: Bench, measure: str) -> None:
    if bench.found.startswith("refused"):
        return
    told = bench.isolation.get(measure, "")
    assert told.startswith("not enforced"), f"the probe got through ({bench.found!r}) though {measure} is {told!r}"
    pytest.skip(f"this kernel does not stop it, and that is told: {told}")


@pytest.fixture
def listener() -> Iterator[str]:
    """A server on this machine that greets whoever connects."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield from _serve(server, f"127.0.0.1:{server.getsockname()[1]}")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[str]:
    """A local socket, as a container engine or an SSH agent has one."""
    path = str(tmp_path / "agent.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        yield from _serve(server, path)


def _serve(server: socket.socket, where: str) -> Iterator[str]:
    server.settimeout(0.2)
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            try:
                with server.accept()[0] as connection:
                    connection.sendall(CANARY.encode())
            except TimeoutError:
                continue

    thread = threading.Thread(target=run)
    thread.start()
    yield where
    stop.set()
    thread.join()


def test_1_it_cannot_read_files_beside_its_input(bench: Bench) -> None:
    key = bench.source.parent / "signing.key"
    key.write_text(CANARY)
    bench.convert("read", str(key))
    blocked(bench, "files")
    assert CANARY not in bench.log_of_job


def test_2_it_cannot_read_the_environment_of_its_parent(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], env={**os.environ, "ACME_TOKEN": CANARY}
    )
    try:
        for target in (str(os.getpid()), str(child.pid), "self/../1"):
            bench.convert("parent_environment", target)
            if not bench.found.startswith("refused"):
                assert CANARY not in bench.found
                assert "PYTEST_CURRENT_TEST" not in bench.found
                blocked(bench, "processes")
    finally:
        child.kill()
        child.wait()
    bench.convert("environment")
    assert CANARY not in bench.found


def test_3_it_cannot_connect(bench: Bench, listener: str) -> None:
    bench.convert("network", listener)
    blocked(bench, "network")


def test_3_it_cannot_talk_to_daemons_of_this_machine(bench: Bench, daemon: str) -> None:
    bench.convert("local_socket", daemon)
    blocked(bench, "network")


def test_3_the_user_may_grant_a_network_to_who_asks(bench: Bench, listener: str) -> None:
    from dataclasses import replace

    bench.host = replace(bench.host, environ={**bench.host.environ, "SDKPACK_NETWORK": "acme.other, test.text"})
    bench.convert("network", listener)
    assert bench.found.startswith("refused"), "it never asked"
    bench.convert("network", listener, capabilities=("network",))
    assert bench.found == f"got {CANARY}"
    assert bench.isolation["network"] == "granted by the user"


def test_4_forks_are_bounded_and_end_with_the_job(bench: Bench) -> None:
    with pytest.raises(StepError, match=r"processes|Resource temporarily unavailable|memory"):
        bench.convert("fork")
    names = [path.name for path in Path("/proc").iterdir() if path.name.isdigit()]
    mine = [name for name in names if _belongs_to_job(name, str(bench.folder))]
    assert mine == []


def test_5_memory_is_bounded(bench: Bench) -> None:
    with pytest.raises(StepError, match="memory ran out"):
        bench.convert("memory")


@pytest.mark.parametrize("fault", ["one_file", "many_files", "talk"])
def test_6_the_disk_is_bounded(bench: Bench, fault: str) -> None:
    with pytest.raises(StepError, match="it wrote more than"):
        bench.convert(fault)
    used = sum(path.stat().st_size for path in bench.folder.rglob("*") if path.is_file())
    assert used < 256 << 20


@pytest.mark.parametrize(
    "target", [lambda bench: bench.source, lambda bench: bench.store.root / "objects" / ("0" * 64), lambda _: _site()]
)
def test_7_it_cannot_write_outside_of_its_folder(bench: Bench, target: Callable[[Bench], Path]) -> None:
    path = target(bench)
    before = path.read_bytes() if path.exists() else None
    try:
        bench.convert("write", str(path))
        blocked(bench, "files")
        assert (path.read_bytes() if path.exists() else None) == before
    finally:
        if before is None:
            path.unlink(missing_ok=True)


def test_8_it_cannot_end_its_parent(bench: Bench) -> None:
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        bench.convert("kill", str(victim.pid))
        alive = victim.poll() is None
        if not alive:
            blocked(bench, "processes")
        assert alive
    finally:
        victim.kill()
        victim.wait()


def test_there_is_no_pip(bench: Bench) -> None:
    bench.convert("pip")
    assert bench.found == "refused there is no pip"


def test_the_store_stays_whole(bench: Bench) -> None:
    before = {path.name for path in (bench.store.root / "objects").iterdir()}
    for fault in ("segfault", "one_file", "fake_answer"):
        with pytest.raises(Exception, match=r"test\.text"):
            bench.convert(fault)
    assert {path.name for path in (bench.store.root / "objects").iterdir()} == before
    assert bench.store.verify() == ()


def _site() -> Path:
    """Where a toolchain would hide something for the next start of sdkpack."""
    import sdkpack

    return Path(sdkpack.__file__).parent / "planted.py"


def _belongs_to_job(name: str, folder: str) -> bool:
    try:
        return folder in Path("/proc", name, "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return False


# The probes themselves --------------------------------------------------------------------------------------------------
REFUSING = """
import errno, os

CLONE_NEWNS = CLONE_NEWIPC = CLONE_NEWUSER = CLONE_NEWPID = CLONE_NEWNET = 0


def refuse(*_):
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


unshare = mount_proc = die_with_parent = no_new_privileges = drop_capabilities = landlock = refuse_sockets = refuse


def landlock_version():
    return 0
"""


@pytest.fixture
def uncaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that refuses every measure that is not a plain limit."""
    package = tmp_path / "launcher"
    shutil.copytree(Path(sdkpack_job.__file__).parent, package)
    (package / "system.py").write_text(REFUSING)
    monkeypatch.setattr(sandbox, "job_package", lambda: package)


def test_without_a_cage_jobs_work_and_everything_is_told(bench: Bench, uncaged: None) -> None:
    bench.convert()
    for measure in ("processes", "network", "files", "privileges"):
        assert bench.isolation[measure] == "not enforced: operation not permitted"
    assert bench.isolation["memory"] == str(1 << 30)


def test_without_a_cage_the_probes_get_through(bench: Bench, uncaged: None, listener: str, daemon: str) -> None:
    """Else their failing inside of it would prove nothing."""
    key = bench.source.parent / "signing.key"
    key.write_text(CANARY)
    bench.convert("read", str(key))
    assert bench.found == f"got {CANARY}"
    bench.convert("network", listener)
    assert bench.found == f"got {CANARY}"
    bench.convert("local_socket", daemon)
    assert bench.found == f"got {CANARY}"
    target = bench.folder / "planted"
    bench.convert("write", str(target))
    assert target.read_text() == "was here"
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    bench.convert("kill", str(victim.pid))
    assert victim.wait(timeout=10) == -15


@pytest.mark.parametrize("fault", ["memory", "one_file", "many_files", "fork"])
def test_without_a_cage_limits_still_hold(bench: Bench, uncaged: None, fault: str) -> None:
    with pytest.raises(StepError):
        bench.convert(fault)


def test_without_a_cage_a_hanging_job_still_ends(bench: Bench, uncaged: None) -> None:
    with pytest.raises(StepError, match="took longer than 1 s"):
        bench.convert("hang", time_limit_s=1.0)


def test_a_machine_without_the_launchers_system_calls_is_told(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "launcher"
    shutil.copytree(Path(sdkpack_job.__file__).parent, package)
    (package / "system.py").write_text("raise ImportError('no ctypes here')\n")
    monkeypatch.setattr(sandbox, "job_package", lambda: package)
    bench.convert()
    assert bench.isolation["files"] == "not enforced: no ctypes here"

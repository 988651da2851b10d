"""A real runtime in a process of its own: the same numbers, nothing of a secret on a disk, and a session that lives on."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sdkpack
from sdkpack.build.pack import pack
from sdkpack.build.store import Store
from sdkpack.errors import DeadlineError, PluginError, RunError
from sdkpack.host.environments import Environments
from sdkpack.host.registry import Registry
from sdkpack.pipeline.deadline import Deadline
from sdkpack.session import replay
from sdkpack.session.models import LoadedModel, Resources, open_variant
from tests.integration import ort_apart
from tests.unit.host import apart
from tests.unit.model.models import matmul
from tests.unit.session.bundles import Publisher
from tests.unit.session.fakes import entry, part, variant
from tests.unit.session.onnx_bundle import CANARY, WIDTH, packed, write_model

ROOT = Path(__file__).parents[2]
INSIDE, APART = "sdkpack_onnxruntime.plugin", "tests.integration.ort_apart"
X = np.random.default_rng(3).standard_normal((5, WIDTH)).astype(np.float32)
RECIPE = """
recipe = 1
bundle = { name = "net", version = "1.0.0" }
models.net.source = "net.onnx"
targets.cpu = { runtime = "onnxruntime", with = { threads = 1 } }
"""


@pytest.fixture(scope="module", autouse=True)
def environments() -> Iterator[None]:
    """Kept between runs, as a user's are."""
    root = ROOT / "build" / "envs" / "runners"
    there = Environments(root, dict(os.environ))
    for spec in (ort_apart.ENVIRONMENT, apart.ENVIRONMENT):
        try:
            there.ensure(spec, plugin="test")
        except PluginError as error:
            pytest.skip(f"no package index with {spec.requirements[0]} here: {error}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SDKPACK_ENVIRONMENTS", str(root))
        yield


@pytest.fixture(scope="module", params=["shared", "packed"])
def publisher(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    folder = tmp_path_factory.mktemp("bundle")
    write_model(folder / "net.onnx")
    made = Publisher.new(folder)
    (folder / "work").mkdir()
    manifest, files = packed(folder / "net.onnx", folder / "work", weights=request.param)
    made.write(manifest.to_object(), files, name="sealed.sdkpack")
    made.write(manifest.to_object(), files, name="plain.sdkpack", encrypted=False)
    return made


def opened(publisher: Publisher, name: str, plugin: str, **more: Any) -> Any:
    return sdkpack.open(
        publisher.folder / name, trust=publisher.public, keys=[publisher.key], plugins=[plugin], threads=1, **more
    )


@pytest.mark.parametrize("name", ["sealed.sdkpack", "plain.sdkpack"])
def test_the_same_numbers_in_and_out_of_this_process(publisher: Publisher, name: str) -> None:
    with opened(publisher, name, INSIDE) as session:
        inside = session.run("net", x=X)["y"]
    with opened(publisher, name, APART) as session:
        assert not _maps_onnxruntime(_workers())
        np.testing.assert_array_equal(session.run("net", x=X)["y"], inside)
        assert _maps_onnxruntime(_workers())
        assert all(result.passed for result in replay(session))
        assert session.info()["models"]["net"]["isolation"]["onnxruntime"].keys() >= {"files", "network", "memory"}
    assert not _workers()


def test_no_plaintext_on_a_disk(publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with opened(publisher, "sealed.sdkpack", APART) as session:
        session.run("net", x=X)
        files = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]
        assert {path.name for path in files} == {"job.json", "launch.orders"}
        assert not [path for path in files if CANARY in path.read_bytes()]
        # Nor of a key: what the process was told is read by whoever can read its folder.
        assert publisher.key.read_bytes().split()[-1] not in b"".join(path.read_bytes() for path in files)
    assert not list(tmp_path.iterdir())


def test_a_killed_runtime_is_started_anew(publisher: Publisher) -> None:
    with opened(publisher, "sealed.sdkpack", APART) as session:
        first = session.run("net", x=X)["y"]
        for pid in _workers():
            os.kill(pid, 9)
        until = time.monotonic() + 10
        while _workers() and time.monotonic() < until:
            time.sleep(0.01)
        np.testing.assert_array_equal(session.run("net", x=X)["y"], first)


def test_pack_runs_what_it_compiles_apart(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(matmul(seed=1).SerializeToString())
    (tmp_path / "recipe.toml").write_text(RECIPE)
    made = {}
    for plugin in (INSIDE, APART):
        registry = Registry.of_modules(["sdkpack.builtin.plugin", plugin])
        with Store(tmp_path / plugin) as store:
            made[plugin] = pack(tmp_path, registry=registry, store=store, out=tmp_path / f"{plugin}.sdkpack")
    (inside, outside) = (result.manifest.models["net"].variants[0].evidence for result in made.values())
    assert [finding.tensors for finding in inside] == [finding.tensors for finding in outside]
    assert all(finding.passed for finding in outside)


# What a session makes of a runtime that fails ----------------------------------------------------------------------
def load(fault: str = "", **resources: Any) -> LoadedModel:
    one = variant("cpu", part("test.apart", fault=fault))
    registry = Registry.of_modules([apart.__name__])
    return open_variant(entry(one), one, _none, registry, name="net", resources=Resources(**resources))


def _none(path: str) -> Any:
    raise AssertionError(path)


def ask(model: LoadedModel, value: float, deadline_s: float | None = None) -> list[float]:
    deadline = None if deadline_s is None else Deadline.after(deadline_s)
    found: list[float] = model({"x": np.full((1, 3), value, np.float32)}, deadline=deadline)["y"].ravel().tolist()
    return found


def test_a_crash_names_model_and_runtime() -> None:
    model = load("segfault")
    with pytest.raises(RunError, match=r"the process of 'test.apart' was ended by SIGSEGV") as caught:
        ask(model, -1)
    assert caught.value.where == "model 'net' on test.apart"
    assert ask(model, 2) == [2, 2, 2]
    model.close()


def test_a_deadline_ends_a_call_that_hangs() -> None:
    model = load("hang")
    begin = time.monotonic()
    with pytest.raises(DeadlineError, match=r"the deadline of 0.5 s passed before model 'net' on test.apart was done"):
        ask(model, -1, deadline_s=0.5)
    assert time.monotonic() - begin < 30  # not the 60 s of the descriptor
    assert ask(model, 2) == [2, 2, 2]
    model.close()


def test_each_instance_has_a_process_of_its_own() -> None:
    model = load(instances=2)
    assert (model.copies, model.weights_shared) == (2, False)
    model.close()


def _workers() -> Sequence[int]:
    """Processes below this one that serve a runner."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            line = (path / "cmdline").read_bytes()
            own = f"\0{os.getpid()}\0" in "\0".join(_ancestors(int(path.name)))
            found += [int(path.name)] if b"sdkpack_job" in line and own else []
        except OSError:
            continue
    return found


def _ancestors(pid: int) -> Iterator[str]:
    yield ""
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
        yield str(pid)
    yield ""


def _maps_onnxruntime(pids: Sequence[int]) -> bool:
    return any("onnxruntime" in (Path("/proc") / str(pid) / "maps").read_text() for pid in pids)

"""Whatever fails or dies in a build: the old or the new bundle is whole, the next run cleans up (THREATS 21, 22)."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import onnx
import pytest

from sdkpack.build.pack import pack
from sdkpack.build.store import Store, StoredResult
from sdkpack.bundle import TrustPolicy, open_bundle
from sdkpack.errors import OutputError, SdkpackError
from sdkpack.host.registry import Registry
from tests.attacks.faults import Crash, FaultyFiles
from tests.unit.model.models import matmul

RECIPE = """
recipe = 1
bundle = {{ name = "tiny", version = "{version}" }}
models.net.source = "net.onnx"
targets.cpu.runtime = "onnxruntime"
"""
KEY = "sha256:" + "1" * 64


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.scan()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    onnx.save(matmul(), tmp_path / "net.onnx")
    write_recipe(tmp_path, "1.0.0")
    return tmp_path


def write_recipe(folder: Path, version: str) -> None:
    (folder / "recipe.toml").write_text(RECIPE.format(version=version))


def version_of(path: Path) -> str:
    with open_bundle(path) as bundle:
        return str(bundle.verify(policy=TrustPolicy(allow_unsigned=True)).manifest["version"])


def leftovers(*folders: Path) -> list[Path]:
    return [path for folder in folders for path in folder.rglob("*") if path.name.endswith(".part")]


# Each operation of the bundle's file system -----------------------------------------------------------------------
@pytest.mark.parametrize("fault", ["crash", "torn", "EIO", "ENOSPC", "short"])
def test_each_operation_on_the_output_may_fail(fault: str, folder: Path, registry: Registry) -> None:
    out = folder / "dist"
    out.mkdir()
    with Store(folder / "store") as store:
        options: dict[str, Any] = {"registry": registry, "store": store, "out": out / "b.sdkpack", "overwrite": True}
        pack(folder, **options)
        write_recipe(folder, "1.0.1")
        counting = FaultyFiles()
        pack(folder, **options, files=counting)
        assert len(counting.log) > 10
        for at in range(len(counting.log)):
            write_recipe(folder, "1.0.0")
            pack(folder, **options)
            write_recipe(folder, "1.0.1")
            files = FaultyFiles(fail_at=at, fault="crash" if fault == "torn" else fault, torn=fault == "torn")
            try:
                pack(folder, **options, files=files)
                assert version_of(out / "b.sdkpack") == "1.0.1"
            except (SdkpackError, Crash):
                assert version_of(out / "b.sdkpack") in ("1.0.0", "1.0.1")
            if fault not in ("crash", "torn"):
                assert leftovers(out) == [], counting.log[at]
        pack(folder, **options)
        assert leftovers(out) == []


# Each operation of the store's ------------------------------------------------------------------------------------
def fill(store: Store) -> None:
    with store.workspaces.work("step") as work:
        (work / "made").write_bytes(b"m" * 5000)
        files = {"made": store.adopt(work / "made", "a/b"), "text": store.put_bytes(b"t" * 5000, "a/b")}
        store.put(KEY, StoredResult(files=files))


@pytest.mark.parametrize("fault", ["crash", "torn", "EIO", "ENOSPC", "short"])
def test_each_operation_of_the_store_may_fail(fault: str, tmp_path: Path) -> None:
    counting = FaultyFiles()
    with Store(tmp_path / "count", files=counting) as store:
        fill(store)
    assert len(counting.log) > 20
    for at in range(len(counting.log)):
        root = tmp_path / str(at)
        files = FaultyFiles(fail_at=at, fault="crash" if fault == "torn" else fault, torn=fault == "torn")
        with suppress(OutputError, Crash), Store(root, files=files) as store:
            fill(store)
        with Store(root) as store:
            assert leftovers(root) == []
            assert store.verify() == (), counting.log[at]
            found = store.get(KEY)
            assert found is None or set(found.files) == {"made", "text"}
            fill(store)
            assert store.get(KEY) is not None


def test_a_cold_build_survives_each_failing_operation_of_the_store(folder: Path, registry: Registry) -> None:
    counting = FaultyFiles()
    with Store(folder / "count", files=counting) as store:
        want = pack(folder, registry=registry, store=store, out=folder / "want.sdkpack").identity
    renames = [at for at, name in enumerate(counting.log) if name.startswith(("rename", "fsync file", "write"))]
    assert len(renames) > 12
    for at in renames[::3]:
        out = folder / f"{at}.sdkpack"
        with Store(folder / "store", files=FaultyFiles(fail_at=at, fault="ENOSPC")) as store:
            try:
                identity = pack(folder, registry=registry, store=store, out=out).identity
            except OutputError as error:
                assert "no space left" in error.message
                assert not out.exists()
            else:
                assert identity == want
    with Store(folder / "store") as store:
        assert pack(folder, registry=registry, store=store, out=folder / "last.sdkpack").identity == want
        assert store.verify() == ()


# Death ------------------------------------------------------------------------------------------------------------
CHILD = """
import sys
from pathlib import Path
import resource
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
from sdkpack.build.pack import pack
from sdkpack.build.store import Store
from sdkpack.errors import SdkpackError
from sdkpack.host.registry import Registry
folder = Path(sys.argv[1])
registry = Registry.scan()
with Store(folder / "store") as store:
    print("begin", flush=True)
    try:
        result = pack(folder, registry=registry, store=store, out=folder / "dist" / "b.sdkpack", overwrite=True)
    except SdkpackError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        sys.exit(error.exit_code)
print(result.identity, flush=True)
"""


def child(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    (folder / "dist").mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(folder), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def big(folder: Path) -> Iterator[Path]:
    """A model that takes long enough to be killed within."""
    onnx.save(matmul(rows=2048, cols=2048), folder / "net.onnx")
    yield folder


@pytest.mark.parametrize("delay_s", [0.0, 0.15, 0.4, 0.8, 1.2])
def test_a_killed_pack_leaves_nothing_that_the_next_does_not_clean(
    big: Path, registry: Registry, delay_s: float
) -> None:
    with child(big) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begin\n"
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    if (big / "dist" / "b.sdkpack").exists():
        assert version_of(big / "dist" / "b.sdkpack") == "1.0.0"
    with Store(big / "store") as store:
        assert store.verify() == ()
        pack(big, registry=registry, store=store, out=big / "dist" / "b.sdkpack", overwrite=True)
    assert leftovers(big / "store", big / "dist") == []
    assert [path.name for path in (big / "store" / "work").iterdir()] == ["gate"]
    assert version_of(big / "dist" / "b.sdkpack") == "1.0.0"


def test_a_file_size_limit_is_a_clean_error(big: Path) -> None:
    with child(big, 1 << 20) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    assert "OutputError" in out
    assert "file too large" in out
    assert list((big / "dist").iterdir()) == []
    assert leftovers(big / "store") == []


def test_several_packers_on_one_target_and_one_store_leave_one_whole_winner(folder: Path) -> None:
    processes = [child(folder) for _ in range(3)]
    outputs = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    assert len({out.splitlines()[-1] for out, _ in outputs}) == 1
    assert version_of(folder / "dist" / "b.sdkpack") == "1.0.0"
    assert leftovers(folder / "store", folder / "dist") == []
    with Store(folder / "store") as store:
        assert store.verify() == ()

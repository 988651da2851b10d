"""The whole way with a real runtime: an ONNX model, split, packed, encrypted, signed, opened, run."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import sdkpack
from sdkpack.session import replay
from tests.unit.session.bundles import Publisher
from tests.unit.session.onnx_bundle import CANARY, WIDTH, packed, write_model

RUNTIME = "sdkpack_onnxruntime.plugin"
X = np.random.default_rng(3).standard_normal((5, WIDTH)).astype(np.float32)


@pytest.fixture(scope="module", params=["shared", "packed"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Publisher, Path]]:
    folder = tmp_path_factory.mktemp("bundle")
    model = folder / "net.onnx"
    write_model(model)
    publisher = Publisher.new(folder)
    (folder / "work").mkdir()
    manifest, files = packed(model, folder / "work", weights=request.param)
    assert CANARY in files["models/net/weights"]
    publisher.write(manifest.to_object(), files, name="sealed.sdkpack")
    publisher.write(manifest.to_object(), files, name="plain.sdkpack", encrypted=False)
    yield publisher, model


@pytest.mark.parametrize("name", ["sealed.sdkpack", "plain.sdkpack"])
def test_computes_what_onnxruntime_computes_from_the_file(made: tuple[Publisher, Path], name: str) -> None:
    publisher, model = made
    expected = onnxruntime.InferenceSession(model).run(None, {"x": X})[0]
    path = publisher.folder / name
    with sdkpack.open(path, trust=publisher.public, keys=[publisher.key], plugins=[RUNTIME], instances=2) as session:
        for _ in range(3):
            gc.collect()
            got = session.run("net", x=X)["y"]
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
        assert all(result.passed for result in replay(session))
        facts = session.info()
    assert facts["models"]["net"]["runtimes"] == ["onnxruntime"]
    assert facts["encrypted"] is (name == "sealed.sdkpack")
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)  # outputs outlive the session


def test_nothing_is_written_to_a_disk(made: tuple[Publisher, Path], tmp_path: Path) -> None:
    publisher, _ = made
    script = f"""
        import os, sys
        import numpy as np
        import sdkpack
        from pathlib import Path
        def written():
            lines = Path("/proc/self/io").read_text().splitlines()
            return int(dict(line.split(": ") for line in lines)["wchar"])  # by every kind of write call
        before = written()
        with sdkpack.open({str(publisher.folder / "sealed.sdkpack")!r}, trust={publisher.public!r},
                          keys=[{str(publisher.key)!r}], plugins=[{RUNTIME!r}]) as session:
            session.run("net", x=np.zeros((1, {WIDTH}), np.float32))
            found = [path for path in Path.cwd().parent.rglob("*") if not path.is_dir()]
            assert not found, found
            open_files = [os.readlink(f"/proc/self/fd/{{fd}}") for fd in os.listdir("/proc/self/fd")
                          if os.path.exists(f"/proc/self/fd/{{fd}}")]
            maps = [line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text().splitlines()]
            names = [row[5] for row in maps if len(row) > 5]
            shared = [row for row in maps if row[1].startswith("rw-s")]  # the other way to write to a file
            deleted = [name for name in {{*open_files, *names}} if "(deleted)" in name]
        print(shared, deleted, written() - before)
    """
    folders = {name: tmp_path / name for name in ("home", "tmp", "cwd", "cache")}
    for folder in folders.values():
        folder.mkdir()
    environment = {
        "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(folders["home"]),
        "TMPDIR": str(folders["tmp"]), "XDG_CACHE_HOME": str(folders["cache"]),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=folders["cwd"], env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["[]", "[]", "0"]
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


def test_the_canary_can_be_found_where_it_is(made: tuple[Publisher, Path]) -> None:
    publisher, model = made
    assert CANARY in model.read_bytes() and CANARY in (publisher.folder / "plain.sdkpack").read_bytes()
    assert CANARY not in (publisher.folder / "sealed.sdkpack").read_bytes()

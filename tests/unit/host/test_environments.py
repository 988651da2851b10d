"""Environments: built once, proven, kept; what is in the way of one is told with the mend."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sdkpack.errors import InterruptedRunError, OutputError, PluginBrokenError, PluginError, UsageError
from sdkpack.host.environments import Environments
from sdkpack.host.indexes import uv_environment
from sdkpack.host.pythons import find_python, matches
from sdkpack.plugin import EnvironmentSpec

ROOT = Path(__file__).parents[3]
EMPTY = EnvironmentSpec(requirements=(), smoke_test="import json")
TOY = EnvironmentSpec(requirements=("acme-toy==1.0",), smoke_test="import acme_toy; assert acme_toy.VERSION == '1.0'")


def wheel(folder: Path, version: str, *, size_bytes: int = 0) -> None:
    """Writes a wheel of one module."""
    folder.mkdir(exist_ok=True)
    info = f"acme_toy-{version}.dist-info"
    files = {
        "acme_toy.py": f"VERSION = {version!r}\n#{'x' * size_bytes}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: acme-toy\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for name, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(text)}\n"
    with zipfile.ZipFile(folder / f"acme_toy-{version}-py3-none-any.whl", "w") as out:
        for name, text in {**files, f"{info}/RECORD": record + f"{info}/RECORD,,\n"}.items():
            out.writestr(name, text)


def user(folder: Path, **changes: str) -> dict[str, str]:
    """A user's environment without any index but `folder`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    settings = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}
    return {**kept, "XDG_CONFIG_HOME": str(folder / "config"), **settings, **changes}


def without_uv(environ: dict[str, str]) -> dict[str, str]:
    folders = environ["PATH"].split(os.pathsep)
    path = os.pathsep.join(folder for folder in folders if not Path(folder, "uv").exists())
    return {**environ, "PATH": path, "SDKPACK_UV": ""}


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    wheel(folder, "1.0")
    wheel(folder, "2.0")
    return folder


@pytest.fixture
def there(tmp_path: Path, wheels: Path) -> Environments:
    return Environments(tmp_path / "environments", without_uv(user(wheels)))


def test_an_environment_is_built_proven_and_found_again(there: Environments) -> None:
    told: list[str] = []
    assert there.find(TOY) is None
    assert there.all() == ()
    made = there.ensure(TOY, plugin="acme.toy", tell=told.append)
    assert told == ["building an environment for 'acme.toy': acme-toy==1.0"]
    assert made.distributions["acme-toy"] == "1.0"
    assert "pip" not in made.distributions
    assert made.size_bytes > 1000
    assert made.folder.stat().st_mode & 0o077 == 0
    done = subprocess.run([made.python, "-m", "pip", "--version"], capture_output=True, check=False)
    assert done.returncode != 0
    broken = Environments(there.root, {"PATH": "/nowhere", "PIP_INDEX_URL": "http://127.0.0.1:9/"})
    assert broken.ensure(TOY, plugin="acme.toy", tell=told.append) == made
    assert len(told) == 1, "what is there needs no index, no network and no installer"
    assert there.all() == (made,)
    assert there.check(made, TOY) == ""


def test_what_is_installed_is_part_of_the_fingerprint(there: Environments) -> None:
    one = there.ensure(TOY, plugin="acme.toy")
    two = there.ensure(
        EnvironmentSpec(requirements=("acme-toy==2.0",), smoke_test="import acme_toy"), plugin="acme.toy"
    )
    assert one.folder != two.folder
    assert one.fingerprint != two.fingerprint
    assert there.ensure(EMPTY, plugin="acme.other").distributions == {}


def test_plugins_that_ask_for_the_same_share_an_environment(there: Environments) -> None:
    made = there.ensure(TOY, plugin="acme.toy")
    told: list[str] = []
    spec = replace(TOY, smoke_test="import acme_toy, json")
    assert there.find(spec) is None, "its own smoke test was not run yet"
    again = there.ensure(spec, plugin="acme.second", tell=told.append)
    assert again.folder == made.folder
    assert told == []
    assert len(again.smoked) == 2
    with pytest.raises(PluginBrokenError, match=r"its smoke test failed with exit code 1: .*no_such_module"):
        there.ensure(replace(TOY, smoke_test="import no_such_module"), plugin="acme.third")
    assert there.find(TOY) is not None, "the others go on using it"


def test_a_resolver_is_no_proof(there: Environments) -> None:
    spec = replace(TOY, smoke_test="import acme_toy; assert acme_toy.VERSION == '3.0'")
    with pytest.raises(PluginBrokenError, match=r"its smoke test failed with exit code 1: AssertionError") as error:
        there.ensure(spec, plugin="acme.toy")
    assert error.value.where == "the environment of 'acme.toy'"
    assert there.all() == ()
    assert not [path for path in there.root.iterdir() if path.is_dir() and path.name != "logs"]


def test_a_missing_requirement_is_told(there: Environments) -> None:
    spec = EnvironmentSpec(requirements=("acme-toy==9.9",), smoke_test="import acme_toy")
    with pytest.raises(PluginError, match=r"acme-toy==9\.9") as error:
        there.ensure(spec, plugin="acme.toy")
    assert error.value.exit_code == 5
    assert error.value.where == "the environment of 'acme.toy'"
    log = Path(error.value.hint.rpartition("its log is ")[2])
    assert "acme-toy" in log.read_text()
    assert there.all() == ()


def test_a_broken_index_is_told(tmp_path: Path, wheels: Path) -> None:
    settings = {
        "PIP_NO_INDEX": "",
        "PIP_FIND_LINKS": "",
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_RETRIES": "0",
    }
    there = Environments(tmp_path / "environments", without_uv(user(wheels, **settings)))
    with pytest.raises(PluginError, match="acme-toy") as error:
        there.ensure(TOY, plugin="acme.toy")
    assert "package index settings" in error.value.hint


def test_a_wheel_that_is_no_wheel_is_told(there: Environments, wheels: Path) -> None:
    (wheels / "acme_toy-1.0-py3-none-any.whl").write_bytes(b"PK\x03\x04 not a wheel")
    with pytest.raises(PluginError, match=r"(?i)acme_toy|wheel"):
        there.ensure(TOY, plugin="acme.toy")


def test_requirements_that_exclude_each_other_are_told(there: Environments) -> None:
    spec = EnvironmentSpec(requirements=("acme-toy==1.0", "acme-toy==2.0"), smoke_test="import acme_toy")
    with pytest.raises(PluginError, match=r"(?i)conflict|cannot install|no solution"):
        there.ensure(spec, plugin="acme.toy")


@pytest.mark.parametrize("text", ["--index-url=http://127.0.0.1/", " -r other.txt", "a\n--pre", ""])
def test_an_option_is_no_requirement(there: Environments, text: str) -> None:
    with pytest.raises(PluginBrokenError, match="which is no requirement"):
        there.ensure(EnvironmentSpec(requirements=(text,), smoke_test="pass"), plugin="acme.toy")


def test_a_wrong_python_is_told_with_those_that_are_there(there: Environments) -> None:
    own = ".".join(map(str, sys.version_info[:3]))
    with pytest.raises(PluginError, match=r"no Python ==2\.6 here, found .*" + own.replace(".", r"\.")) as error:
        there.ensure(replace(EMPTY, python="==2.6"), plugin="acme.old")
    assert "SDKPACK_PYTHONS" in error.value.hint


def test_versions_of_python() -> None:
    assert matches("", (3, 11, 7))
    assert matches(">=3.8,<3.11", (3, 10, 13))
    assert not matches(">=3.8,<3.11", (3, 11, 0))
    assert matches("==3.8.*", (3, 8, 18))
    assert matches("==3.8", (3, 8, 18))
    assert not matches("!=3.8", (3, 8, 18))
    assert matches("~=3.8", (3, 12, 0))
    assert not matches("~=3.8.2", (3, 9, 0))
    assert matches("<=3.11.7,>3.10", (3, 11, 7))
    with pytest.raises(UsageError, match="names no versions of Python"):
        matches("three", (3, 8, 0))


def test_a_python_may_be_named(tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text('#!/bin/sh\necho \'[[3, 99, 1], "/usr/bin/fake", "/usr"]\'\n')
    fake.chmod(0o755)
    found = find_python(">=3.99", {"SDKPACK_PYTHONS": str(fake), "HOME": str(tmp_path), "PATH": "/nowhere"})
    assert found.version == (3, 99, 1)


def test_an_interrupted_build_is_built_anew(there: Environments) -> None:
    made = there.ensure(EMPTY, plugin="acme.empty")
    (made.folder / "complete.json").unlink()
    (made.folder / "left-over").touch()
    assert there.find(EMPTY) is None
    again = there.ensure(EMPTY, plugin="acme.empty")
    assert not (again.folder / "left-over").exists()


def test_the_folder_of_a_killed_smoke_test_is_cleaned(there: Environments) -> None:
    made = there.ensure(EMPTY, plugin="acme.empty")
    done = subprocess.Popen(["true"])
    done.wait()
    dead, own = (there.root / f"{made.name}.smoke-{pid}-1" for pid in (done.pid, os.getpid()))
    dead.mkdir()
    own.mkdir()
    there.ensure(replace(EMPTY, smoke_test="import os"), plugin="acme.empty")
    assert (dead.exists(), own.exists()) == (False, True)


def test_a_damaged_marker_is_no_marker(there: Environments) -> None:
    made = there.ensure(EMPTY, plugin="acme.empty")
    for text in ("", "[]", '{"v": 2}', '{"v": 1}'):
        (made.folder / "complete.json").write_text(text)
        assert there.find(EMPTY) is None


def test_a_changed_environment_is_found_out(there: Environments) -> None:
    made = there.ensure(TOY, plugin="acme.toy")
    site = next(made.folder.glob("lib/python*/site-packages"))
    (site / "extra-1.0.dist-info").mkdir()
    assert "its packages changed since it was built: extra" in there.check(made)
    (site / "extra-1.0.dist-info").rmdir()
    (site / "acme_toy.py").write_text("raise RuntimeError('edited')")
    assert "RuntimeError: edited" in there.check(made, TOY)


def test_removal_waits_for_nobody_and_takes_nothing_in_use(there: Environments) -> None:
    made = there.ensure(EMPTY, plugin="acme.empty")
    with there.using(made), pytest.raises(OutputError, match="is in use"):
        there.remove(made.name)
    assert there.remove(made.name) > 0
    assert there.all() == ()
    for name in (made.name, "..", "logs", "../elsewhere"):
        with pytest.raises(UsageError, match="there is no environment"):
            there.remove(name)


BUILD = """
import os, sys
from pathlib import Path
from sdkpack.host.environments import Environments
from sdkpack.plugin import EnvironmentSpec
spec = EnvironmentSpec(requirements=("acme-toy==1.0",), smoke_test="import acme_toy")
told = []
made = Environments(Path(sys.argv[1]), dict(os.environ)).ensure(spec, plugin="acme.toy", tell=told.append)
print(made.name, "|".join(told))
"""


def test_two_processes_at_the_same_time_build_once(tmp_path: Path, wheels: Path) -> None:
    root = tmp_path / "environments"
    environ = {**without_uv(user(wheels)), "PYTHONPATH": str(ROOT)}
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", BUILD, str(root)],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    told = []
    for run in runs:
        out, err = run.communicate(timeout=120)
        assert run.returncode == 0, err
        told.append(out.strip())
    assert sum("building" in text for text in told) == 1, told
    assert len(Environments(root, {}).all()) == 1


def test_waiting_for_another_one_can_be_cancelled(there: Environments) -> None:
    made = there.ensure(EMPTY, plugin="acme.empty")
    (made.folder / "complete.json").unlink()
    told: list[str] = []
    with there.using(made), pytest.raises(InterruptedRunError):
        there.ensure(EMPTY, plugin="acme.empty", tell=told.append, cancelled=lambda: True)
    assert told == ["waiting for another sdkpack that builds this environment"]


def test_a_build_can_be_cancelled_and_leaves_nothing(there: Environments) -> None:
    cancel = threading.Event()
    threading.Timer(0.3, cancel.set).start()
    begin = time.monotonic()
    with pytest.raises(InterruptedRunError):
        there.ensure(TOY, plugin="acme.toy", cancelled=cancel.is_set)
    assert time.monotonic() - begin < 10
    assert there.all() == ()


def test_a_disk_that_cannot_hold_it_is_told_before(there: Environments) -> None:
    spec = replace(EMPTY, size_bytes=1 << 60)
    with pytest.raises(OutputError, match="takes about 1099511627776 MiB") as error:
        there.ensure(spec, plugin="acme.huge")
    assert "SDKPACK_ENVIRONMENTS" in error.value.hint


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount here")
def test_a_disk_that_fills_up_is_told_and_nothing_is_left(small_disk: Path, wheels: Path) -> None:
    wheel(wheels, "3.0", size_bytes=8 << 20)
    there = Environments(small_disk / "environments", without_uv(user(wheels)))
    spec = EnvironmentSpec(requirements=("acme-toy==3.0",), smoke_test="import acme_toy")
    with pytest.raises(OutputError, match=r"disk is full|no space left") as error:
        there.ensure(spec, plugin="acme.toy")
    assert error.value.where == "the environment of 'acme.toy'"
    assert there.all() == ()
    assert shutil.disk_usage(small_disk).free > 2 << 20, "what was half built is gone"


FILL = """
import os, resource, sys
from pathlib import Path
from sdkpack.errors import OutputError
from sdkpack.host.environments import Environments
from sdkpack.plugin import EnvironmentSpec
resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 4 << 20))
spec = EnvironmentSpec(requirements=("acme-toy==3.0",), smoke_test="import acme_toy")
there = Environments(Path(sys.argv[1]), dict(os.environ))
try:
    there.ensure(spec, plugin="acme.toy")
except OutputError as error:
    print(error.message, "|", error.hint, "|", error.where, "|", there.all())
"""


def test_a_quota_that_is_used_up_is_told_and_nothing_is_left(tmp_path: Path, wheels: Path) -> None:
    """As a disk quota, or a file system without large files, ends a write half-way."""
    wheel(wheels, "3.0", size_bytes=8 << 20)
    root = tmp_path / "environments"
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(root)], env={**without_uv(user(wheels)), "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.startswith("the disk is full: an environment was being built | free some space"), done.stderr
    assert "| the environment of 'acme.toy' | ()" in done.stdout
    assert not [path for path in root.iterdir() if path.is_dir() and path.name != "logs"]


# uv -------------------------------------------------------------------------------------------------------------------
def test_pips_settings_become_uvs(tmp_path: Path) -> None:
    config = tmp_path / "config" / "pip"
    config.mkdir(parents=True)
    (config / "pip.conf").write_text(
        textwrap.dedent("""
        [global]
        index-url = https://name:secret@index.example/simple
        extra-index-url = https://one.example/simple
            https://two.example/simple
        [install]
        find_links = /wheels
        """)
    )
    environ = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config"), "PIP_CERT": "/etc/cert.pem"}
    made = uv_environment(environ)
    assert made["UV_DEFAULT_INDEX"] == "https://name:secret@index.example/simple"
    assert made["UV_INDEX"] == "https://one.example/simple https://two.example/simple"
    assert made["UV_FIND_LINKS"] == "/wheels"
    assert made["SSL_CERT_FILE"] == "/etc/cert.pem"
    assert made["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    environ["PIP_FIND_LINKS"] = "/other /more"
    assert uv_environment(environ)["UV_FIND_LINKS"] == "/other,/more"


def test_uvs_own_settings_win(tmp_path: Path) -> None:
    environ = {
        "HOME": str(tmp_path),
        "PIP_INDEX_URL": "https://pip.example/",
        "UV_DEFAULT_INDEX": "https://uv.example/",
    }
    assert uv_environment(environ) == environ
    config = tmp_path / ".config" / "uv"
    config.mkdir(parents=True)
    (config / "uv.toml").write_text('find-links = ["/wheels"]\n')
    environ = {"HOME": str(tmp_path), "PIP_INDEX_URL": "https://pip.example/"}
    assert uv_environment(environ) == environ


UV = os.environ.get("SDKPACK_UV") or shutil.which("uv")


@pytest.mark.skipif(not UV, reason="no uv here; name one in SDKPACK_UV")
def test_uv_builds_what_pip_builds(tmp_path: Path, wheels: Path) -> None:
    assert UV is not None
    there = Environments(tmp_path / "environments", user(wheels, SDKPACK_UV=UV, UV_CACHE_DIR=str(tmp_path / "cache")))
    made = there.ensure(TOY, plugin="acme.toy")
    assert made.distributions == {"acme-toy": "1.0"}
    assert "uv" in (made.folder / "pyvenv.cfg").read_text()
    spec = EnvironmentSpec(requirements=("acme-toy==9.9",), smoke_test="import acme_toy")
    with pytest.raises(PluginError, match=r"(?i)no solution|acme-toy"):
        there.ensure(spec, plugin="acme.toy")


def test_the_marker_says_what_is_inside(there: Environments) -> None:
    made = there.ensure(EMPTY, plugin="acme.empty")
    facts = json.loads((made.folder / "complete.json").read_text())
    assert facts["python"] == list(sys.version_info[:3])
    assert (facts["requirements"], facts["distributions"]) == ([], {})

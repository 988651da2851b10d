from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from sdkpack_sklearn.plugin import ENVIRONMENT

from sdkpack.errors import PluginError
from sdkpack.host.environments import Environment, Environments, default_environments

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def environment() -> Environment:
    """The plugin's environment, kept between runs, as a user's is."""
    environ = dict(os.environ)
    try:
        return Environments(default_environments(environ), environ).ensure(ENVIRONMENT, plugin="sklearn.pickle")
    except PluginError as error:
        pytest.skip(f"the environment of scikit-learn is not there and cannot be built here: {error}")


@pytest.fixture(scope="session")
def models(environment: Environment) -> Path:
    """The trained models; trained anew only where what trains them changed."""
    content = b"".join((HERE / name).read_bytes() for name in ("catalogue.py", "train.py"))
    key = hashlib.sha256(content + repr(ENVIRONMENT.requirements).encode()).hexdigest()[:16]
    base = ROOT / "build" / "sklearn-models"
    folder, part = base / key, base / f"{key}.part"
    base.mkdir(parents=True, exist_ok=True)
    with (base / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            shutil.rmtree(part, ignore_errors=True)
            run(environment, "train.py", part)
            part.rename(folder)
    return folder


@pytest.fixture(scope="session")
def converted(environment: Environment, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What became of each case: NAME.json, NAME.onnx, NAME.sample.npz, NAME.npz (see convert_all.py)."""
    out = tmp_path_factory.mktemp("sklearn")
    run(environment, "convert_all.py", models, out)
    return out


def run(environment: Environment, script: str, *arguments: Path) -> None:
    argv = [str(environment.python), "-I", "-B", str(HERE / script), *map(str, arguments)]
    done = subprocess.run(argv, env={"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]

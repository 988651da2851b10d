from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from sdkpack_torch.plugin import ENVIRONMENT

from plugins.torch.tests.bench import Bench
from sdkpack.host.environments import Environment, Environments, default_environments

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


@pytest.fixture(scope="session")
def toolchain() -> Environment:
    """The plugin's environment, as `tools/environments.py` builds it before the tests."""
    found = Environments(default_environments(os.environ), os.environ).find(ENVIRONMENT)
    if found is None:
        pytest.skip("the environment of torch is not built (no network?): sdkpack plugins env build torch.export")
    return found


@pytest.fixture(scope="session")
def models(toolchain: Environment) -> Path:
    """What torch saved: made once, by `make.py` in the plugin's environment, and kept below build/."""
    sources = [HERE / "make.py", *sorted((HERE / "nets").glob("*.py"))]
    digest = hashlib.sha256(b"".join([toolchain.name.encode(), *(path.read_bytes() for path in sources)])).hexdigest()
    folder = ROOT / "build" / "torch-models" / digest[:16]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            made = folder.with_suffix(".part")
            shutil.rmtree(made, ignore_errors=True)
            made.mkdir()
            subprocess.run(
                [toolchain.python, HERE / "make.py", made],
                check=True, env={"OMP_NUM_THREADS": "1", "PATH": os.defpath, "HOME": str(made)}, capture_output=True,
            )  # fmt: skip
            made.rename(folder)
    return folder


@pytest.fixture
def bench(toolchain: Environment, tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(scope="session")
def nets() -> Path:
    return HERE / "nets"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`nets` is no folder of tests."""
    assert not any("nets" in item.path.parts for item in items)

"""The OCR example, packed once for all integration tests; skipped where its models could not be fetched."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "build/ocr-models"
PAGE = MODELS / "skimage/data/page.png"


def run(*arguments: str | Path, cwd: Path | None = None, check: bool = True, **environment: str) -> str:
    """Runs a command and returns what it printed; shows everything where it failed."""
    done = subprocess.run(
        [str(argument) for argument in arguments],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not check or done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Ocr:
    """The packed example and its keys."""

    folder: Path
    bundle: Path
    trust: Path
    key: Path
    page: Path

    @property
    def access(self) -> tuple[str, ...]:
        return ("--trust", str(self.trust), "--key", str(self.key))


@pytest.fixture(scope="session")
def sdkpack() -> str:
    return str(Path(sys.executable).parent / "sdkpack")


@pytest.fixture(scope="session")
def ocr(sdkpack: str, tmp_path_factory: pytest.TempPathFactory) -> Ocr:
    if not (MODELS / ".complete").exists():
        pytest.skip("build/ocr-models is not there: tools/environments.py fetches it")
    folder = tmp_path_factory.mktemp("ocr")
    for name in ("recipe.toml", "NOTICE.txt"):
        (folder / name).write_bytes((ROOT / "examples/ocr" / name).read_bytes())
    run(sdkpack, "keys", "new", "signing", folder / "keys/publisher")
    run(sdkpack, "keys", "new", "recipient", folder / "keys/customer")
    bundle = folder / "acme-ocr-1.0.0.sdkpack"
    store = str(tmp_path_factory.mktemp("store"))
    run(sdkpack, "pack", folder, "--package-path", MODELS, "-o", bundle, SDKPACK_STORE=store)
    return Ocr(folder, bundle, folder / "keys/publisher.pub", folder / "keys/customer.key", PAGE)

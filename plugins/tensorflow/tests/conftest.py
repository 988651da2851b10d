"""What the tests of this plugin share."""

from __future__ import annotations

from pathlib import Path

import pytest

from plugins.tensorflow.tests.bench import Bench, made_models


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(folder=tmp_path)


@pytest.fixture(scope="session")
def made() -> Path:
    return made_models()

"""sdkpack's own plugins through the conformance kit, as any vendor's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from sdkpack.testing import ExporterConformance, KeyProviderConformance, OperatorConformance


class TestSoftmax(OperatorConformance):
    operator = "scores.softmax"

    def examples(self) -> list[tuple[Any, ...]]:
        return [(np.array([[1.0, 2.0, 3.0]], np.float32),), (np.zeros((2, 1), np.float32),)]


class TestTopK(OperatorConformance):
    operator = "scores.top_k"
    params: ClassVar[dict[str, Any]] = {"k": 2, "labels": ("a", "b", "c")}

    def examples(self) -> list[tuple[Any, ...]]:
        return [(np.array([[0.1, 0.7, 0.2]], np.float32),)]


class TestWheel(ExporterConformance):
    exporter = "wheel"
    runtime = "onnxruntime"
    params: ClassVar[dict[str, Any]] = {"name": "acme-conformance"}


class TestEnvironmentKeys(KeyProviderConformance):
    scheme = "env"

    @contextmanager
    def stored(self, text: str) -> Iterator[str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SDKPACK_CONFORMANCE_KEY", text)
            yield "SDKPACK_CONFORMANCE_KEY"


class TestFileKeys(KeyProviderConformance):
    scheme = "file"
    missing = "no/such/key"

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    @contextmanager
    def stored(self, text: str) -> Iterator[str]:
        path = self.folder / "key"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(text)
        yield str(path)

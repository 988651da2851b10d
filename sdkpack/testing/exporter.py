"""Conformance of exporters."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path
from typing import ClassVar

import onnx
import pytest

from sdkpack.build.pack import pack
from sdkpack.build.release import release
from sdkpack.build.store import Store
from sdkpack.errors import InterruptedRunError, SdkpackError
from sdkpack.host.registry import Registered, load_class
from sdkpack.plugin.exporter import Exporter
from sdkpack.plugin.info import ExporterInfo
from sdkpack.testing.base import Conformance
from sdkpack.testing.models import dense

__all__ = ["ExporterConformance"]


class ExporterConformance(Conformance):
    """Subclass it, and name the exporter.

    Attributes:
        exporter: its name.
        runtime: what the bundle that is exported is compiled for: any installed runtime with both halves.
    """

    exporter: ClassVar[str]
    runtime: ClassVar[str]

    def row(self) -> Registered[ExporterInfo]:
        return self.registry.exporter(self.exporter)

    def bundle(self, folder: Path) -> Path:
        """An unsigned bundle of a small model."""
        folder.mkdir(parents=True)
        onnx.save(dense(), str(folder / "net.onnx"))
        (folder / "recipe.toml").write_text(
            'recipe = 1\nbundle = { name = "conformance", version = "1.0.0" }\nmodels.net.source = "net.onnx"\n'
            f'targets.it.runtime = "{self.runtime}"\n',
            encoding="utf-8",
        )
        with Store(folder / "store") as store:
            result = pack(folder / "recipe.toml", registry=self.registry, store=store, out=folder / "net.sdkpack")
        assert result.path is not None
        return result.path

    def export(self, bundle: Path, out: Path, cancel: threading.Event | None = None) -> dict[str, str]:
        """Digests of what it made, by name below `out`."""
        with Store(bundle.parent / "store") as store:
            release(
                bundle, settings={"exporter": self.exporter, **self.params}, name="conformance", out=out, trust=None,
                registry=self.registry, store=store, allow_unsigned=True, cancel=cancel,
            )  # fmt: skip
        files = (path for path in out.rglob("*") if path.is_file())
        return {path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def test_it_keeps_its_contract(self) -> None:
        assert isinstance(load_class(self.row(), self.row().info.load)(), Exporter)

    def test_same_bundle_and_params_give_the_same_bytes(self, tmp_path: Path) -> None:
        bundle = self.bundle(tmp_path / "bundle")
        before = bundle.read_bytes()
        first, second = self.export(bundle, tmp_path / "a"), self.export(bundle, tmp_path / "b")
        assert first, "it made nothing"
        assert bundle.read_bytes() == before, "it changed the bundle"
        if not self.row().info.deterministic:
            pytest.skip("the descriptor says that it is not deterministic")
        assert first == second

    def test_the_day_does_not_matter(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        if not self.row().info.deterministic:
            pytest.skip("the descriptor says that it is not deterministic")
        bundle = self.bundle(tmp_path / "bundle")
        first = self.export(bundle, tmp_path / "a")
        monkeypatch.setenv("TZ", "Pacific/Kiritimati")
        os.umask(umask := os.umask(0o077))
        os.umask(0o077)
        try:
            assert self.export(bundle, tmp_path / "b") == first
        finally:
            os.umask(umask)

    def test_what_it_makes_is_not_overwritten_unasked(self, tmp_path: Path) -> None:
        bundle = self.bundle(tmp_path / "bundle")
        first = self.export(bundle, tmp_path / "out")
        with pytest.raises(SdkpackError, match=r"exist"):
            self.export(bundle, tmp_path / "out")
        files = (path for path in (tmp_path / "out").rglob("*") if path.is_file())
        assert {p.relative_to(tmp_path / "out").as_posix() for p in files} == set(first)

    def test_cancel_leaves_nothing(self, tmp_path: Path) -> None:
        """An exporter that reports its progress is stopped there; one that does not has finished."""
        bundle = self.bundle(tmp_path / "bundle")
        cancel = threading.Event()
        cancel.set()
        try:
            made = self.export(bundle, tmp_path / "out", cancel)
        except InterruptedRunError:
            out = tmp_path / "out"
            assert not (out.exists() and list(out.iterdir())), "cancelled, and something is left"
        else:
            assert made

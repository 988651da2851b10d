"""Two toolchains that no environment can hold together do their work in one pack."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sdkpack.build.pack import pack
from sdkpack.build.store import Store
from sdkpack.errors import PluginError
from sdkpack.host.environments import Environments
from sdkpack.host.registry import Registry
from tests.integration import conflicting
from tests.unit.model.models import matmul

ROOT = Path(__file__).parents[2]
RECIPE = """
recipe = 1
bundle = { name = "both", version = "1.0.0" }
models.one.source = "one.old"
models.two.source = "two.new"
targets.cpu.runtime = "onnxruntime"
"""


@pytest.fixture(scope="module")
def environments() -> Path:
    """Kept between runs, as a user's are."""
    root = ROOT / "build" / "envs" / "toolchains"
    there = Environments(root, dict(os.environ))
    for spec in (conflicting.OLD, conflicting.NEW):
        try:
            there.ensure(spec, plugin="test")
        except PluginError as error:
            pytest.skip(f"no package index with {spec.requirements[0]} here: {error}")
    return root


def test_no_environment_holds_both(environments: Path, tmp_path: Path) -> None:
    old, new = conflicting.OLD.requirements[0], conflicting.NEW.requirements[0]
    spec = conflicting.EnvironmentSpec(requirements=(old, new), smoke_test=conflicting.SMOKE)
    with pytest.raises(PluginError, match=r"(?i)conflict|cannot install|no solution"):
        Environments(tmp_path / "environments", dict(os.environ)).ensure(spec, plugin="test")


def test_both_work_in_one_pack(environments: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDKPACK_ENVIRONMENTS", str(environments))
    for name, seed, head in (("one.old", 1, b"OLD"), ("two.new", 2, b"NEW")):
        conflicting.write_source(tmp_path / name, matmul(seed=seed).SerializeToString(), head)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    registry = Registry.of_modules(["sdkpack.builtin.plugin", "sdkpack_onnxruntime.plugin", conflicting.__name__])
    with Store(tmp_path / "store") as store:
        result = pack(tmp_path, registry=registry, store=store, out=tmp_path / "both.sdkpack")
        fingerprints = {step.id: step.fingerprint for step in result.plan.steps if step.kind == "convert"}
        assert "protobuf 4.25.8" in fingerprints["one/convert"]
        assert "protobuf 7." in fingerprints["two/convert"]
        for finding in (f for model in result.manifest.models.values() for f in model.variants[0].evidence):
            # The converters cannot run their sources, and the bundle says so.
            assert finding.passed or (finding.check == "conversion" and "not compared" in (finding.note or ""))
        again = pack(tmp_path, registry=registry, store=store, out=tmp_path / "again.sdkpack")
        assert (again.ran, again.identity) == (0, result.identity)

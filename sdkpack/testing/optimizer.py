"""Conformance of optimizers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import onnx
import pytest

from sdkpack.build.pack import pack
from sdkpack.build.store import Store
from sdkpack.compare import tolerance_for
from sdkpack.host.registry import Registered
from sdkpack.plugin.info import OptimizerInfo
from sdkpack.plugin.optimizer import OptimizeRequest
from sdkpack.plugin.runtime import ModelInput
from sdkpack.testing.apart import open_declared
from sdkpack.testing.bench import write_keys
from sdkpack.testing.changers import ModelChangeConformance
from sdkpack.testing.models import redundant, small_models
from sdkpack.testing.numbers import Laboratory, differences

__all__ = ["OptimizerConformance"]

_CATEGORIES = {"constant-folding", "arithmetic", "dependency", "function", "fusion", "information"}


class OptimizerConformance(ModelChangeConformance):
    """Subclass it, and name the optimizer.

    Attributes:
        optimizer: its name.
        tolerance: the greatest normalised error; a change that keeps the meaning reorders sums, and no more.
    """

    kind = "optimizer"
    method = "optimize"
    optimizer: ClassVar[str]
    tolerance: ClassVar[float] = tolerance_for("float32")

    def models(self) -> Mapping[str, Any]:
        """`ModelProto`s by name; override it with models that it changes."""
        return {"redundant": redundant(), **small_models()}

    def row(self) -> Registered[OptimizerInfo]:
        return self.registry.optimizer(self.optimizer)

    def request_for(self, model: ModelInput, samples: tuple[Path, ...]) -> OptimizeRequest:
        return OptimizeRequest(model=model, params=self.instance())

    def test_its_category_is_one(self) -> None:
        assert self.row().info.category in _CATEGORIES, f"expected one of {', '.join(sorted(_CATEGORIES))}"

    def test_results_compute_what_their_models_compute(self, tool: Any, tmp_path: Path) -> None:
        for name, model in self.models().items():
            change = self.changed(tool, self.request_of(model, tmp_path / name), tmp_path / f"{name}-made")
            for seed in range(2):
                before, after = change.outputs(seed)
                wrong = differences(after, before, tolerance=self.tolerance)
                assert not wrong, f"{name}: {'; '.join(wrong)}"

    def test_modified_is_honest(self, tool: Any, tmp_path: Path) -> None:
        """What was not changed is not compared again, so that `modified=False` has to be true."""
        modified = 0
        for name, model in self.models().items():
            change = self.changed(tool, self.request_of(model, tmp_path / name), tmp_path / f"{name}-made")
            same = _same(change.request.model.path, change.result.model)
            if change.result.modified:
                assert not same, f"{name}: it says that it modified the model, and nothing changed"
            else:
                assert same, f"{name}: it says that nothing changed, and the model is another one"
            modified += change.result.modified
        if not modified:
            pytest.skip("it changed none of the models: give some that it changes, override models()")

    def test_packed_sealed_verified_and_run_is_what_the_model_before_computes(self, tmp_path: Path) -> None:
        import sdkpack
        from sdkpack.session.golden import recorded_inputs

        tool = open_declared(self.row(), self.half())
        if not tool.probe().ok:
            pytest.skip("its toolchain is not here")
        change = self.changed(tool, self.request(tmp_path / "input"), tmp_path / "made")
        folder = tmp_path / "project"
        folder.mkdir()
        onnx.save(onnx.load(change.result.model), str(folder / "net.onnx"))
        (folder / "recipe.toml").write_text(
            'recipe = 1\nbundle = { name = "conformance", version = "1.0.0" }\nmodels.net.source = "net.onnx"\n'
            f'targets.it.runtime = "{self.whole_runtime()}"\n'
            '[encrypt]\nrecipients = ["customer.pub"]\n[sign]\nkey = "publisher.key"\n',
            encoding="utf-8",
        )
        write_keys(folder)
        with Store(folder / "store") as store:
            result = pack(folder, registry=self.registry, store=store, out=folder / "out.sdkpack", sealed=True)
        assert result.path is not None
        keys, trust = [folder / "customer.key"], folder / "publisher.pub"
        with sdkpack.open(result.path, trust=trust, keys=keys, threads=1) as session:
            golden = session.manifest.models["net"].golden
            assert golden is not None
            inputs = recorded_inputs(session.bundle, golden)
            expected = Laboratory(tmp_path / "made").run(change.before, inputs)
            wrong = differences(session.run("net", inputs), expected, tolerance=self.tolerance)
        assert not wrong, "; ".join(wrong)


def _same(one: Path, other: Path) -> bool:
    """The same model, however it is written."""
    if one == other:
        return True
    first, second = (onnx.load(str(path)).SerializeToString(deterministic=True) for path in (one, other))
    return bool(first == second)

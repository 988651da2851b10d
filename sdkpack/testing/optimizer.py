"""Conformance of optimizers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
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
        """`ModelProto`s by name; override it with models that it changes. The first is packed."""
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

    def test_a_second_run_changes_nothing(self, tool: Any, tmp_path: Path) -> None:
        """Passes run in rounds until none changes anything: one that always does would never let them end."""
        for name, model in self.models().items():
            request = self.request_of(model, tmp_path / name)
            first = self.call(tool, request, tmp_path / f"{name}-first")
            again = replace(request, model=replace(request.model, path=first.model))
            second = self.call(tool, again, tmp_path / f"{name}-second")
            assert not second.modified, f"{name}: it changes what it made itself"

    def test_opsets_and_domains_stay_where_they_may_be(self, tool: Any, tmp_path: Path) -> None:
        for name, model in self.models().items():
            request = self.request_of(model, tmp_path / name)
            version = next(entry.version for entry in model.opset_import if not entry.domain)
            request = replace(request, opsets=(version, version), domains=("",))
            change = self.changed(tool, request, tmp_path / f"{name}-made")
            found = dict(change.after.opsets)
            assert found.get("") == version, f"{name}: asked for opset {version}, it gave {found.get('')}"
            used = {domain for domain, _ in change.after.operators}
            known = {domain for domain, _ in change.before.operators} | {""}
            assert used <= known, f"{name}: it brought in operators of {', '.join(sorted(used - known))}"

    def test_packed_sealed_verified_and_run_is_what_the_model_before_computes(self, tmp_path: Path) -> None:
        import sdkpack
        from sdkpack.session.golden import recorded_inputs

        tool = open_declared(self.row(), self.half())
        if not tool.probe().ok:
            pytest.skip("its toolchain is not here")
        model = next(iter(self.models().values()))
        folder = tmp_path / "project"
        folder.mkdir()
        onnx.save(model, str(folder / "net.onnx"))
        lines = [
            "recipe = 1",
            'bundle = { name = "conformance", version = "1.0.0" }',
            'models.net.source = "net.onnx"',
            # What sdkpack has to undo is an error here; in a build it would be a warning.
            'models.net.optimize.level = "none"',
            "models.net.optimize.strict = true",
            f"models.net.optimize.passes.{json.dumps(self.optimizer)} = true",
            *(f"models.net.optimize.with.{json.dumps(self.optimizer)}.{key} = {json.dumps(value)}"
              for key, value in self.params.items()),
            f"targets.it.runtime = {json.dumps(self.whole_runtime())}",
            "[encrypt]", 'recipients = ["customer.pub"]', "[sign]", 'key = "publisher.key"',
        ]  # fmt: skip
        (folder / "recipe.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        write_keys(folder)
        with Store(folder / "store") as store:
            result = pack(folder, registry=self.registry, store=store, out=folder / "out.sdkpack", sealed=True)
        assert result.path is not None
        keys, trust = [folder / "customer.key"], folder / "publisher.pub"
        with sdkpack.open(result.path, trust=trust, keys=keys, threads=1) as session:
            golden = session.manifest.models["net"].golden
            assert golden is not None
            inputs = recorded_inputs(session.bundle, golden)
            laboratory = Laboratory(tmp_path / "before")
            expected = laboratory.run(laboratory.read(folder / "net.onnx"), inputs)
            wrong = differences(session.run("net", inputs), expected, tolerance=self.tolerance)
        assert not wrong, "; ".join(wrong)


def _same(one: Path, other: Path) -> bool:
    """The same model, however it is written."""
    if one == other:
        return True
    first, second = (onnx.load(str(path)).SerializeToString(deterministic=True) for path in (one, other))
    return bool(first == second)

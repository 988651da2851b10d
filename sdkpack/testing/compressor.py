"""Conformance of compressors."""

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
from sdkpack.errors import ModelError, SdkpackError, StepError
from sdkpack.host.registry import Registered
from sdkpack.plugin.compressor import CompressRequest
from sdkpack.plugin.info import CompressorInfo
from sdkpack.plugin.runtime import ModelInput
from sdkpack.testing.apart import open_declared
from sdkpack.testing.bench import write_keys
from sdkpack.testing.changers import ModelChangeConformance
from sdkpack.testing.models import small_models
from sdkpack.testing.numbers import differences, worst_error

__all__ = ["CompressorConformance"]


class CompressorConformance(ModelChangeConformance):
    """Subclass it, and name the compressor.

    Attributes:
        compressor: its name, a recipe's `scheme`.
        precisions: those to test; by default all that the descriptor names.
        max_error: the greatest normalised error for the models of these tests; by default the tolerance of the
            precision. A compressor that spends more says so here, as a recipe's `max_error` does.
    """

    kind = "compressor"
    method = "compress"
    compressor: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]] = ()
    max_error: ClassVar[float | None] = None

    def models(self) -> Mapping[str, Any]:
        """`ModelProto`s by name; override it for a compressor of other operators."""
        return small_models()

    def row(self) -> Registered[CompressorInfo]:
        return self.registry.compressor(self.compressor)

    def wanted_precisions(self) -> tuple[str, ...]:
        return self.precisions or self.row().info.precisions

    def budget(self, precision: str) -> float:
        return tolerance_for(precision) if self.max_error is None else self.max_error

    def request_for(self, model: ModelInput, samples: tuple[Path, ...]) -> CompressRequest:
        precision = self.wanted_precisions()[0]
        return CompressRequest(
            model=model, precision=precision, params=self.instance(), samples=samples, budget=self.budget(precision)
        )

    def test_it_names_its_precisions(self) -> None:
        assert self.row().info.precisions, "precisions says what it can make"

    def test_what_it_costs_is_within_the_budget(self, tool: Any, tmp_path: Path) -> None:
        """Both models on the same inputs, by ONNX's reference: what `pack` measures and writes into the bundle."""
        for name, model in self.models().items():
            for precision in self.wanted_precisions():
                folder = tmp_path / f"{name}-{precision}"
                request = self.request_of(model, folder)
                request = replace(request, precision=precision, budget=self.budget(precision))
                change = self.changed(tool, request, folder / "made")
                assert change.result.precision == precision, f"asked for {precision}, it made {change.result.precision}"
                before, after = change.outputs()
                wrong = differences(after, before, tolerance=self.budget(precision), precision=precision)
                assert not wrong, f"{name} to {precision}: {'; '.join(wrong)}; see max_error of this test class"

    def test_it_says_what_it_lacks_without_samples(self, tool: Any, tmp_path: Path) -> None:
        if "samples" not in self.row().info.capabilities:
            pytest.skip("the descriptor does not say samples")
        request = replace(self.request(tmp_path / "input"), samples=())
        with pytest.raises((ModelError, StepError), match="sample"):
            self.call(tool, request, tmp_path / "made")

    def test_a_model_without_weights_is_refused_or_left_alone(self, tool: Any, tmp_path: Path) -> None:
        request = self.request_of(_weightless(), tmp_path / "input")
        try:
            change = self.changed(tool, request, tmp_path / "made")
        except SdkpackError as error:
            assert isinstance(error, ModelError | StepError), f"it is no documented error: {error!r}"
            return
        before, after = change.outputs()
        assert not differences(after, before, tolerance=self.budget(request.precision), precision=request.precision)

    def test_packed_sealed_verified_and_run_with_its_loss_on_record(self, tmp_path: Path) -> None:
        import sdkpack
        from sdkpack.session.golden import recorded_inputs
        from sdkpack.session.npz import read_npz

        if not open_declared(self.row(), self.half()).probe().ok:
            pytest.skip("its toolchain is not here")
        for precision in self.wanted_precisions():
            folder = tmp_path / precision
            self._write_project(precision, folder)
            with Store(folder / "store") as store:
                result = pack(folder, registry=self.registry, store=store, out=folder / "out.sdkpack", sealed=True)
            (variant,) = result.manifest.models["net"].variants
            (loss,) = [finding for finding in variant.evidence if finding.check == "loss"]
            assert loss.passed
            assert loss.tensors
            assert result.path is not None
            keys, trust = [folder / "customer.key"], folder / "publisher.pub"
            with sdkpack.open(result.path, trust=trust, keys=keys, threads=1) as session:
                golden = session.manifest.models["net"].golden
                assert golden is not None
                expected = read_npz(session.bundle.read(golden.outputs), where=golden.outputs)
                outputs = session.run("net", recorded_inputs(session.bundle, golden))
                assert worst_error(outputs, expected) == 0.0, "packed and run, it gives another answer than before"

    def _write_project(self, precision: str, folder: Path) -> None:
        folder.mkdir()
        model = next(iter(self.models().values()))
        onnx.save(model, str(folder / "net.onnx"))
        samples = [str(path.relative_to(folder)) for path in self.samples(model, folder / "samples")]
        lines = [
            "recipe = 1",
            'bundle = { name = "conformance", version = "1.0.0" }',
            'models.net.source = "net.onnx"',
            f"models.net.compress.scheme = {json.dumps(self.compressor)}",
            f"models.net.compress.precision = {json.dumps(precision)}",
            f"models.net.compress.max_error = {self.budget(precision)!r}",
            f"models.net.compress.samples = {json.dumps(samples)}",
            *(f"models.net.compress.with.{key} = {json.dumps(value)}" for key, value in self.params.items()),
            f"targets.it.runtime = {json.dumps(self.whole_runtime())}",
            "[encrypt]", 'recipients = ["customer.pub"]', "[sign]", 'key = "publisher.key"',
        ]  # fmt: skip
        (folder / "recipe.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        write_keys(folder)


def _weightless() -> Any:
    """x [1, 4] -> Relu -> y."""
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], "relu")], "weightless", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

"""Conformance of runtimes: compiler and runner, alone and through a bundle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import pytest

from sdkpack.compare import tolerance_for
from sdkpack.errors import InterruptedRunError, SdkpackError, StepError
from sdkpack.host.registry import load_class
from sdkpack.model.sample import make_samples
from sdkpack.plugin.runtime import CompiledModel, Compiler, Probe, Runner
from sdkpack.testing.apart import open_declared, open_tool
from sdkpack.testing.base import child
from sdkpack.testing.bench import PlainContext, open_compiled
from sdkpack.testing.models import dense, strange
from sdkpack.testing.numbers import Laboratory, differences
from sdkpack.testing.runtime_bench import RuntimeBench
from sdkpack.testing.tools import CANCEL_S, cancelled_within

__all__ = ["RuntimeConformance"]

_OLDEST_OPSET: Final = 7
"""Gemm and Relu, of which the smallest model consists, are since then what they are."""


class RuntimeConformance(RuntimeBench):
    """Subclass it, and name the runtime.

    Attributes:
        runtime: its name.
        params: settings that have no default.
        precisions: those to test; by default all that the descriptor names.
        shapes: sizes of symbols that the compiler wants fixed; `N` is the batch of the model `dense`.
        samples_per_model: how many samples a compiler that calibrates is given.
    """

    # The descriptor and the toolchain -------------------------------------------------------------------------------
    def test_halves_keep_their_contracts(self) -> None:
        info = self.row().info
        assert info.compiler or info.runner, "a runtime has at least one half"
        if info.compiler and info.compiler.isolation == "in-process":
            assert isinstance(load_class(self.row(), info.compiler.load)(), Compiler)
        if info.runner and info.runner.isolation == "in-process":
            assert isinstance(load_class(self.row(), info.runner.load)(), Runner)

    def test_probe_answers_the_same_twice(self) -> None:
        half = self.row().info.compiler
        if half is None:
            pytest.skip("the runtime has no compiler half")
        first, second = (open_declared(self.row(), half).probe() for _ in range(2))
        assert isinstance(first, Probe)
        assert first == second
        assert first.ok or (first.missing and first.mend), "a missing toolchain comes with a mend"

    def test_probe_without_the_toolchain_gives_a_mend(self, tmp_path: Path) -> None:
        half = self.row().info.compiler
        if half is None:
            pytest.skip("the runtime has no compiler half")
        if half.isolation != "in-process":
            pytest.skip("sdkpack builds its environment, or looks for its program")
        blocked = self.toolchain_modules()
        if not blocked:
            pytest.skip("the descriptor requires no other distribution, and the test class names no toolchain")
        facts = child({"do": "probe", "kind": "runtime", "name": self.runtime, "blocked": blocked}, tmp_path)
        assert not facts["raised"], f"probe raised {facts['raised']}: say what is missing instead"
        assert not facts["ok"], f"probe says that all is well without {', '.join(blocked)}"
        assert facts["missing"]
        assert facts["mend"], "say how to get it"

    # The compiler ---------------------------------------------------------------------------------------------------
    def test_numbers_agree_with_the_reference(self, tmp_path: Path) -> None:
        """Every model and precision, by `pack`'s own comparison with ONNX's reference evaluator."""
        for name in self.models():
            for precision in self.wanted_precisions():
                result = self.packed(name, tmp_path / f"{name}-{precision}", precision)
                (variant,) = result.manifest.models[name].variants
                assert variant.precision == precision
                checks = {finding.check: finding for finding in variant.evidence}
                assert "parity" in checks, f"{name}: {checks['determinism'].note}"
                assert checks["parity"].passed
                assert checks["parity"].tensors

    def test_what_is_fixed_is_said(self, tmp_path: Path) -> None:
        """Shapes, coverage and files of a compiled model are what its parts are."""
        for name in self.models():
            bench = self.bench(name, tmp_path / name)
            model = self.compiled(bench)
            assert model.name == name
            coverage = model.coverage
            assert coverage is None or 0 <= coverage.nodes_on_device <= coverage.nodes_total
            if coverage is not None and coverage.nodes_on_device < coverage.nodes_total:
                assert coverage.unsupported, "say which operators the target lacks"
                assert len(model.parts) > 1, "what the target lacks runs in a part of its own"
            own = {getattr(bench.request.models[0], role) for role in ("path", "graph", "weights", "tensors")}
            for file in (file for part in model.parts for file in part.files):
                assert file.path in own or file.path.is_relative_to(bench.work), f"{file.path} is elsewhere"
                assert file.path.is_file()
            json.dumps([dict(model.needs), *(dict(part.options) for part in model.parts)])

    def test_same_input_gives_the_same_bytes(self, tmp_path: Path) -> None:
        if not self.row().info.deterministic:
            pytest.skip("the descriptor says that it is not deterministic")
        for name in self.models():
            first, second = (
                _contents(self.compiled(self.bench(name, tmp_path / f"{name}-{number}"))) for number in range(2)
            )
            assert first == second, f"{name}: declared deterministic, and two compiles differ"

    def test_compiling_changes_none_of_its_inputs(self, tmp_path: Path) -> None:
        bench = self.bench(next(iter(self.models())), tmp_path / "bench")
        files = [path for path in (tmp_path / "bench").iterdir() if path.is_file()]
        before = {path: path.read_bytes() for path in files}
        self.compiled(bench)
        assert {path: path.read_bytes() for path in files} == before

    def test_writes_only_in_its_work_folder_and_opens_no_socket(self, tmp_path: Path) -> None:
        self.compiler()
        half = self.row().info.compiler
        if half is None or half.isolation != "in-process":
            pytest.skip("it works apart: what it may write and open is enforced, see: sdkpack plugins env check")
        facts = child(self.job("compile", tmp_path), tmp_path / "places")
        assert not facts["failed"], facts["failed"]
        assert not facts["writes"], f"wrote {facts['writes']}"
        assert not facts["sockets"], f"used the network: {facts['sockets']}"
        assert not facts["left"], f"left {facts['left']}"

    def test_a_model_that_it_cannot_take_is_a_documented_error(self, tmp_path: Path) -> None:
        bench = self.bench("strange", tmp_path / "strange", model=strange())
        with pytest.raises(SdkpackError) as caught:
            self.compiled(bench)
        assert "Swirl" in str(caught.value), "name the operator that the target lacks"

    def test_a_damaged_model_is_a_documented_error(self, tmp_path: Path) -> None:
        bench = self.bench(next(iter(self.models())), tmp_path / "bench")
        for path in (bench.request.models[0].path, bench.request.models[0].graph):
            path.write_bytes(b"\x08\x07\x3a\xff\xff\xff\xff\x0fno model")
        with pytest.raises(SdkpackError):
            self.compiled(bench)

    def test_cancel_ends_it(self, tmp_path: Path) -> None:
        """A compile that is cancelled at its first sign of life, or was done before, ends within 5 s."""
        bench = self.bench(next(iter(self.models())), tmp_path / "bench")
        context = PlainContext(bench.work, cancelled=lambda: True)
        told = cancelled_within(lambda: bench.compiler.compile(bench.request, context), CANCEL_S)
        assert told is None or isinstance(told, InterruptedRunError), f"cancel became {told!r}"

    def test_it_compiles_the_same_as_a_job(self, tmp_path: Path) -> None:
        """A compiler of this process, by the same class in a process of its own: where sdkpack may put it one day."""
        half = self.row().info.compiler
        if half is None or half.isolation != "in-process":
            pytest.skip("what there is to compile is compiled apart in every test of this class")
        bench = self.bench(next(iter(self.models())), tmp_path / "bench")
        tool = open_tool(self.row(), half, "job", tmp_path / "host")
        probe = tool.probe()
        if not probe.ok:
            # A licence that a variable names, say: a job gets none of the user's.
            pytest.skip(f"its toolchain is not there for a job: {probe.missing}")
        folder = tmp_path / "apart"
        folder.mkdir()
        (model,) = tool.compile(bench.request, PlainContext(folder)).models
        here = self.compiled(bench)
        assert [part.runtime for part in model.parts] == [part.runtime for part in here.parts]
        assert (model.token, dict(model.needs)) == (here.token, dict(here.needs))
        if self.row().info.deterministic:
            assert _contents(model) == _contents(here), "declared deterministic, and as a job it makes other bytes"
        if self.row().info.runner is None:
            return
        inputs: dict[str, Any] = make_samples(bench.facts.inputs, dims={**self.shapes, **model.shapes})
        outputs = [self._run(compiled, bench.facts, inputs) for compiled in (model, here)]
        wrong = differences(outputs[0], outputs[1], tolerance=tolerance_for(model.precision))
        assert not wrong, "; ".join(wrong)

    def _run(self, model: CompiledModel, facts: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
        with closing(open_compiled(model, facts, self.registry)) as loaded:
            return dict(loaded(dict(inputs)))

    def test_it_takes_the_opsets_that_it_says(self, tmp_path: Path) -> None:
        """The oldest and the newest of them, compiled, and run against the reference."""
        opsets = self.row().info.opsets
        if opsets is None:
            pytest.skip("the descriptor does not say which opsets it takes")
        low, high = opsets
        assert 1 <= low <= high, f"opsets is the oldest and the newest, got {low} and {high}"
        known = onnx.defs.onnx_opset_version()
        if high < known:
            # sdkpack itself refuses what is outside, in every build; here it is shown once, beside the rest.
            with pytest.raises(StepError, match=f"opset {high + 1}, expected {low} to {high}"):
                self.packed("case", tmp_path / "outside", self.wanted_precisions()[0], model=dense(opset=high + 1))
        for opset in sorted({min(max(low, _OLDEST_OPSET), high, known), min(high, known)}):
            bench = self.bench("case", tmp_path / str(opset), model=dense(opset=opset))
            model = self.compiled(bench)
            if self.row().info.runner is None:
                continue
            inputs: dict[str, Any] = make_samples(bench.facts.inputs, dims={**self.shapes, **model.shapes})
            laboratory = Laboratory(tmp_path / str(opset))
            expected = laboratory.run(laboratory.read(bench.request.models[0].path), inputs)
            found = self._run(model, bench.facts, inputs)
            wrong = differences(found, expected, tolerance=tolerance_for(model.precision), precision=model.precision)
            assert not wrong, f"opset {opset}: {'; '.join(wrong)}"

    # The runner -----------------------------------------------------------------------------------------------------
    def test_devices_are_named(self) -> None:
        devices = self.runner().devices()
        assert len({device.name for device in devices}) == len(devices)
        assert all(device.name and device.kind in {"host", "simulator", "device"} for device in devices)

    def test_its_own_token_fits_and_a_foreign_one_does_not(self, tmp_path: Path) -> None:
        runner = self.runner()
        model = self.compiled(self.bench(next(iter(self.models())), tmp_path / "bench"))
        needs = dict(model.needs)
        assert runner.check(needs, model.token).verdict in {"best", "works"}
        if not model.token:
            pytest.skip("the compiler gives no token")
        fit = runner.check(needs, "some-other-compiler/0")
        assert fit.verdict == "no"
        assert fit.reason

    def test_damaged_files_are_documented_errors(self, tmp_path: Path) -> None:
        self.runner()
        facts = child(self.job("damaged", tmp_path), tmp_path / "places")
        assert facts["tried"]
        assert not facts["wrong"], "; ".join(facts["wrong"])

    def test_runs_are_repeatable_and_leave_the_inputs_alone(self, tmp_path: Path) -> None:
        for name in self.models():
            with self.opened(tmp_path / name, name) as (loaded, inputs, _):
                before = {key: array.copy() for key, array in inputs.items()}
                first, second = loaded(inputs), loaded(inputs)
                for key, array in before.items():
                    np.testing.assert_array_equal(inputs[key], array, err_msg="a run changed its input")
                kept = {key: array.copy() for key, array in first.items()}
                loaded({key: np.zeros_like(array) for key, array in inputs.items()})
                for key, array in kept.items():
                    np.testing.assert_array_equal(first[key], array, err_msg="a later run changed an earlier output")
                    np.testing.assert_array_equal(second[key], array)

    def test_runs_from_several_threads(self, tmp_path: Path) -> None:
        with self.opened(tmp_path / "bench") as (loaded, inputs, _):
            expected = loaded(inputs)
            with ThreadPoolExecutor(4) as pool:
                for outputs in pool.map(lambda _: loaded(inputs), range(16)):
                    for key, array in expected.items():
                        np.testing.assert_array_equal(outputs[key], array)

    def test_a_clone_gives_the_same(self, tmp_path: Path) -> None:
        if "run.clone" not in self.row().info.capabilities:
            pytest.skip("the descriptor does not say run.clone")
        for part, session in self.sessions(tmp_path / "bench"):
            inputs = make_samples(part.inputs)
            expected = session.run(inputs)
            copied: Any = session
            with closing(copied.clone()) as copy:
                session.close()
                outputs = copy.run(inputs)
            for key, array in expected.items():
                np.testing.assert_array_equal(outputs[key], array)

    def test_closing_twice_is_fine_and_ends_it(self, tmp_path: Path) -> None:
        for part, session in self.sessions(tmp_path / "bench"):
            session.close()
            session.close()
            with pytest.raises(SdkpackError):
                session.run(make_samples(part.inputs))

    # Through a bundle -----------------------------------------------------------------------------------------------
    def test_packed_sealed_verified_and_run_is_what_it_was(self, tmp_path: Path) -> None:
        """An encrypted and signed bundle, opened on trust of its signature, gives what the variant gave before."""
        import sdkpack
        from sdkpack.session.golden import recorded_inputs
        from sdkpack.session.npz import read_npz

        for name in self.models():
            folder = tmp_path / name
            result = self.packed(name, folder, self.wanted_precisions()[0], sealed=True)
            assert result.path is not None
            trust, key = folder / "publisher.pub", folder / "customer.key"
            with sdkpack.open(result.path, trust=trust, keys=[key], threads=1) as session:
                golden = session.manifest.models[name].golden
                assert golden is not None, "nothing was recorded: the variant gives other outputs each time"
                expected = read_npz(session.bundle.read(golden.outputs), where=golden.outputs)
                outputs = session.run(name, recorded_inputs(session.bundle, golden))
                for output, array in expected.items():
                    np.testing.assert_array_equal(outputs[output], array)


def _contents(model: CompiledModel) -> list[tuple[str, bytes]]:
    return [(f"{number}/{file.role}", file.path.read_bytes())
            for number, part in enumerate(model.parts) for file in part.files]  # fmt: skip

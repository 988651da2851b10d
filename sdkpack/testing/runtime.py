"""Conformance of runtimes: compiler and runner, alone and through a bundle."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import onnx
import pytest

from sdkpack.build.pack import PackResult, pack
from sdkpack.build.store import Store
from sdkpack.errors import InterruptedRunError, SdkpackError
from sdkpack.host.params import ParamSchema
from sdkpack.host.registry import Registered, load_class
from sdkpack.model.sample import make_samples
from sdkpack.plugin.info import RuntimeInfo
from sdkpack.plugin.runtime import (
    CompiledModel,
    CompiledPart,
    Compiler,
    CompileRequest,
    OpenRequest,
    Probe,
    Runner,
    RunnerSession,
)
from sdkpack.session.blobs import FileBlob
from sdkpack.session.models import LoadedModel
from sdkpack.testing.base import Conformance, child
from sdkpack.testing.bench import PlainContext, inputs_of, model_input, open_compiled, write_keys
from sdkpack.testing.models import small_models, strange

__all__ = ["RuntimeConformance"]

CANCEL_S: Final = 5.0
"""A cancelled compile ends within this time."""


@dataclass(frozen=True, slots=True)
class _Bench:
    compiler: Compiler
    request: CompileRequest
    facts: Any
    work: Path


class RuntimeConformance(Conformance):
    """Subclass it, and name the runtime.

    Attributes:
        runtime: its name.
        params: settings that have no default.
        precisions: those to test; by default all that the descriptor names.
        shapes: sizes of symbols that the compiler wants fixed; `N` is the batch of the model `dense`.
        samples_per_model: how many samples a compiler that calibrates is given.
    """

    runtime: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]] = ()
    shapes: ClassVar[Mapping[str, int]] = {}
    samples_per_model: ClassVar[int] = 4

    def models(self) -> Mapping[str, Any]:
        """`ModelProto`s by name; override it for a target that lacks Gemm, Conv, Relu, MaxPool or Flatten."""
        return small_models()

    # What the tests work with ---------------------------------------------------------------------------------------
    def row(self) -> Registered[RuntimeInfo]:
        return self.registry.runtime(self.runtime)

    def compiler(self) -> Compiler:
        """The compiler half; the test is skipped where there is none, or its toolchain is not here."""
        half = self.row().info.compiler
        if half is None:
            pytest.skip("the runtime has no compiler half")
        made: Compiler = load_class(self.row(), half.load)()
        probe = made.probe()
        if not probe.ok:
            pytest.skip(f"its toolchain is not here: {probe.missing}")
        return made

    def runner(self) -> Runner:
        half = self.row().info.runner
        if half is None:
            pytest.skip("the runtime has no runner half")
        made: Runner = load_class(self.row(), half.load)()
        return made

    def wanted_precisions(self) -> Sequence[str]:
        return self.precisions or self.row().info.precisions

    def bench(self, name: str, folder: Path, precision: str = "", model: Any = None) -> _Bench:
        """A model ready to be compiled, in a folder of its own."""
        folder.mkdir(parents=True)
        source, facts = model_input(model or self.models()[name], folder, name=name)
        work = folder / "work"
        work.mkdir()
        samples = self.samples(facts.inputs, folder) if self.samples_per_model else ()
        request = CompileRequest(
            models=(source,), target="bench", params=ParamSchema(self.row().info).instance(self.params),
            precision=precision or self.wanted_precisions()[0], shapes=dict(self.shapes),
            samples={name: samples} if samples else {},
        )  # fmt: skip
        return _Bench(self.compiler(), request, facts, work)

    def samples(self, inputs: Any, folder: Path) -> tuple[Path, ...]:
        """npz files with made inputs, for compilers that calibrate."""
        paths = []
        for number in range(self.samples_per_model):
            path = folder / f"sample-{number}.npz"
            arrays: Any = make_samples(inputs, seed=number, dims=dict(self.shapes))
            np.savez(path, **arrays)
            paths.append(path)
        return tuple(paths)

    def compiled(self, bench: _Bench) -> CompiledModel:
        (model,) = bench.compiler.compile(bench.request, PlainContext(bench.work)).models
        return model

    @contextmanager
    def opened(self, folder: Path, name: str = "") -> Iterator[tuple[LoadedModel, dict[str, Any], CompiledModel]]:
        """A model compiled and opened, with inputs for it."""
        self.runner()
        bench = self.bench(name or next(iter(self.models())), folder)
        model = self.compiled(bench)
        inputs: dict[str, Any] = make_samples(bench.facts.inputs, dims={**self.shapes, **model.shapes})
        with closing(open_compiled(model, bench.facts, self.registry)) as loaded:
            yield loaded, inputs, model

    def packed(self, name: str, folder: Path, precision: str, *, sealed: bool = False) -> PackResult:
        """The model in a bundle, made by `pack` from a recipe; comparing with ONNX's reference is a part of that."""
        self.compiler()
        self.runner()
        folder.mkdir(parents=True)
        model = self.models()[name]
        onnx.save(model, str(folder / "model.onnx"))
        samples = self.samples(inputs_of(model), folder) if self.samples_per_model else ()
        (folder / "recipe.toml").write_text(self._recipe(name, precision, samples, sealed=sealed), encoding="utf-8")
        if sealed:
            write_keys(folder)
        with Store(folder / "store") as store:
            return pack(
                folder / "recipe.toml", registry=self.registry, store=store, out=folder / "out.sdkpack", sealed=sealed
            )

    def _recipe(self, name: str, precision: str, samples: Sequence[Path], *, sealed: bool) -> str:
        lines = [
            "recipe = 1",
            'bundle = { name = "conformance", version = "1.0.0" }',
            f'models.{name}.source = "model.onnx"',
            f"models.{name}.samples = {json.dumps([path.name for path in samples])}",
            f"targets.it.runtime = {json.dumps(self.runtime)}",
            f"targets.it.precision = {json.dumps(precision)}",
            *(f"targets.it.shapes.{symbol} = {size}" for symbol, size in self.shapes.items()),
            *(f"targets.it.with.{key} = {json.dumps(value)}" for key, value in self.params.items()),
        ]
        if sealed:
            lines += ["[encrypt]", 'recipients = ["customer.pub"]', "[sign]", 'key = "publisher.key"']
        return "\n".join(lines) + "\n"

    # The descriptor and the toolchain -------------------------------------------------------------------------------
    def test_halves_keep_their_contracts(self) -> None:
        info = self.row().info
        assert info.compiler or info.runner, "a runtime has at least one half"
        if info.compiler:
            assert isinstance(load_class(self.row(), info.compiler.load)(), Compiler)
        if info.runner:
            assert isinstance(load_class(self.row(), info.runner.load)(), Runner)

    def test_probe_answers_the_same_twice(self) -> None:
        half = self.row().info.compiler
        if half is None:
            pytest.skip("the runtime has no compiler half")
        first, second = (load_class(self.row(), half.load)().probe() for _ in range(2))
        assert isinstance(first, Probe)
        assert first == second
        assert first.ok or (first.missing and first.mend), "a missing toolchain comes with a mend"

    def test_probe_without_the_toolchain_gives_a_mend(self, tmp_path: Path) -> None:
        if self.row().info.compiler is None:
            pytest.skip("the runtime has no compiler half")
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
            first, second = (self._contents(name, tmp_path / f"{name}-{number}") for number in range(2))
            assert first == second, f"{name}: declared deterministic, and two compiles differ"

    def _contents(self, name: str, folder: Path) -> list[tuple[str, bytes]]:
        model = self.compiled(self.bench(name, folder))
        return [(f"{number}/{file.role}", file.path.read_bytes())
                for number, part in enumerate(model.parts) for file in part.files]  # fmt: skip

    def test_compiling_changes_none_of_its_inputs(self, tmp_path: Path) -> None:
        bench = self.bench(next(iter(self.models())), tmp_path / "bench")
        files = [path for path in (tmp_path / "bench").iterdir() if path.is_file()]
        before = {path: path.read_bytes() for path in files}
        self.compiled(bench)
        assert {path: path.read_bytes() for path in files} == before

    def test_writes_only_in_its_work_folder_and_opens_no_socket(self, tmp_path: Path) -> None:
        facts = child(self._job("compile", tmp_path), tmp_path / "places")
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
        ended: list[BaseException | None] = []

        def work() -> None:
            try:
                bench.compiler.compile(bench.request, context)
            except (SdkpackError, KeyboardInterrupt) as error:
                ended.append(error)
            else:
                ended.append(None)

        thread = threading.Thread(target=work, daemon=True)
        begin = time.monotonic()
        thread.start()
        thread.join(CANCEL_S)
        assert ended, f"still at work {time.monotonic() - begin:.0f} s after it was cancelled"
        assert ended[0] is None or isinstance(ended[0], InterruptedRunError), f"cancel became {ended[0]!r}"

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
        facts = child(self._job("damaged", tmp_path), tmp_path / "places")
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
        for part, session in self._sessions(tmp_path / "bench"):
            inputs = make_samples(part.inputs)
            expected = session.run(inputs)
            copied: Any = session
            with closing(copied.clone()) as copy:
                session.close()
                outputs = copy.run(inputs)
            for key, array in expected.items():
                np.testing.assert_array_equal(outputs[key], array)

    def test_closing_twice_is_fine_and_ends_it(self, tmp_path: Path) -> None:
        for part, session in self._sessions(tmp_path / "bench"):
            session.close()
            session.close()
            with pytest.raises(SdkpackError):
                session.run(make_samples(part.inputs))

    def _sessions(self, folder: Path) -> Iterator[tuple[CompiledPart, RunnerSession]]:
        """The parts that this runtime runs, each opened by its runner alone."""
        runner = self.runner()
        for part in self.compiled(self.bench(next(iter(self.models())), folder)).parts:
            if part.runtime == self.runtime:
                files: dict[str, Any] = {
                    file.role: FileBlob(file.path, media_type=file.media_type) for file in part.files
                }
                request = OpenRequest(
                    files=files, inputs=part.inputs, outputs=part.outputs, entry=part.entry, options=part.options,
                    threads=1,
                )  # fmt: skip
                yield part, runner.open(request)

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

    def _job(self, do: str, folder: Path) -> dict[str, Any]:
        self.compiler()
        name, model = next(iter(self.models().items()))
        path, work = folder / f"{name}.onnx", folder / "job"
        onnx.save(model, str(path))
        work.mkdir()
        samples = self.samples(inputs_of(model), folder) if self.samples_per_model else ()
        return {
            "do": do, "runtime": self.runtime, "model": str(path), "folder": str(work), "params": dict(self.params),
            "precision": self.wanted_precisions()[0], "shapes": dict(self.shapes), "samples": [str(s) for s in samples],
        }  # fmt: skip

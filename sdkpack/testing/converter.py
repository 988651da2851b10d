"""Conformance of converters."""

from __future__ import annotations

import json
import shutil
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import pytest

from sdkpack.build.npz import write_npz
from sdkpack.build.pack import pack
from sdkpack.build.steps.importing import Imported
from sdkpack.build.store import Store
from sdkpack.compare import tolerance_for
from sdkpack.errors import ModelError, SdkpackError
from sdkpack.host.params import ParamSchema
from sdkpack.host.registry import Registered, Registry
from sdkpack.plugin.converter import (
    ConvertRequest,
    ConvertResult,
    EvaluateRequest,
    EvaluateResult,
    SniffRequest,
)
from sdkpack.plugin.info import ConverterInfo
from sdkpack.testing.apart import open_declared
from sdkpack.testing.base import child
from sdkpack.testing.bench import write_keys
from sdkpack.testing.damage import FOREIGN, try_all
from sdkpack.testing.numbers import Laboratory, differences, read_sample, write_samples
from sdkpack.testing.tools import ToolConformance
from sdkpack.types import TensorSpec
from sdkpack_job.codec import encode

__all__ = ["ConverterConformance", "SourceCase"]

_ONNX: Final = "application/vnd.onnx"
_CERTAIN: Final = 0.5
_OLDEST_OPSET: Final = 13


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceCase:
    """A valid source of the converter's format, and what is known of it."""

    source: Path
    files: Mapping[str, Path] = field(default_factory=dict)
    """Further files by role."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Settings as a recipe's `with` has them."""
    inputs: tuple[TensorSpec, ...] = ()
    """Declared by the author, for formats that do not say."""
    samples: tuple[Mapping[str, Any], ...] = ()
    """Arrays by the converted model's input names. Without them, inputs are made."""
    expected: tuple[Mapping[str, Any], ...] = ()
    """What the source's own framework computes for each of `samples`, by output name."""
    dims: Mapping[str, int] = field(default_factory=dict)
    """Sizes of open dimensions, for made inputs."""
    allow_code: bool = False
    """The source brings code, and cannot be converted without it."""
    tolerance: float = tolerance_for("float32")
    """The greatest normalised error against the source's framework."""


class ConverterConformance(ToolConformance):
    """Subclass it, name the converter, and say where valid sources are.

    Attributes:
        converter: its name.
        flips: how many changed bits of each file are tried; a quarter of them where each try is a process.
    """

    kind = "converter"
    method = "convert"
    converter: ClassVar[str]
    flips: ClassVar[int] = 24

    @abstractmethod
    def sources(self, folder: Path) -> Sequence[SourceCase]:
        """Valid sources, written into the empty `folder` or found elsewhere; the smallest first."""

    # What the tests work with ---------------------------------------------------------------------------------------
    def row(self) -> Registered[ConverterInfo]:
        return self.registry.converter(self.converter)

    def optional_methods(self) -> tuple[str, ...]:
        return tuple(word for word in ("sniff", "evaluate") if word in self.row().info.capabilities)

    def cases(self, folder: Path) -> Sequence[SourceCase]:
        folder.mkdir(parents=True)
        found = self.sources(folder)
        assert found, "sources() gives no source"
        return found

    def request(self, folder: Path) -> ConvertRequest:
        return self.request_for(self.cases(folder)[0])

    def request_for(self, case: SourceCase) -> ConvertRequest:
        info = self.row().info
        return ConvertRequest(
            name="case", source=case.source, files=dict(case.files),
            params=ParamSchema(info).instance({**self.params, **case.params}), inputs=case.inputs,
            writes=_ONNX if _ONNX in info.writes else info.writes[0], allow_code=case.allow_code,
        )  # fmt: skip

    def converted(self, tool: Any, case: SourceCase, folder: Path) -> tuple[ConvertResult, Imported]:
        """The case converted and read as `pack` reads it."""
        try:
            result: ConvertResult = self.call(tool, self.request_for(case), folder)
        except ModelError as error:
            formats = ", ".join(self.row().info.reads)
            pytest.fail(f"the descriptor says that it reads {formats}, and it refuses {case.source.name!r}: {error}")
        return result, Laboratory(folder).read(result.model)

    def _writes_onnx(self) -> None:
        if _ONNX not in self.row().info.writes:
            pytest.skip("the descriptor says that it writes another format than ONNX")

    def _sample_paths(self, case: SourceCase, model: Imported, folder: Path) -> tuple[Path, ...]:
        if not case.samples:
            return write_samples(model.inputs, folder, 2, dims=case.dims)
        folder.mkdir(parents=True)
        paths = tuple(folder / f"sample-{number}.npz" for number in range(len(case.samples)))
        for path, arrays in zip(paths, case.samples, strict=True):
            path.write_bytes(write_npz(dict(arrays)))
        return paths

    # How it is found ------------------------------------------------------------------------------------------------
    def test_the_descriptor_says_which_sources_are_its_own(self, tmp_path: Path) -> None:
        """Magic bytes, members, a suffix or a look inside; and its own sources are known by them."""
        info = self.row().info
        assert info.reads and all("/" in name for name in (*info.reads, *info.writes)), "formats are media types"
        assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in info.suffixes)
        assert info.magics or info.members or info.suffixes or "sniff" in info.capabilities
        for case in self.cases(tmp_path / "cases"):
            assert self._claims(case.source), (
                f"{case.source.name!r} is one of its sources, and has none of its magic bytes, members or suffixes"
            )

    def _claims(self, source: Path) -> bool:
        info = self.row().info
        if info.members or "sniff" in info.capabilities:
            return True  # told by test_it_packs..., through the core's own choice
        with source.open("rb") as file:
            head = file.read(1 << 16)
        return source.suffix.lower() in info.suffixes or any(
            head[magic.offset :].startswith(magic.content) for magic in info.magics
        )

    def test_it_is_sure_of_its_own_and_of_nothing_else(self, tmp_path: Path) -> None:
        if "sniff" not in self.row().info.capabilities:
            pytest.skip("the descriptor does not say sniff")
        tool = open_declared(self.row(), self.half())
        for case in self.cases(tmp_path / "cases"):
            found = tool.sniff(SniffRequest(source=case.source))
            assert 0 < found.score <= 1, f"{case.source.name!r} is one of its sources, and it says {found.score}"
        for what, content in FOREIGN.items():
            path = tmp_path / "foreign"
            path.write_bytes(content)
            found = tool.sniff(SniffRequest(source=path))
            assert found.score < _CERTAIN, f"it says that {what} is its own: {found.score} ({found.reason})"

    # What it makes --------------------------------------------------------------------------------------------------
    def test_it_converts_what_it_says_it_reads(self, tool: Any, tmp_path: Path) -> None:
        self._writes_onnx()
        for number, case in enumerate(self.cases(tmp_path / "cases")):
            _, model = self.converted(tool, case, tmp_path / str(number))
            assert model.outputs, "the model has no outputs"
            declared = {spec.name: spec for spec in case.inputs}
            for spec in model.inputs:
                wanted = declared.get(spec.name, spec)
                assert (spec.dtype, spec.shape) == (wanted.dtype, wanted.shape), f"it was declared as {wanted}"

    def test_it_writes_no_newer_opset_than_asked_for(self, tool: Any, tmp_path: Path) -> None:
        self._writes_onnx()
        case = self.cases(tmp_path / "cases")[0]
        _, model = self.converted(tool, case, tmp_path / "as-it-likes")
        newest = dict(model.opsets).get("", 0)
        for opset in sorted({min(newest, _OLDEST_OPSET), newest, newest + 1}):
            folder = tmp_path / f"opset-{opset}"
            try:
                result = self.call(tool, replace(self.request_for(case), opset=opset), folder)
            except ModelError as error:
                assert opset < newest, f"refused, and without a wish it writes {newest}: {error}"
                continue
            found = dict(Laboratory(folder).read(result.model).opsets).get("", 0)
            assert found <= opset, f"asked for opset {opset} at most, and it wrote {found}"

    def test_numbers_agree_with_the_source(self, tool: Any, tmp_path: Path) -> None:
        """Against stored outputs, and against the source's own framework where the converter can run it."""
        self._writes_onnx()
        compared = 0
        for number, case in enumerate(self.cases(tmp_path / "cases")):
            folder = tmp_path / str(number)
            result, model = self.converted(tool, case, folder)
            paths = self._sample_paths(case, model, folder / "samples")
            wanted = list(case.expected) or self._evaluated(tool, case, result, paths, folder / "evaluated")
            for path, expected in zip(paths, wanted, strict=bool(wanted)):
                found = Laboratory(folder).run(model, read_sample(path))
                wrong = differences(found, expected, tolerance=case.tolerance)
                assert not wrong, f"{case.source.name}: {'; '.join(wrong)}"
                compared += 1
        if not compared:
            pytest.skip("no source has expected outputs, and the descriptor does not say evaluate")

    def _evaluated(
        self, tool: Any, case: SourceCase, result: ConvertResult, paths: Sequence[Path], folder: Path
    ) -> list[Mapping[str, Any]]:
        if "evaluate" not in self.row().info.capabilities:
            return []
        found = self._evaluate(tool, case, result, (*paths, paths[0]), folder)
        again = differences(found[-1], found[0], tolerance=0.0)
        assert not again, f"the same sample twice, other answers: {'; '.join(again)}"
        return found[:-1]

    def _evaluate(
        self, tool: Any, case: SourceCase, result: ConvertResult, paths: Sequence[Path], folder: Path
    ) -> list[Mapping[str, Any]]:
        request = EvaluateRequest(conversion=self.request_for(case), model=result.model, samples=tuple(paths))
        answer: EvaluateResult = tool.evaluate(request, self.context(folder))
        assert len(answer.outputs) == len(paths), "one answer a sample"
        return [read_sample(path) for path in answer.outputs]

    def test_evaluating_other_inputs_is_a_documented_error(self, tool: Any, tmp_path: Path) -> None:
        self._writes_onnx()
        if "evaluate" not in self.row().info.capabilities:
            pytest.skip("the descriptor does not say evaluate")
        case = self.cases(tmp_path / "cases")[0]
        result, _ = self.converted(tool, case, tmp_path / "made")
        path = tmp_path / "other.npz"
        path.write_bytes(write_npz({"no_such_input": np.zeros(3, np.float32)}))
        with pytest.raises(SdkpackError, match=r"no_such_input|input|sample"):
            self._evaluate(tool, case, result, (path,), tmp_path / "evaluated")

    # Bad input ------------------------------------------------------------------------------------------------------
    def test_damaged_sources_are_documented_errors(self, tmp_path: Path) -> None:
        """Cut, changed, emptied and foreign sources, in this process: a model, a ModelError or a StepError."""
        self._in_this_process()
        (tmp_path / "job").mkdir()
        facts = child(
            {
                "do": "sources", "kind": "converter", "name": self.converter, "folder": str(tmp_path / "job"),
                "request": encode(self.request(tmp_path / "cases")), "flips": self.flips,
            },
            tmp_path / "places",
        )  # fmt: skip
        assert facts["tried"]
        assert not facts["wrong"], "\n".join(facts["wrong"])

    def test_damaged_sources_are_documented_errors_apart(self, tmp_path: Path) -> None:
        """The same where it works apart: no damage is a bug of the plugin, and none goes unnoticed."""
        if self.half().isolation == "in-process":
            pytest.skip("it works in this process")
        tool = open_declared(self.row(), self.half())
        request = self.request(tmp_path / "cases")
        told = try_all(tool, request, tmp_path / "job", flips=self.flips // 4)
        wrong = [f"{what}: {reason}" for what, reason in told if reason]
        assert not wrong, "\n".join(wrong)

    def test_a_missing_further_file_is_named(self, tool: Any, tmp_path: Path) -> None:
        cases = [case for case in self.cases(tmp_path / "cases") if case.files]
        if not cases:
            pytest.skip("no source consists of several files")
        request = replace(self.request_for(cases[0]), files={})
        with pytest.raises(ModelError) as caught:
            self.call(tool, request, tmp_path / "made")
        assert any(role in str(caught.value) for role in cases[0].files), "name the file that is missing"

    def test_code_in_a_source_needs_the_authors_word(self, tool: Any, tmp_path: Path) -> None:
        cases = [case for case in self.cases(tmp_path / "cases") if case.allow_code]
        if not cases:
            pytest.skip("no source brings code")
        info = self.row().info
        assert "code" in info.capabilities, "a converter that runs code of a source says so: capability code"
        assert self.half().isolation != "in-process", "code of a source never runs in sdkpack's process"
        for number, case in enumerate(cases):
            with pytest.raises(ModelError, match=r"allow"):
                self.call(tool, replace(self.request_for(case), allow_code=False), tmp_path / str(number))

    # Through a bundle -----------------------------------------------------------------------------------------------
    def test_it_packs_and_runs_as_it_computed_before(self, tmp_path: Path) -> None:
        """Found by its source alone, converted, packed, sealed, verified and run: what the reference computes."""
        import sdkpack
        from sdkpack.session.golden import recorded_inputs

        self._writes_onnx()
        tool = open_declared(self.row(), self.half())
        if not tool.probe().ok:
            pytest.skip("its toolchain is not here")
        case = self.cases(tmp_path / "cases")[0]
        _, model = self.converted(tool, case, tmp_path / "before")
        folder = tmp_path / "project"
        folder.mkdir()
        self._write_recipe(case, folder)
        with Store(folder / "store") as store:
            result = pack(folder, registry=self._alone(), store=store, out=folder / "out.sdkpack", sealed=True)
        plugins = {step.plugin for step in result.plan.steps if step.kind == "convert"}
        assert plugins == {self.converter}, f"{case.source.name!r} is one of its sources, and was not known as such"
        assert result.path is not None
        keys, trust = [folder / "customer.key"], folder / "publisher.pub"
        with sdkpack.open(result.path, trust=trust, keys=keys, threads=1) as session:
            golden = session.manifest.models["case"].golden
            assert golden is not None
            inputs = recorded_inputs(session.bundle, golden)
            wrong = differences(session.run("case", inputs), Laboratory(tmp_path / "before").run(model, inputs),
                                tolerance=tolerance_for("float32"))  # fmt: skip
        assert not wrong, "; ".join(wrong)

    def _alone(self) -> Registry:
        """The registry without other converters: two plugins for one format are told by sdkpack, and no fault here."""
        mine = self.row().plugin
        others = (state for state in self.registry.plugins if state.module != mine.module)
        kept = [replace(state, rows=tuple(row for row in state.rows if not isinstance(row, ConverterInfo)))
                for state in others]  # fmt: skip
        return Registry((*kept, mine))

    def _write_recipe(self, case: SourceCase, folder: Path) -> None:
        names = {}
        for role, path in (("", case.source), *case.files.items()):
            names[role] = path.name if not role else f"{role}-{path.name}"
            if path.is_dir():
                shutil.copytree(path, folder / names[role])
            else:
                shutil.copyfile(path, folder / names[role])
        lines = [
            "recipe = 1",
            'bundle = { name = "conformance", version = "1.0.0" }',
            f"models.case.source = {json.dumps(names.pop(''))}",
            *(f"models.case.convert.files.{role} = {json.dumps(name)}" for role, name in names.items()),
            *(f"models.case.convert.with.{key} = {json.dumps(value)}"
              for key, value in {**self.params, **case.params}.items()),
            *(["models.case.convert.allow_code = true"] if case.allow_code else []),
            *(f"models.case.inputs.{spec.name} = {{ dtype = {json.dumps(spec.dtype)}, "
              f"shape = {json.dumps(list(spec.shape))} }}" for spec in case.inputs),
            f"targets.it.runtime = {json.dumps(self.whole_runtime())}",
            "[encrypt]", 'recipients = ["customer.pub"]', "[sign]", 'key = "publisher.key"',
        ]  # fmt: skip
        (folder / "recipe.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        write_keys(folder)

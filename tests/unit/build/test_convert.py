"""One model, without a recipe: to ONNX and to other formats."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from sdkpack.build.convert import Converted, Export, convert
from sdkpack.build.runner import StepRunner
from sdkpack.documents.recipe import ConvertSection, ModelSection
from sdkpack.errors import FileError, ModelError, OutputError, ParityError, PluginError
from sdkpack.host.registry import Registry
from tests.unit.model.models import matmul

LAYERS = 'NET[["Mul", 2], ["Add", 3], ["Mul", 0.5], ["Sub", 1]]'
Run = Callable[..., Converted]


@pytest.fixture(scope="session")
def registry() -> Registry:
    found = Registry.of_modules(["tests.unit.build.nets"])
    assert [plugin.reason for plugin in found.plugins] == [""]
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "7 layers.txt"
    path.parent.mkdir()
    path.write_text(LAYERS)
    return path


@pytest.fixture
def run(registry: Registry, runner: StepRunner, source: Path, tmp_path: Path) -> Run:
    def call(path: Path = source, **options: object) -> Converted:
        return convert(path, registry=registry, runner=runner, out=tmp_path, **options)  # type: ignore[arg-type]

    return call


def _section(**convert: object) -> ModelSection:
    return ModelSection(source="x", convert=ConvertSection.from_object({"with": convert}))


def test_to_onnx_with_what_was_found(run: Run, tmp_path: Path) -> None:
    made = run()
    assert made.files == (tmp_path / "7 layers.onnx",)
    assert (made.source_format, made.converters, made.opset) == ("text/x-net", ("test.net",), 17)
    assert dict(made.operators) == {"Add": 1, "Mul": 2, "Sub": 1}
    assert [str(spec) for spec in made.inputs] == ["x: tensor(float32, [N, 3])"]
    [finding] = made.evidence
    assert (finding["check"], finding["passed"]) == ("conversion", True)
    model = onnx.load(made.files[0])
    onnx.checker.check_model(model, full_check=True)
    assert (made.ran, made.cached) == (2, 0)
    assert run(overwrite=True).ran == 0


def test_nothing_is_written_where_the_two_differ(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ParityError) as error:
        run(section=_section(wrong=1))
    assert error.value.where.endswith("7 layers.txt")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_what_is_there_is_not_replaced(run: Run, tmp_path: Path, reporter: object) -> None:
    (tmp_path / "7 layers.onnx").write_text("mine")
    with pytest.raises(OutputError, match="exists already") as error:
        run()
    assert "--force" in error.value.hint
    assert (tmp_path / "7 layers.onnx").read_text() == "mine"
    assert reporter.ran == []  # type: ignore[attr-defined]


def test_an_onnx_model_is_cut(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "in" / "net.onnx"
    onnx.save(matmul(), str(path))
    output = onnx.load(path).graph.node[0].output[0]
    made = run(path, section=ModelSection.from_object({"source": "x", "cut": {"outputs": [output]}}))
    assert (made.converters, made.source_format) == ((), "onnx")
    assert [spec.name for spec in made.outputs] == [output]


def test_a_missing_source_and_one_that_nobody_reads(run: Run, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="there is no file"):
        run(tmp_path / "nothing.txt")
    (tmp_path / "odd.bin").write_text("odd")
    with pytest.raises(ModelError, match="not an ONNX model"):
        run(tmp_path / "odd.bin")


@pytest.mark.parametrize("to", ["test.netwriter", "text/x-net"])
def test_to_another_format_and_back_for_comparison(run: Run, tmp_path: Path, to: str) -> None:
    path = tmp_path / "in" / "net.onnx"
    onnx.save(onnx.load(run().files[0]), str(path))
    made = run(path, export=Export(to=to))
    assert [file.name for file in made.files] == ["net.net", "net.names"]
    assert made.converters == ("test.netwriter",)
    assert made.files[0].read_text().startswith("NET[")
    [finding] = made.evidence
    assert finding["passed"]
    assert finding["note"].startswith("read back by test.net; one run on made inputs of x [1, 3]")


def test_from_one_format_to_another(run: Run) -> None:
    made = run(export=Export(to="test.netwriter"))
    assert made.converters == ("test.net", "test.netwriter")
    assert [finding["passed"] for finding in made.evidence] == [True, True]


def test_a_writer_that_changes_the_model_is_found_out(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ParityError, match=r"what 'test\.netwriter' wrote is not what the model computes: output 'y'"):
        run(export=Export(to="test.netwriter", section=ConvertSection.from_object({"with": {"wrong": True}})))
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_a_format_that_nobody_writes(run: Run) -> None:
    with pytest.raises(PluginError, match="no converter that is installed writes 'paper'") as error:
        run(export=Export(to="paper"))
    assert "test.netwriter" in error.value.hint


def test_samples_are_taken_from_anywhere(run: Run, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.ones((2, 3), np.float32))
    sample = tmp_path / "in" / "deep" / "a.npz"
    sample.parent.mkdir()
    sample.write_bytes(buffer.getvalue())
    made = run(section=ModelSection.from_object({"source": "x", "samples": ["a.npz"]}), given={"a.npz": sample})
    assert "1 runs on samples of x [2, 3]" in made.evidence[0]["note"]

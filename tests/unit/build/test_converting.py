"""From a model of another format to a bundle, the converter in an environment of its own."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sdkpack.build.context import step_context
from sdkpack.build.formats import Formats
from sdkpack.build.pack import PackResult
from sdkpack.build.progress import NullReporter
from sdkpack.build.store import Store
from sdkpack.documents.recipe import ConvertSection
from sdkpack.errors import DocumentError, FileError, ModelError, PluginError, PluginMissingError
from sdkpack.host.registry import Registry
from sdkpack.host.tools import ToolHost
from sdkpack.plugin import ModelInput, OptimizeRequest
from tests.unit.build import converters

RECIPE = """
recipe = 1
bundle = {{ name = "tiny", version = "1.0.0" }}
models.net.source = "net.sizes"
{settings}
targets.cpu.runtime = "onnxruntime"
"""

Pack = Callable[..., PackResult]


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("environments")


@pytest.fixture(scope="session")
def registry() -> Registry:
    modules = ["sdkpack.builtin.plugin", "sdkpack_onnxruntime.plugin", "tests.unit.build.converters"]
    found = Registry.of_modules(modules)
    assert [plugin.reason for plugin in found.plugins] == ["", "", ""]
    return found


@pytest.fixture
def tools(environments: Path) -> ToolHost:
    return ToolHost(environ={"SDKPACK_ENVIRONMENTS": str(environments), "PATH": "/usr/bin:/bin"})


@pytest.fixture
def foreign(folder: Path, packed: Pack, environments: Path, monkeypatch: pytest.MonkeyPatch) -> Pack:
    monkeypatch.setenv("SDKPACK_ENVIRONMENTS", str(environments))
    (folder / "net.sizes").write_text("SIZES 3")
    (folder / "scale.txt").write_text("2.5")

    def run(settings: str = "", **options: object) -> PackResult:
        return packed(RECIPE.format(settings=settings), overwrite=True, **options)

    return run


def test_a_foreign_model_packs(foreign: Pack, folder: Path) -> None:
    import sdkpack

    result = foreign('models.net.convert = { files = { scale = "scale.txt" }, with = { bias = 1.0 } }')
    source = result.manifest.models["net"].source
    assert (source.reference, source.format, source.size_bytes) == ("net.sizes", "text/x-sizes", 7)
    assert [step.kind for step in result.plan.steps] == ["convert", "check", "compile", "golden"]
    assert {"net.sizes", "scale.txt"} <= set(result.plan.inputs)
    report = {step.id: step for step in result.report.steps}
    assert report["net/convert"].note == "made by work"
    assert set(report["net/convert"].isolation) >= {"memory", "network", "files"}
    assert result.path is not None
    assert str(folder) not in result.path.read_bytes().decode("latin-1")
    import numpy as np

    with sdkpack.open(result.path, allow_unsigned=True) as session:
        found = session.run("net", {"x": np.array([[1, 2, 3]], dtype="float32")})
        assert np.allclose(found["y"], [[3.5, 6.0, 8.5]])


def test_it_is_converted_once(foreign: Pack, folder: Path, reporter: object) -> None:
    first = foreign()
    again = foreign()
    assert (again.ran, again.cached) == (0, first.ran)
    assert again.identity == first.identity
    (folder / "net.sizes").write_text("SIZES 4")
    assert foreign().ran == first.ran


def test_a_refusing_converter_names_the_model(foreign: Pack, folder: Path) -> None:
    (folder / "net.sizes").write_text("SIZES none at all")
    with pytest.raises(ModelError, match="no sizes in it") as error:
        foreign()
    assert "write SIZES and a number" in error.value.hint
    assert not (folder.parent / "out.sdkpack").exists()


def test_a_converter_that_claims_what_it_cannot_read_is_named(foreign: Pack, folder: Path) -> None:
    """In this process, too, and with the mend where the converter has none."""
    (folder / "net.sizes").write_text("SIZES 0")
    with pytest.raises(ModelError, match=r"converter 'test\.twin' on 'net\.sizes': no product of size 0") as error:
        foreign('models.net.convert = { converter = "test.twin" }')
    assert error.value.hint.startswith("it claims text/x-sizes; if the source is of another format, name its converter")


def test_wrong_settings_of_a_converter_are_told(foreign: Pack) -> None:
    with pytest.raises(DocumentError, match=r"models\.net\.convert\.with\.bais"):
        foreign("models.net.convert = { with = { bais = 1.0 } }")
    with pytest.raises(PluginMissingError, match=r"has a converter 'test\.size'"):
        foreign('models.net.convert = { converter = "test.size" }')
    with pytest.raises(FileError, match=r"scal\.txt"):
        foreign('models.net.convert = { files = { scale = "scal.txt" } }')


def choose(registry: Registry, tools: ToolHost, path: Path, content: str, named: str | None = None) -> str | None:
    path.write_text(content)
    section = ConvertSection(converter=named) if named else None
    row = Formats(registry, tools).reader(path, section)
    return row.info.name if row else None


def test_the_surest_converter_is_taken(registry: Registry, tools: ToolHost, tmp_path: Path) -> None:
    assert choose(registry, tools, tmp_path / "a.sizes", "SIZES 3") == "test.sizes", "magic bytes over a suffix"
    assert choose(registry, tools, tmp_path / "a.onnx", "SIZES 3") == "test.sizes", "magic bytes over a name"
    assert choose(registry, tools, tmp_path / "a.onnx", "sizes") == "test.twin", "a look inside over a name"
    assert choose(registry, tools, tmp_path / "b.onnx", "nothing known") is None, "reading it says what it is not"
    assert choose(registry, tools, tmp_path / "a.bin", "SIZES 3", named="test.twin") == "test.twin"
    assert choose(registry, tools, tmp_path / "a.bin", "a few sizes") == "test.twin", "only a look inside tells"
    assert choose(registry, tools, tmp_path / "a.bin", "nothing known") is None
    assert choose(registry, tools, tmp_path / "a.back", "nothing known") is None, "one that writes no ONNX"
    assert choose(registry, tools, tmp_path / "a.twin", "a few sizes") == "test.twin", "one looked, one did not"


def test_two_that_are_equally_sure_are_told(registry: Registry, tools: ToolHost, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"the converters 'test\.other' and 'test\.pair' both claim") as error:
        choose(registry, tools, tmp_path / "a.pair", "nothing known")
    assert "convert.converter = 'test.other'" in error.value.hint
    assert choose(registry, tools, tmp_path / "a.twin", "nothing known") == "test.other", "the other one looked inside"


def test_folders_and_archives_are_known_by_what_they_hold(registry: Registry, tools: ToolHost, tmp_path: Path) -> None:
    formats = Formats(registry, tools)

    def named(source: Path) -> str | None:
        row = formats.reader(source)
        return row.info.name if row else None

    folder = tmp_path / "model.dir"
    (folder / "deep").mkdir(parents=True)
    with pytest.raises(ModelError, match=r"no converter that is installed reads the folder 'model\.dir'"):
        named(folder)
    (folder / "net.txt").touch()
    assert named(folder) == "test.archive"
    (folder / "deep/weights.bin").touch()
    assert named(folder) == "test.folder", "more patterns, surer"
    archive = tmp_path / "model.bin"
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("net.txt", "")
    assert named(archive) == "test.archive"
    archive.write_bytes(archive.read_bytes()[:-20])
    assert named(archive) is None, "a damaged directory tells nothing"


def test_onnx_is_known_by_its_content(registry: Registry, tools: ToolHost, folder: Path) -> None:
    renamed = folder / "net.twin"
    renamed.write_bytes((folder / "net.onnx").read_bytes())
    assert Formats(registry, tools).reader(renamed) is None


def test_writers_are_found_by_converter_type_and_word(registry: Registry, tools: ToolHost) -> None:
    with pytest.raises(PluginError, match=r"no converter that is installed writes 'nonsense'"):
        Formats(registry, tools).writer("nonsense")


def test_what_nobody_reads_is_told_as_before(packed: Pack, folder: Path) -> None:
    (folder / "net.bin").write_text("nothing known")
    with pytest.raises(ModelError, match="not an ONNX model"):
        packed(RECIPE.format(settings="").replace("net.sizes", "net.bin"))


def test_a_missing_source_is_told_once(packed: Pack) -> None:
    with pytest.raises(FileError, match=r"there is no file 'net\.sizes'") as error:
        packed(RECIPE.format(settings=""))
    assert error.value.problems == ()


def test_a_compiler_works_apart_like_one_in_this_process(
    packed: Pack, registry: Registry, environments: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDKPACK_ENVIRONMENTS", str(environments))
    text = RECIPE.format(settings="").replace("net.sizes", "net.onnx").replace('"onnxruntime"', '"test.apart"')
    result = packed(text, registry=registry)
    variant = result.manifest.models["net"].variants[0]
    assert variant.needs.token == "t1"
    assert set(variant.parts[0].files) == {"model", "graph"}
    assert variant.parts[0].options["model"] == "not a path"
    assert [finding.check for finding in variant.evidence] == ["determinism", "parity"]
    report = {step.id: step for step in result.report.steps}
    assert "files" in report["net/compile/cpu"].isolation
    assert "apart 1; python 3." in next(s.fingerprint for s in result.plan.steps if s.kind == "compile")


@pytest.mark.parametrize("isolation", ["in-process", "environment"])
def test_an_optimizer_works_in_and_out_of_this_process(
    registry: Registry, tools: ToolHost, store: Store, folder: Path, isolation: str
) -> None:
    row = registry.optimizer("test.nothing")
    environment = converters.EMPTY if isolation == "environment" else None
    half = replace(row.info.half, isolation=isolation, environment=environment)  # type: ignore[arg-type]
    tool = tools.open(row, half)
    assert tool.probe().ok
    path = folder / "net.onnx"
    model = ModelInput(name="net", path=path, graph=path, weights=path, tensors=path, inputs=(), outputs=())
    with step_context(
        "net/optimize", plugin="test.nothing", store=store, reporter=NullReporter(), cancel=threading.Event(),
        environment={},
    ) as context:  # fmt: skip
        result = tool.optimize(OptimizeRequest(model=model), context)
    assert (result.model, result.modified) == (path, False)

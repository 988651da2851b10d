"""The converters as the packer meets them: found by content, run in jobs of their own, and not to be tricked."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import pickle  # noqa: TID251  (to make what must not be loaded)
import threading
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sdkpack_sklearn.pickled import imports_of
from sdkpack_sklearn.plugin import ENVIRONMENT, sdkpack_converters

from sdkpack.build.context import step_context
from sdkpack.build.formats import Formats
from sdkpack.build.progress import NullReporter
from sdkpack.build.store import Store
from sdkpack.errors import ModelError
from sdkpack.host.environments import Environment
from sdkpack.host.registry import Registry
from sdkpack.host.tools import ToolHost
from sdkpack.plugin import ConvertRequest, EvaluateRequest, SniffRequest

CANARY = "canary-5c1d fired"


@pytest.fixture(scope="module")
def registry() -> Registry:
    found = Registry.of_modules(["sdkpack.builtin.plugin", "sdkpack_caffe.plugin", "sdkpack_sklearn.plugin"])
    assert [plugin.reason for plugin in found.plugins] == ["", "", ""]
    return found


class Bench:
    """Runs converters in jobs, as a build does."""

    def __init__(self, registry: Registry, folder: Path) -> None:
        self.registry = registry
        self.folder = folder
        self.host = ToolHost(environ=dict(os.environ))
        self.store = Store(folder / "store")
        self.log = ""
        self.isolation: dict[str, str] = {}

    def tool(self, name: str) -> Any:
        row = self.registry.converter(name)
        return self.host.open(row, row.info.half)

    def reader(self, source: Path) -> str:
        row = Formats(self.registry, self.host).reader(source)
        return row.info.name if row is not None else ""

    def job(self, name: str, work: Callable[[Any, Any], Any]) -> Any:
        with step_context(
            "net/convert", plugin=name, store=self.store, reporter=NullReporter(), cancel=threading.Event(),
            environment={},
        ) as context:  # fmt: skip
            try:
                return work(self.tool(name), context)
            finally:
                self.isolation = context.isolation
                self.log = context.log_file.read_text(errors="replace")

    def convert(self, name: str, source: Path, **options: Any) -> bytes:
        request = ConvertRequest(name="net", source=source, **options)
        return bytes(self.job(name, lambda tool, context: tool.convert(request, context).model.read_bytes()))


@pytest.fixture
def bench(registry: Registry, environment: Environment, tmp_path: Path) -> Bench:
    return Bench(registry, tmp_path)


class Fires:
    """Says so when it is unpickled, and tries to leave a mark outside."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return exec, (f"print({CANARY!r}, flush=True); open({str(self.mark)!r}, 'w').write('x')",)


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes, "zlib": zlib.compress, "gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress,
}  # fmt: skip


def test_formats_are_known_by_their_content(bench: Bench, models: Path, tmp_path: Path) -> None:
    for name, converter in (
        ("xgboost_best/model.json", "xgboost"),
        ("xgboost_rank_ndcg/model.ubj", "xgboost"),
        ("lightgbm_binary/model.txt", "lightgbm"),
        ("skops/model.skops", "sklearn.skops"),
        ("logistic/model.joblib", "sklearn.pickle"),
    ):
        source = tmp_path / "model"
        source.write_bytes((models / name).read_bytes())
        assert bench.reader(source) == converter, name


def test_a_packed_pickle_and_pretty_json_are_looked_into(bench: Bench, models: Path, tmp_path: Path) -> None:
    packed = tmp_path / "model.joblib"
    packed.write_bytes(zlib.compress((models / "logistic/model.joblib").read_bytes()))
    assert bench.reader(packed) == "sklearn.pickle"
    pretty = tmp_path / "model.json"
    pretty.write_text(json.dumps(json.loads((models / "xgboost_best/model.json").read_text()), indent=2))
    assert bench.reader(pretty) == "xgboost"


def test_a_dump_of_lightgbm_is_named_for_what_it_is(bench: Bench, tmp_path: Path) -> None:
    dump = tmp_path / "model.json"
    dump.write_text('{"name": "tree", "version": "v4", "num_class": 1, "num_tree_per_iteration": 1, "tree_info": []}')
    assert bench.reader(dump) == "lightgbm"
    with pytest.raises(ModelError, match="is a dump") as caught:
        bench.convert("lightgbm", dump)
    assert "save_model" in caught.value.hint


@pytest.mark.parametrize("packing", PACKED)
def test_what_a_pickle_names_is_read_without_running_it(packing: str, tmp_path: Path) -> None:
    mark, source = tmp_path / "mark", tmp_path / "model.joblib"
    for protocol in range(6):
        source.write_bytes(PACKED[packing](pickle.dumps(Fires(mark), protocol)))
        assert [name.rpartition(".")[2] for name in imports_of(source)] == ["exec"], protocol
    assert not mark.exists()


@pytest.mark.parametrize("packing", ["plain", "zlib"])
def test_a_pickle_never_fires_without_leave(packing: str, bench: Bench, tmp_path: Path) -> None:
    mark, source = tmp_path / "mark", tmp_path / "model.joblib"
    source.write_bytes(PACKED[packing](pickle.dumps(Fires(mark))))
    assert bench.tool("sklearn.pickle").sniff(SniffRequest(source=source)).score < 0.8
    said = r"is a pickle: loading it runs what it says, and it names builtins\.exec"
    with pytest.raises(ModelError, match=said) as caught:
        bench.convert("sklearn.pickle", source)
    assert "allow_code = true" in caught.value.hint
    assert "--allow-code" in caught.value.hint
    assert CANARY not in bench.log
    assert not mark.exists()


def test_with_leave_it_fires_in_the_worker_and_nowhere_else(
    bench: Bench, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mark, source = tmp_path / "mark", tmp_path / "model.joblib"
    source.write_bytes(pickle.dumps(Fires(mark)))
    with pytest.raises(ModelError, match=r"cannot be unpickled|no conversion is known for NoneType"):
        bench.convert("sklearn.pickle", source, allow_code=True)
    assert CANARY in bench.log
    assert CANARY not in "".join(capfd.readouterr())
    if not bench.isolation.get("files", "not enforced").startswith("not enforced"):
        assert not mark.exists()


def test_skops_files_name_what_they_would_run(bench: Bench, models: Path, tmp_path: Path) -> None:
    mark, source = tmp_path / "mark", tmp_path / "model.skops"
    with zipfile.ZipFile(models / "skops/model.skops") as good:
        schema = json.loads(good.read("schema.json"))
    call = {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "is_json": True, "__id__": 1,
            "content": json.dumps(f"touch {mark}")}  # fmt: skip
    schema.update(
        __class__="_Evil", __module__="os", __loader__="ReduceNode", content=None, __id__=2,
        __reduce__={"args": {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode",
                             "content": [call], "__id__": 3}},
        constructor={"__class__": "system", "__module__": "os", "__loader__": "TypeNode", "__id__": 4},
    )  # fmt: skip
    with zipfile.ZipFile(source, "w") as bad:
        bad.writestr("schema.json", json.dumps(schema))
    with pytest.raises(ModelError):
        bench.convert("sklearn.skops", source)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("converter", "file", "options"),
    [
        ("xgboost", "xgboost_best/model.json", {}),
        ("lightgbm", "lightgbm_binary/model.txt", {}),
        ("sklearn.skops", "skops/model.skops", {}),
        ("sklearn.pickle", "columns/model.joblib", {"allow_code": True}),
    ],
)
def test_the_whole_way_in_jobs(
    converter: str, file: str, options: dict[str, Any], bench: Bench, models: Path, tmp_path: Path
) -> None:
    from plugins.sklearn.tests.test_models import answers, arrays, error_of

    request = ConvertRequest(name="net", source=models / file, **options)
    stored = arrays((models / file).parent / "sample.npz")
    sample = tmp_path / "sample.npz"
    np.savez(sample, **({"X": stored["*"]} if "*" in stored else stored))

    def both(tool: Any, context: Any) -> None:
        result = tool.convert(request, context)
        asked = EvaluateRequest(conversion=request, model=result.model, samples=(sample,))
        expected = arrays(tool.evaluate(asked, context).outputs[0])
        found = answers(result.model, arrays(sample))
        for name, wanted in expected.items():
            if wanted.dtype.kind in "iU":
                assert (found[name].astype(wanted.dtype) == wanted).all()
            else:
                assert error_of(found[name], wanted) <= 1e-5

    bench.job(converter, both)
    assert bench.tool(converter).probe().fingerprint


def test_what_is_declared_loads_nothing() -> None:
    rows = sdkpack_converters()
    assert {row.name for row in rows} == {"sklearn.pickle", "sklearn.skops", "xgboost", "lightgbm"}
    for row in rows:
        assert row.half.isolation == "environment"
        assert row.half.environment == ENVIRONMENT
        assert ("code" in row.capabilities) == row.name.startswith("sklearn.")
    assert all("==" in text for text in ENVIRONMENT.requirements)

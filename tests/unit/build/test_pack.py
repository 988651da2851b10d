from __future__ import annotations

import io
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import sdkpack.build.pack as pack_module
from sdkpack.build.pack import PackResult, pack, plan
from sdkpack.build.store import Store
from sdkpack.bundle import open_bundle
from sdkpack.crypto.keyfile import format_key
from sdkpack.crypto.recipients import HpkeIdentity
from sdkpack.crypto.signature import ED25519, SigningKey
from sdkpack.documents.report import Report
from sdkpack.errors import (
    BundleError,
    DocumentError,
    FileError,
    InternalError,
    InterruptedRunError,
    KeyFileError,
    NoMatchError,
    OutputError,
    PluginBrokenError,
    TrustError,
)
from sdkpack.host.registry import Registry
from sdkpack.session.opening import verify_bundle
from tests.unit.build.conftest import RECIPE, Recorder
from tests.unit.build.test_parity import FAULTY, faulty
from tests.unit.model.models import matmul

LABELS = """
[pipelines.classify]
inputs.x = "tensor(float32, [1, 64])"
params.k = { default = 2, min = 1, max = 5 }
steps = [
  { model = "net" },
  { op = "scores.softmax" },
  { op = "scores.top_k", with = { k = "$k", labels = "labels.txt" }, as = "classes" },
]
samples = ["sample.npy"]
"""


@pytest.fixture
def labelled(folder: Path, registry: Registry) -> Iterator[str]:
    names = {row.info.name for row in registry.operators()}
    if not {"scores.softmax", "scores.top_k"} <= names:
        pytest.skip(f"the operators of this recipe are not installed, only {sorted(names)}")
    (folder / "labels.txt").write_text("".join(f"class {number}\n" for number in range(64)))
    np.save(folder / "sample.npy", np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 64))
    yield RECIPE + LABELS


def verified(path: Path, registry: Registry, **options: Any) -> Any:
    return verify_bundle(path, registry=registry, **{"trust": None, "allow_unsigned": True, **options})


# What comes out ---------------------------------------------------------------------------------------------------
def test_a_bundle_holds_what_its_manifest_names(packed: Callable[..., PackResult], registry: Registry) -> None:
    result = packed()
    assert result.path is not None
    with verified(result.path, registry) as bundle:
        assert bundle.document == result.manifest
        assert set(bundle.files) == result.manifest.files()
        assert bundle.identity == result.identity
    assert result.path.stat().st_size == result.size_bytes
    entry = result.manifest.models["net"]
    assert entry.source.reference == "net.onnx"
    assert entry.variants[0].portable
    assert entry.variants[0].target == "cpu"
    assert result.manifest.sequence == 3
    assert (result.cached, result.ran) == (0, 3)


def test_the_report_stands_beside_the_bundle(packed: Callable[..., PackResult]) -> None:
    result = packed()
    assert result.report_path is not None
    assert result.report_path.name == "out.report.json"
    report = Report.from_json(result.report_path.read_bytes())
    assert report == result.report
    assert [step.id for step in report.steps] == ["net/import", "net/compile/cpu", "net/golden"]
    assert report.identity == result.identity


def test_the_default_name_and_a_folder_as_output(
    packed: Callable[..., PackResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert packed(out=None).path == Path("tiny-1.0.0.sdkpack")
    (tmp_path / "dist").mkdir()
    assert packed(out=tmp_path / "dist").path == tmp_path / "dist" / "tiny-1.0.0.sdkpack"
    assert sorted(path.name for path in (tmp_path / "dist").iterdir()) == [
        "tiny-1.0.0.report.json",
        "tiny-1.0.0.sdkpack",
    ]


def test_a_stream_gets_the_same_bytes(packed: Callable[..., PackResult]) -> None:
    stream = io.BytesIO()
    result = packed(out=stream)
    assert result.path is None
    assert result.report_path is None
    path = packed().path
    assert path is not None
    assert stream.getvalue() == path.read_bytes()


def test_an_existing_bundle_is_not_replaced_unless_allowed(
    packed: Callable[..., PackResult], reporter: Recorder
) -> None:
    path = packed().path
    assert path is not None
    path.write_bytes(b"mine")
    reporter.ran.clear()
    with pytest.raises(OutputError, match="exists already") as error:
        packed(RECIPE.replace("1.0.0", "1.0.1"))
    assert "--force" in error.value.hint
    assert path.read_bytes() == b"mine"
    assert (reporter.ran, reporter.stored) == ([], [])
    assert packed(overwrite=True).path == path
    assert path.read_bytes() != b"mine"


def test_progress_reaches_the_end(packed: Callable[..., PackResult], reporter: Recorder) -> None:
    packed()
    assert reporter.steps == 3
    assert reporter.ran == ["net/import", "net/compile/cpu", "net/golden"]
    assert reporter.written[-1][0] == reporter.written[-1][1] > 0


# Determinism and the store ----------------------------------------------------------------------------------------
def test_two_stores_two_places_two_umasks_one_result(
    folder: Path, labelled: str, registry: Registry, tmp_path: Path
) -> None:
    (folder / "recipe.toml").write_text(labelled)
    shutil.copytree(folder, tmp_path / "another" / "place")
    bundles = []
    for number, (where, mask) in enumerate([(folder, 0o022), (tmp_path / "another" / "place", 0o077)]):
        before = os.umask(mask)
        try:
            with Store(tmp_path / f"store-{number}") as store:
                out = tmp_path / f"{number}.sdkpack"
                assert pack(where, registry=registry, store=store, out=out).ran > 0
                bundles.append(out.read_bytes())
        finally:
            os.umask(before)
    assert bundles[0] == bundles[1]
    for secret in (str(tmp_path), folder.name, os.uname().nodename):
        assert secret.encode() not in bundles[0]


def test_a_second_pack_does_no_step(packed: Callable[..., PackResult], labelled: str, reporter: Recorder) -> None:
    first = packed(labelled)
    reporter.ran.clear()
    second = packed(overwrite=True)
    assert reporter.ran == []
    assert (second.cached, second.ran) == (first.ran, 0)
    assert second.identity == first.identity


def test_a_changed_label_file_converts_no_model_again(
    packed: Callable[..., PackResult], labelled: str, folder: Path, reporter: Recorder
) -> None:
    first = packed(labelled)
    reporter.ran.clear()
    (folder / "labels.txt").write_text("".join(f"kind {number}\n" for number in range(64)))
    second = packed(overwrite=True)
    assert reporter.ran == ["classify/golden/0"]
    assert second.identity != first.identity


def test_another_version_or_licence_runs_no_step(packed: Callable[..., PackResult], reporter: Recorder) -> None:
    first = packed()
    reporter.ran.clear()
    second = packed(RECIPE.replace("1.0.0", "1.0.1").replace("MIT", "Apache-2.0"), overwrite=True)
    assert reporter.ran == []
    assert second.identity != first.identity


def test_a_tool_without_a_fingerprint_works_each_time(packed: Callable[..., PackResult], reporter: Recorder) -> None:
    text = FAULTY.replace("test.faulty", "test.nameless")
    packed(text)
    reporter.ran.clear()
    packed(text, overwrite=True)
    assert reporter.ran == ["net/compile/cpu", "net/golden"]


def test_a_damaged_object_is_made_again(packed: Callable[..., PackResult], store: Store, reporter: Recorder) -> None:
    first = packed()
    largest = max((store.root / "objects").iterdir(), key=lambda path: path.stat().st_size)
    largest.chmod(0o600)
    largest.write_bytes(bytes(largest.stat().st_size))
    reporter.ran.clear()
    assert packed(overwrite=True).identity == first.identity
    assert "net/import" in reporter.ran
    assert "damaged" in reporter.warnings[0]


# Pipelines --------------------------------------------------------------------------------------------------------
def test_a_pipeline_is_packed_with_its_assets_and_a_recorded_run(
    packed: Callable[..., PackResult], labelled: str, registry: Registry, folder: Path
) -> None:
    result = packed(labelled)
    assert result.path is not None
    pipeline = result.manifest.pipelines["classify"]
    assert pipeline.steps[2].params["labels"] == {"asset": "assets/labels.txt"}
    golden = result.manifest.goldens["classify"][0]
    with verified(result.path, registry) as bundle:
        assert bundle.read("assets/labels.txt") == (folder / "labels.txt").read_bytes()
        assert bundle.read(golden.inputs["x"]) == (folder / "sample.npy").read_bytes()
        recorded = json.loads(bundle.read(golden.outputs))
    classes = recorded["classes"]
    assert len(classes) == 2
    model = onnx.load(folder / "net.onnx")
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    scores = np.load(folder / "sample.npy") @ weights["w"] + weights["b"]
    assert f"class {int(scores.argmax())}" in json.dumps(classes[0])


def test_what_is_packed_replays(packed: Callable[..., PackResult], labelled: str, registry: Registry) -> None:
    from sdkpack.session.golden import replay
    from sdkpack.session.opening import open_session

    result = packed(labelled)
    assert result.path is not None
    with open_session(result.path, trust=None, allow_unsigned=True) as session:
        results = replay(session)
    assert [(found.kind, found.name, found.passed) for found in results] == [
        ("model", "net", True),
        ("pipeline", "classify", True),
    ]


# Keys -------------------------------------------------------------------------------------------------------------
@pytest.fixture
def keyed(folder: Path) -> str:
    (folder / "keys").mkdir()
    customer = HpkeIdentity.generate("hpke-x25519", os.urandom)
    publisher = SigningKey.generate(ED25519, os.urandom)
    for name, key in {
        "customer.key": customer,
        "customer.pub": customer.recipient,
        "publisher.key": publisher,
        "publisher.pub": publisher.verifying_key,
    }.items():
        path = folder / "keys" / name
        path.touch(mode=0o600)
        path.write_text(format_key(key) + "\n")
    return RECIPE + '[encrypt]\nrecipients = ["keys/customer.pub"]\n[sign]\nkey = "keys/publisher.key"\n'


def test_an_encrypted_and_signed_bundle(
    packed: Callable[..., PackResult], keyed: str, folder: Path, registry: Registry, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)  # keys are beside the recipe, not where the packer was started
    result = packed(keyed)
    assert result.path is not None
    trust = folder / "keys" / "publisher.pub"
    with verified(result.path, registry, trust=trust, allow_unsigned=False,
                  keys=[folder / "keys" / "customer.key"]) as bundle:  # fmt: skip
        assert bundle.document == result.manifest
    with pytest.raises(NoMatchError):
        verified(result.path, registry)
    with open_bundle(result.path) as untrusted:
        assert untrusted.info.encrypted
        assert len(untrusted.info.signatures) == 1
    plain = packed(RECIPE, out=tmp_path / "plain.sdkpack")
    assert plain.path is not None
    with pytest.raises(TrustError):
        verified(plain.path, registry, trust=trust, allow_unsigned=False)


def test_keys_that_cannot_be_used_are_told_before_any_step(
    packed: Callable[..., PackResult], keyed: str, folder: Path, reporter: Recorder
) -> None:
    with pytest.raises(KeyFileError, match=r"encrypt\.recipients\[0\]"):
        packed(keyed.replace("customer.pub", "nobody.pub"))
    with pytest.raises(KeyFileError, match=r"sign\.key"):
        packed(keyed.replace("publisher.key", "publisher.pub"))
    (folder / "keys" / "publisher.key").chmod(0o644)
    with pytest.raises(KeyFileError, match="can be read by others"):
        packed(keyed)
    with pytest.raises(KeyFileError) as error:
        packed(keyed.replace("customer.pub", "nobody.pub"))
    assert len(error.value.problems) == 2
    assert reporter.ran == []


# Plugins that break their contract --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("crash", "kind", "text"),
    [
        ("compile", InternalError, r"step 'net/compile/cpu' \(test.faulty\) crashed: ZeroDivisionError"),
        ("result", PluginBrokenError, "did not return one compiled model named 'net'"),
        ("outside", PluginBrokenError, "outside of its work folder"),
        ("link", PluginBrokenError, "outside of its work folder"),
        ("lacks", PluginBrokenError, "do not give the output 'y'"),
        ("role", PluginBrokenError, r"roles are not names, each once: \.\./model"),
    ],
)
def test_a_compiler_that_breaks_its_contract_is_named(
    packed: Callable[..., PackResult], store: Store, tmp_path: Path, crash: str, kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text):
        packed(faulty(crash=crash))
    assert not (tmp_path / "out.sdkpack").exists()
    assert [path.name for path in (store.root / "work").glob("*/*")] == []


# Reading again ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("at", [100, -300, -100])
def test_a_writer_that_wrote_something_else_is_found_out(
    packed: Callable[..., PackResult], keyed: str, monkeypatch: pytest.MonkeyPatch, sealed: bool, at: int
) -> None:
    write = pack_module._write

    def careless(content: Any, target: Any, *rest: Any) -> Any:
        summary = write(content, target, *rest)
        data = bytearray(target.read_bytes())
        data[at] ^= 1
        target.write_bytes(data)
        return summary

    monkeypatch.setattr(pack_module, "_write", careless)
    with pytest.raises((BundleError, OutputError)):
        packed(keyed if sealed else RECIPE)


def test_of_a_large_bundle_the_tail_is_read_again(
    packed: Callable[..., PackResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = pack_module._write

    def careless(content: Any, target: Any, *rest: Any) -> Any:
        summary = write(content, target, *rest)
        data = bytearray(target.read_bytes())
        data[-300] ^= 1
        target.write_bytes(data)
        return summary

    monkeypatch.setattr(pack_module, "_RECHECK_BELOW_BYTES", 0)
    packed()
    monkeypatch.setattr(pack_module, "_write", careless)
    with pytest.raises((BundleError, OutputError)):
        packed(overwrite=True)


def test_a_bundle_that_was_replaced_meanwhile_is_found_out(
    packed: Callable[..., PackResult], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = packed(out=tmp_path / "other.sdkpack").path
    assert other is not None
    write = pack_module._write

    def raced(content: Any, target: Any, *rest: Any) -> Any:
        summary = write(content, target, *rest)
        shutil.copyfile(other, target)
        return summary

    monkeypatch.setattr(pack_module, "_write", raced)
    with pytest.raises(OutputError, match="somebody replaced it"):
        packed(RECIPE.replace("1.0.0", "1.0.1"))


# The rest ---------------------------------------------------------------------------------------------------------
def test_a_plan_runs_no_more_than_imports(folder: Path, registry: Registry, store: Store, reporter: Recorder) -> None:
    made = plan(folder / "recipe.toml", registry=registry, store=store, reporter=reporter)
    assert [step.kind for step in made.steps] == ["import", "compile", "golden"]
    assert reporter.ran == ["net/import"]


def test_a_missing_or_unreadable_recipe(tmp_path: Path, registry: Registry, store: Store) -> None:
    with pytest.raises(FileError, match="there is no recipe") as error:
        plan(tmp_path / "recipe.toml", registry=registry, store=store)
    assert "sdkpack init" in error.value.hint
    (tmp_path / "recipe.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(FileError, match="not UTF-8"):
        plan(tmp_path, registry=registry, store=store)
    (tmp_path / "recipe.toml").write_text("recipe = 1\n")
    with pytest.raises(DocumentError):
        plan(tmp_path, registry=registry, store=store)


def test_cancel_before_the_pack_does_nothing(packed: Callable[..., PackResult], tmp_path: Path) -> None:
    import threading

    cancel = threading.Event()
    cancel.set()
    with pytest.raises(InterruptedRunError):
        packed(cancel=cancel)
    assert not (tmp_path / "out.sdkpack").exists()


def test_several_targets_are_several_variants_that_share_their_bytes(packed: Callable[..., PackResult]) -> None:
    result = packed(RECIPE + 'targets.cpu2 = { runtime = "onnxruntime", with = { threads = 1 } }\n')
    variants = result.manifest.models["net"].variants
    assert [variant.target for variant in variants] == ["cpu", "cpu2"]
    assert result.path is not None
    with open_bundle(result.path) as bundle:
        assert len(bundle.info.blobs) < len(result.manifest.files())


def test_the_bundle_s_mode_follows_the_umask(packed: Callable[..., PackResult]) -> None:
    path = packed().path
    assert path is not None
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_notices_travel_with_the_bundle(packed: Callable[..., PackResult], folder: Path, registry: Registry) -> None:
    (folder / "LICENSE model.txt").write_text("do as you like")
    result = packed('notices = [ { title = "net", license = "MIT", file = "LICENSE model.txt" } ]\n' + RECIPE)
    assert result.manifest.notices[0].file == "notices/0/LICENSE-model.txt"
    assert result.path is not None
    with verified(result.path, registry) as bundle:
        assert bundle.read("notices/0/LICENSE-model.txt") == b"do as you like"


def test_the_model_s_own_licence_is_a_notice(packed: Callable[..., PackResult]) -> None:
    result = packed(RECIPE + 'models.net.license = "BSD-3-Clause"\n')
    assert [(notice.title, notice.license) for notice in result.manifest.notices] == [("model net", "BSD-3-Clause")]


def test_a_model_that_changes_while_it_is_packed_is_found_out(
    packed: Callable[..., PackResult], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sdkpack.model.split as split_module

    split = split_module.split_model

    def late(*args: Any, **options: Any) -> Any:
        onnx.save(matmul(seed=9), folder / "net.onnx")
        return split(*args, **options)

    monkeypatch.setattr(split_module, "split_model", late)
    with pytest.raises(FileError, match="changed while it was read"):
        packed()


def test_control_c_while_writing_leaves_the_old_bundle(
    packed: Callable[..., PackResult], reporter: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = packed().path
    assert path is not None
    before = path.read_bytes()

    def interrupt(done_bytes: int, total_bytes: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(reporter, "wrote", interrupt)
    with pytest.raises(InterruptedRunError) as error:
        packed(RECIPE.replace("1.0.0", "1.0.1"), overwrite=True)
    assert error.value.exit_code == 130
    assert path.read_bytes() == before
    assert sorted(found.name for found in path.parent.glob("*out*")) == ["out.report.json", "out.sdkpack"]


def test_control_c_in_a_plugin_stops_the_pack(packed: Callable[..., PackResult], tmp_path: Path, store: Store) -> None:
    with pytest.raises(InterruptedRunError):
        packed(faulty(crash="interrupt"))
    assert not (tmp_path / "out.sdkpack").exists()
    assert list(store.workspaces.folder.glob("*/*")) == []


def test_an_object_that_is_damaged_between_steps_and_writing_is_found_out(
    packed: Callable[..., PackResult], store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    content = pack_module._content

    def damaged(*args: Any) -> Any:
        made = content(*args)
        largest = max((store.root / "objects").iterdir(), key=lambda path: path.stat().st_size)
        largest.chmod(0o600)
        largest.write_bytes(bytes(largest.stat().st_size))
        return made

    monkeypatch.setattr(pack_module, "_content", damaged)
    with pytest.raises(FileError) as error:
        packed()
    assert "sdkpack store clean" in error.value.hint
    assert not (tmp_path / "out.sdkpack").exists()


def test_a_compiler_is_called_by_one_thread_at_a_time(packed: Callable[..., PackResult], folder: Path) -> None:
    text = FAULTY
    for number in range(4):
        onnx.save(matmul(seed=number + 1), folder / f"net{number}.onnx")
        text = text.replace(
            "targets.cpu.runtime", f'models.net{number}.source = "net{number}.onnx"\ntargets.cpu.runtime'
        )
    assert packed(text).ran == 15


def test_a_file_of_a_variant_keeps_its_suffix(packed: Callable[..., PackResult]) -> None:
    variant = packed(FAULTY).manifest.models["net"].variants[0]
    assert variant.parts[0].files == {"model": "models/net/cpu/0/model.onnx"}
    assert not variant.portable

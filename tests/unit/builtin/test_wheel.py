"""The wheel exporter, on a manifest without a real bundle behind it; the integration tests install real releases."""

from __future__ import annotations

import ast
import csv
import hashlib
import io
import json
import logging
import subprocess
import sys
import zipfile
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from sdkpack.builtin.wheel.exporter import WheelExporter
from sdkpack.builtin.wheel.params import WheelParams
from sdkpack.errors import UsageError
from sdkpack.plugin import ExportRequest

MANIFEST: dict[str, Any] = {
    "manifest": 1,
    "name": "acme-ocr",
    "version": "1.0.0",
    "sequence": 1,
    "license": "Apache-2.0",
    "summary": "Reads printed text.",
    "models": {},
    "pipelines": {
        "read": {
            "summary": "Reads a page.",
            "inputs": {"image": "image/encoded"},
            "outputs": {"lines": {"value": "lines", "type": "list(record(score: float, text: string))"}},
            "params": {"box_threshold": {"default": 0.5, "min": 0.1, "max": 0.9}},
            "steps": [],
        }
    },
    "notices": [{"title": "The models", "license": "Apache-2.0", "file": "notices/LICENSE"}],
}


@dataclass
class View:
    """A bundle that consists of a manifest and two files."""

    path: Path
    manifest: Mapping[str, Any] = field(default_factory=lambda: MANIFEST)
    encrypted: bool = True
    identity: str = "sha256:" + "0" * 64

    def read(self, path: str) -> bytes:
        return {"notices/LICENSE": b"the licence text"}[path]


@dataclass
class Context:
    work: Path
    log: Any = field(default_factory=lambda: logging.getLogger("test"))
    seed: int = 0

    def progress(self, fraction: float | None, text: str = "") -> None:
        pass

    def run(self, argv: Any, *, timeout_s: float | None = None, env: Any = None) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(argv, check=True, capture_output=True, timeout=timeout_s)


def export(tmp_path: Path, *, manifest: Mapping[str, Any] = MANIFEST, **params: Any) -> zipfile.ZipFile:
    tmp_path.mkdir(exist_ok=True)
    bundle = tmp_path / "acme-ocr-1.0.0.sdkpack"
    bundle.write_bytes(b"\x89SDK" + bytes(100_000))
    work = tmp_path / "work"
    work.mkdir()
    request = ExportRequest(
        bundle=View(path=bundle, manifest=manifest),
        params=WheelParams(**params),
        trusted_keys=("sdkpack-verify-key ed25519 AAAA\n",),
        distributions={"sdkpack": "0.1.0", "acme-runtime": "2.3.4"},
        plugin_modules=("acme_runtime.plugin",),
    )
    result = WheelExporter().export(request, Context(work))
    return zipfile.ZipFile(result.files[0])


def text(wheel: zipfile.ZipFile, name: str) -> str:
    return wheel.read(name).decode()


def test_wheel_holds_what_a_customer_needs(tmp_path: Path) -> None:
    with export(tmp_path, show="lines.text") as wheel:
        assert Path(str(wheel.filename)).name == "acme_ocr-1.0.0-py3-none-any.whl"
        assert set(wheel.namelist()) == {
            "acme_ocr/__init__.py",
            "acme_ocr/_command.py",
            "acme_ocr/py.typed",
            "acme_ocr/product.json",
            "acme_ocr/data/acme-ocr-1.0.0.sdkpack",
            "acme_ocr/trust/publisher-1.pub",
            "acme_ocr-1.0.0.dist-info/METADATA",
            "acme_ocr-1.0.0.dist-info/WHEEL",
            "acme_ocr-1.0.0.dist-info/RECORD",
            "acme_ocr-1.0.0.dist-info/entry_points.txt",
            "acme_ocr-1.0.0.dist-info/licenses/01-LICENSE",
        }
        metadata = text(wheel, "acme_ocr-1.0.0.dist-info/METADATA")
        assert "Requires-Dist: acme-runtime>=2.3.4,<2.4\n" in metadata
        assert "License-Expression: Apache-2.0\nLicense-File: 01-LICENSE\n" in metadata
        assert "acme-ocr = acme_ocr._command:main" in text(wheel, "acme_ocr-1.0.0.dist-info/entry_points.txt")


def test_record_names_every_file_with_its_digest_and_size(tmp_path: Path) -> None:
    with export(tmp_path) as wheel:
        rows = list(csv.reader(io.StringIO(text(wheel, "acme_ocr-1.0.0.dist-info/RECORD"))))
        assert {row[0] for row in rows} == set(wheel.namelist())
        for name, digest, size in rows:
            if name.endswith("RECORD"):
                assert (digest, size) == ("", "")
                continue
            content = wheel.read(name)
            expected = urlsafe_b64decode(digest.removeprefix("sha256=") + "==")
            assert (hashlib.sha256(content).digest(), len(content)) == (expected, int(size))


def test_same_bundle_gives_same_bytes(tmp_path: Path) -> None:
    digests = set()
    for name in ("one", "two"):
        with export(tmp_path / name) as wheel:
            digests.add(hashlib.sha256(Path(str(wheel.filename)).read_bytes()).hexdigest())
    assert len(digests) == 1


def test_api_is_typed_by_the_pipeline(tmp_path: Path) -> None:
    with export(tmp_path) as wheel:
        source = text(wheel, "acme_ocr/__init__.py")
    assert (
        "def read(self, image: bytes | str | os.PathLike[str], *, box_threshold: float = 0.5, "
        "deadline_s: float | None = None) -> ReadResult:" in source
    )
    assert "class ReadResult(TypedDict):\n    lines: list[Line]\n" in source
    assert "class Line(TypedDict):\n    score: float\n    text: str\n" in source
    names = {node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)}
    assert names == {"AcmeOcr", "ReadResult", "Line"}


def test_api_passes_strict_type_checks(tmp_path: Path) -> None:
    with export(tmp_path) as wheel:
        wheel.extractall(tmp_path / "site", [name for name in wheel.namelist() if name.startswith("acme_ocr/")])
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", str(tmp_path / "cache")]
    command += ["--follow-imports=silent", str(tmp_path / "site" / "acme_ocr")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("field_name", ["summary", "pipeline summary", "param summary"])
def test_text_of_a_manifest_cannot_become_code(tmp_path: Path, field_name: str) -> None:
    evil = 'x"""\nimport os; os.abort()\n"""\\'
    pipeline = MANIFEST["pipelines"]["read"]
    manifest = MANIFEST | {"summary": evil if field_name == "summary" else ""}
    if field_name == "pipeline summary":
        manifest = MANIFEST | {"pipelines": {"read": pipeline | {"summary": evil}}}
    if field_name == "param summary":
        manifest = MANIFEST | {"pipelines": {"read": pipeline | {"params": {"p": {"default": "a", "summary": evil}}}}}
    with export(tmp_path, manifest=manifest) as wheel:
        tree = ast.parse(text(wheel, "acme_ocr/__init__.py"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "abort"]
    assert not calls


@pytest.mark.parametrize("name", ["class", "a b", "_x", "close", 'x"', "import os"])
def test_pipeline_names_that_python_cannot_use_are_refused(tmp_path: Path, name: str) -> None:
    manifest = MANIFEST | {"pipelines": {name: MANIFEST["pipelines"]["read"]}}
    with pytest.raises(UsageError, match="cannot be a name in a Python package"):
        export(tmp_path, manifest=manifest)


def test_several_pipelines_need_a_choice(tmp_path: Path) -> None:
    pipeline = MANIFEST["pipelines"]["read"]
    manifest = MANIFEST | {"pipelines": {"read": pipeline, "find": pipeline}}
    with pytest.raises(UsageError, match=r"several pipelines \(read, find\)"):
        export(tmp_path / "a", manifest=manifest)
    with export(tmp_path / "b", manifest=manifest, pipeline="find") as wheel:
        assert json.loads(text(wheel, "acme_ocr/product.json"))["pipeline"] == "find"


def test_side_by_side_puts_the_version_into_every_name(tmp_path: Path) -> None:
    with export(tmp_path, side_by_side=True) as wheel:
        assert "acme_ocr_1_0_0/__init__.py" in wheel.namelist()
        entry = text(wheel, "acme_ocr_1_0_0-1.0.0.dist-info/entry_points.txt")
        assert "acme-ocr-1.0.0 = acme_ocr_1_0_0._command:main" in entry


def test_header_injection_through_metadata_is_folded(tmp_path: Path) -> None:
    with export(tmp_path, manifest=MANIFEST | {"summary": "a\nRequires-Dist: evil"}) as wheel:
        metadata = text(wheel, "acme_ocr-1.0.0.dist-info/METADATA")
    assert "\nRequires-Dist: evil" not in metadata


def test_show_must_name_an_output(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no output 'txt', the pipeline gives lines"):
        export(tmp_path, show="txt")


@pytest.mark.parametrize("values", [{"name": "a b"}, {"command": "-x"}, {"name": "class"}])
def test_bad_names_are_refused(values: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"name|keyword"):
        replace(WheelParams(), **values)

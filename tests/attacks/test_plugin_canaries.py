"""Looking at a bundle runs nobody's code: an installed plugin stays asleep in every verb that does not need it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with keys, a sealed bundle, and an installed plugin that leaves a mark when it is imported."""
    folder = tmp_path_factory.mktemp("canary")
    site = folder / "site"
    (site / "canary-1.0.dist-info").mkdir(parents=True)
    (site / "canary-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: canary\nVersion: 1.0\n")
    (site / "canary-1.0.dist-info/entry_points.txt").write_text("[sdkpack.plugins.v1]\ncanary = canary_plugin\n")
    mark = folder / "sings"
    (site / "canary_plugin.py").write_text(
        f"import pathlib\npathlib.Path({str(mark)!r}).touch()\nSDKPACK_API = (1, 0)\n"
    )
    assert sdkpack(folder, "keys", "new", "recipient", "customer") == 0
    assert sdkpack(folder, "keys", "new", "signing", "publisher") == 0
    write_bundle_at(folder)
    return folder


def write_bundle_at(folder: Path) -> None:
    from sdkpack.bundle import BlobSource, BundleContent, FileItem, Seal, write_bundle
    from sdkpack.crypto.keyfile import read_key_file
    from sdkpack.crypto.recipients import HpkeIdentity
    from sdkpack.crypto.signature import SigningKey

    (identity,) = read_key_file(folder / "customer.key")
    (signer,) = read_key_file(folder / "publisher.key")
    assert isinstance(identity, HpkeIdentity)
    assert isinstance(signer, SigningKey)
    spec = {"name": "x", "dtype": "float32", "shape": [1]}
    part = {"runtime": "canary.runtime", "files": {"graph": "g"}, "inputs": [spec], "outputs": [spec], "options": {}}
    from sdkpack.documents.manifest import Manifest

    manifest = Manifest.from_object(
        {
            "manifest": 1, "name": "n", "version": "1", "sequence": 1,
            "models": {"m": {
                "inputs": [spec], "outputs": [spec],
                "source": {"reference": "m", "digest": "sha256:" + "0" * 64, "size_bytes": 1, "format": "onnx"},
                "variants": [{"target": "t", "parts": [part]}],
            }},
        }
    )  # fmt: skip
    item = FileItem(path="g", media_type="a/b", source=BlobSource.from_bytes(b"graph"))
    content = BundleContent(manifest=manifest.to_object(), files=(item,))
    write_bundle(content, folder / "b.sdkpack", seal=Seal(recipients=(identity.recipient,)), signers=[signer])


def sdkpack(folder: Path, *arguments: str) -> int:
    command = [sys.executable, "-c", "from sdkpack.cli import main; main()", *arguments]
    environment = os.environ | {"PYTHONPATH": str(folder / "site"), "SDKPACK_STORE": str(folder / "store")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False).returncode


TRUST = ("--trust", "publisher.pub")
KEY = ("--key", "customer.key")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("pack", "--help"),
        ("inspect", "b.sdkpack"),
        ("inspect", "b.sdkpack", *KEY),
        ("verify", "b.sdkpack", *TRUST),
        ("verify", "b.sdkpack", *TRUST, *KEY),
        ("unpack", "b.sdkpack", *TRUST, *KEY, "-o", "out"),
        ("keys", "show", "customer.key"),
        ("sign", "b.sdkpack", "--key", "publisher.key", "-o", "signed.sdkpack"),
        ("rewrap", "b.sdkpack", *KEY, "--to", "customer.pub", "-o", "rewrapped.sdkpack"),
    ],
    ids=" ".join,
)
def test_no_plugin_is_imported(place: Path, arguments: tuple[str, ...]) -> None:
    assert sdkpack(place, *arguments) == 0
    assert not (place / "sings").exists()


def test_the_canary_sings_where_plugins_are_wanted(place: Path) -> None:
    assert sdkpack(place, "plugins", "list") == 0
    assert (place / "sings").exists()
    (place / "sings").unlink()

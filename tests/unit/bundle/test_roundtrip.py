"""What is written comes back, through every way of opening it."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

import pytest

from sdkpack.bundle import BlobSource, BundleContent, FileItem, Seal, TrustPolicy, open_bundle, write_bundle
from sdkpack.crypto.recipients import HpkeIdentity, Kek
from sdkpack.crypto.recipients.hpke import KEMS
from sdkpack.crypto.signature import ALGORITHMS, SigningKey
from sdkpack.errors import NoMatchError, TrustError

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = {"name": "demo", "version": "1.0.0", "sequence": 3, "threshold": 0.5, "list": [1, True, "x", b"y"]}
UNSIGNED = TrustPolicy(allow_unsigned=True)


def content(*sizes: int) -> BundleContent:
    files = [
        FileItem(
            path=f"models/m{number}.bin",
            media_type="application/octet-stream",
            source=BlobSource.from_bytes(os.urandom(size)),
        )
        for number, size in enumerate(sizes)
    ]
    return BundleContent(manifest=MANIFEST, files=tuple(files))


def expected(packed: BundleContent) -> dict[str, bytes]:
    return {file.path: file.source.open().read() for file in packed.files}


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("chunk_hashes", [False, True])
def test_files_and_manifest_come_back(tmp_path: Path, sealed: bool, chunk_hashes: bool) -> None:
    packed = content(0, 1, 65535, 65536, 65537, 200_000, 1_500_000)
    kek, signer = Kek(os.urandom(32)), SigningKey.generate("ed25519", os.urandom)
    target = tmp_path / "demo-1.0.0.sdkpack"
    seal = Seal(recipients=(kek,), chunk_log2=16) if sealed else None
    summary = write_bundle(packed, target, seal=seal, signers=[signer], chunk_hashes=chunk_hashes)
    assert summary.size_bytes == target.stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == [target.name]

    with open_bundle(target) as untrusted:
        assert untrusted.info.encrypted is sealed
        assert untrusted.info.about == {"name": "demo", "version": "1.0.0", "sequence": 3}
        untrusted.verify_public(policy=TrustPolicy.of(signer.verifying_key))
        bundle = untrusted.verify(policy=TrustPolicy.of(signer.verifying_key), identities=[kek])
        assert bundle.manifest == MANIFEST
        assert bundle.identity == summary.identity == untrusted.info.identity
        assert [item.key for item in bundle.signed_by] == [signer.verifying_key]
        assert {path: bundle.read(path) for path in bundle.files} == expected(packed)
        assert {path: bytes(bundle.load(path)) for path in bundle.files} == expected(packed)
        bundle.unpack(tmp_path / "out")
    found = {str(p.relative_to(tmp_path / "out")): p.read_bytes() for p in (tmp_path / "out").rglob("*.bin")}
    assert found == expected(packed)


@pytest.mark.parametrize("kem", sorted(KEMS))
def test_each_public_key_type_opens(kem: str) -> None:
    identity = HpkeIdentity.generate(kem, os.urandom)
    packed, out = content(70_000), io.BytesIO()
    write_bundle(packed, out, seal=Seal(recipients=(identity.recipient,), chunk_log2=16))
    bundle = open_bundle(out.getvalue()).verify(policy=UNSIGNED, identities=[identity])
    assert bundle.read("models/m0.bin") == expected(packed)["models/m0.bin"]
    with pytest.raises(NoMatchError):
        open_bundle(out.getvalue()).verify(policy=UNSIGNED, identities=[HpkeIdentity.generate(kem, os.urandom)])


@pytest.mark.parametrize("alg", sorted(ALGORITHMS))
def test_each_signature_algorithm_verifies(alg: str) -> None:
    key, other, out = (
        SigningKey.generate(alg, os.urandom),
        SigningKey.generate(alg, os.urandom),
        io.BytesIO(),
    )
    write_bundle(content(10), out, seal=None, signers=[key])
    open_bundle(out.getvalue()).verify(policy=TrustPolicy.of(key.verifying_key))
    with pytest.raises(TrustError):
        open_bundle(out.getvalue()).verify(policy=TrustPolicy.of(other.verifying_key))


def test_plain_bundle_is_a_function_of_its_content(tmp_path: Path) -> None:
    packed = content(10, 2_000_000, 20)
    first, second = io.BytesIO(), io.BytesIO()
    write_bundle(packed, first, seal=None)
    shuffled = BundleContent(manifest=dict(reversed(list(MANIFEST.items()))), files=tuple(reversed(packed.files)))
    write_bundle(shuffled, second, seal=None)
    assert first.getvalue() == second.getvalue()
    write_bundle(packed, tmp_path / "x.sdkpack", seal=None)
    assert (tmp_path / "x.sdkpack").read_bytes() == first.getvalue()

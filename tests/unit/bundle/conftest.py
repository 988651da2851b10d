"""A small sealed and signed bundle, and its keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from sdkpack.bundle import BlobSource, BundleContent, FileItem, Seal, TrustPolicy, write_bundle
from sdkpack.crypto.recipients import Kek
from sdkpack.crypto.signature import SigningKey

if TYPE_CHECKING:
    from pathlib import Path

FILES = {"labels.txt": b"cat\ndog\n", "models/net.bin": bytes(range(256)) * 600}


@dataclass(frozen=True)
class Sample:
    path: Path
    kek: Kek
    signer: SigningKey
    content: BundleContent

    @property
    def policy(self) -> TrustPolicy:
        return TrustPolicy.of(self.signer.verifying_key)


@pytest.fixture
def content() -> BundleContent:
    items = [
        FileItem(path=path, media_type="application/octet-stream", source=BlobSource.from_bytes(data))
        for path, data in FILES.items()
    ]
    return BundleContent(manifest={"name": "demo", "sequence": 5, "version": "1.0.0"}, files=tuple(items))


@pytest.fixture
def sample(tmp_path: Path, content: BundleContent) -> Sample:
    kek, signer = Kek(b"k" * 32), SigningKey("ed25519", b"s" * 32)
    path = tmp_path / "demo.sdkpack"
    write_bundle(content, path, seal=Seal(recipients=(kek,), chunk_log2=16), signers=[signer])
    return Sample(path, kek, signer, content)

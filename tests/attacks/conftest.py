"""Bundles and keys that the attacks share."""

from __future__ import annotations

import pytest

from sdkpack.bundle import BlobSource, BundleContent, FileItem
from sdkpack.crypto.recipients import Kek
from sdkpack.crypto.signature import ED25519, SigningKey
from tests.vectors.forge import KEK, SIGNING_KEY

CANARY = b"CANARY-plaintext-of-the-model-" * 40


@pytest.fixture
def kek() -> Kek:
    return Kek(KEK)


@pytest.fixture
def signing_key() -> SigningKey:
    return SigningKey(ED25519, SIGNING_KEY)


@pytest.fixture
def canary() -> bytes:
    return CANARY


@pytest.fixture
def content() -> BundleContent:
    """Two files whose plaintext is easily found, one of several chunks."""
    files = {"labels.txt": CANARY, "models/net.bin": CANARY * 100}
    return BundleContent(
        manifest={"name": "demo", "sequence": 5, "version": "1.0.0"},
        files=tuple(
            FileItem(path=path, media_type="application/octet-stream", source=BlobSource.from_bytes(data))
            for path, data in files.items()
        ),
    )

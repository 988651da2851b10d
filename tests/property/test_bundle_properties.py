"""What holds of every bundle: it reads back, and a change to it is noticed."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdkpack.bundle import (
    BlobSource,
    BundleContent,
    FileItem,
    Seal,
    TrustPolicy,
    canonical,
    open_bundle,
    write_bundle,
)
from sdkpack.crypto.recipients import Kek
from sdkpack.crypto.signature import SigningKey
from sdkpack.errors import BundleError, DirectoryError, PathNameError

KEK, SIGNER = Kek(b"k" * 32), SigningKey("ed25519", b"s" * 32)
POLICY = TrustPolicy.of(SIGNER.verifying_key)

scalars = (
    st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.text(max_size=40)
    | st.binary(max_size=40)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda value: str(value) != "-0.0")
)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=25,
)
chunk = 1 << 16
sizes = st.sampled_from([0, 1, chunk - 1, chunk, chunk + 1, 2 * chunk - 1, 2 * chunk, 2 * chunk + 1, 3 * chunk + 7])
names = st.from_regex(r"[a-z][a-z0-9_-]{0,12}", fullmatch=True)
folders = st.lists(names, min_size=1, max_size=3).map("/".join)


def blob(size: int, seed: int) -> bytes:
    return bytes((seed + number * 7) % 256 for number in range(size % chunk)) + bytes([seed % 256]) * (
        size - size % chunk
    )


@st.composite
def contents(draw: st.DrawFn) -> dict[str, bytes]:
    paths = draw(st.lists(folders, max_size=4, unique=True))
    return {f"f{number}/{path}": blob(draw(sizes), draw(st.integers(0, 255))) for number, path in enumerate(paths)}


def pack(files: dict[str, bytes], manifest: dict[str, Any], *, sealed: bool, chunk_hashes: bool) -> bytes:
    items = [
        FileItem(path=path, media_type="application/octet-stream", source=BlobSource.from_bytes(data))
        for path, data in files.items()
    ]
    out = io.BytesIO()
    seal = Seal(recipients=(KEK,), chunk_log2=16) if sealed else None
    content = BundleContent(manifest=manifest, files=tuple(items), about_keys=("name",))
    write_bundle(content, out, seal=seal, signers=[SIGNER], chunk_hashes=chunk_hashes)
    return out.getvalue()


@settings(max_examples=60, deadline=None)
@given(contents(), st.dictionaries(st.text(max_size=8), documents, max_size=4), st.booleans(), st.booleans())
def test_what_is_packed_comes_back(
    files: dict[str, bytes], manifest: dict[str, Any], sealed: bool, chunk_hashes: bool
) -> None:
    manifest["name"] = "shown in the directory"
    data = pack(files, manifest, sealed=sealed, chunk_hashes=chunk_hashes)
    with open_bundle(data) as untrusted:
        bundle = untrusted.verify(policy=POLICY, identities=[KEK])
        assert {path: bundle.read(path) for path in bundle.files} == files
        assert canonical.encode(bundle.manifest, floats=True) == canonical.encode(manifest, floats=True)


SEALED = pack({"a/b": blob(2 * chunk + 5, 3), "c": b"", "d": b"x"}, {"name": "p"}, sealed=True, chunk_hashes=True)
PLAIN = pack({"a/b": blob(2 * chunk + 5, 3), "c": b"", "d": b"x"}, {"name": "p"}, sealed=False, chunk_hashes=False)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([SEALED, PLAIN]), st.data())
def test_a_bundle_that_was_changed_in_several_places_is_refused(whole: bytes, data: st.DataObject) -> None:
    mutant = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mutant) - 1))
        kind = data.draw(st.sampled_from(["set", "cut", "insert", "drop"]))
        if kind == "set":
            mutant[at] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del mutant[max(1, at) :]
        elif kind == "insert":
            mutant[at:at] = data.draw(st.binary(min_size=1, max_size=20))
        else:
            del mutant[at : at + data.draw(st.integers(1, 200))]
        if not mutant:
            break
    if bytes(mutant) == whole:
        return
    with pytest.raises((BundleError, PathNameError)):
        open_bundle(bytes(mutant)).verify(policy=POLICY, identities=[KEK])


@settings(max_examples=300, deadline=None)
@given(documents)
def test_canonical_documents_come_back(document: Any) -> None:
    data = canonical.encode(document, floats=True)
    again = canonical.decode(data, error=DirectoryError, what="document", floats=True)
    assert canonical.encode(again, floats=True) == data


@settings(max_examples=1000, deadline=None)
@given(st.binary(max_size=60) | documents.map(lambda value: canonical.encode(value, floats=True)), st.data())
def test_what_is_accepted_encodes_to_the_same_bytes(raw: bytes, data: st.DataObject) -> None:
    mutant = bytearray(raw)
    if mutant and data.draw(st.booleans()):
        mutant[data.draw(st.integers(0, len(mutant) - 1))] = data.draw(st.integers(0, 255))
    try:
        document = canonical.decode(bytes(mutant), error=DirectoryError, what="document", floats=True)
    except BundleError:
        return
    assert canonical.encode(document, floats=True) == bytes(mutant)

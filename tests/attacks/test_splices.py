"""Parts of bundles put together anew: swapped, repeated, taken from another bundle, opened by two keys."""

from __future__ import annotations

import hashlib
import itertools
import os
from typing import TYPE_CHECKING, Any

import pytest

from sdkpack.bundle import TrustPolicy, open_bundle
from sdkpack.crypto.recipients import Kek, PassphraseIdentity, PassphraseRecipient
from sdkpack.crypto.signature import ED25519, SigningKey
from sdkpack.errors import BundleError, EnvelopeError, IndexDataError, PrologueError
from tests.vectors.forge import BUNDLE_ID, CEK, KEK, SIGNING_KEY, Forge, kek_row

if TYPE_CHECKING:
    from collections.abc import Iterator

UNSIGNED = TrustPolicy(allow_unsigned=True)
SIGNED = TrustPolicy.of(SigningKey(ED25519, SIGNING_KEY).verifying_key)
MODELS = {"a.bin": b"A" * 200_000, "b.bin": b"B" * 200_000}


def opens(data: bytes, policy: TrustPolicy = UNSIGNED, keys: Any = None) -> None:
    with open_bundle(data) as untrusted:
        untrusted.verify(policy=policy, identities=[Kek(KEK)] if keys is None else keys)


def blob_ranges(data: bytes) -> list[tuple[int, int]]:
    return [(offset, size) for _, offset, size in open_bundle(data).info.blobs]


def pieces(data: bytes) -> list[tuple[int, int]]:
    """Places of full chunks."""
    return [(offset + at, 65552) for offset, size in blob_ranges(data) for at in range(0, size - 65552, 65552)]


def swapped(data: bytes, first: tuple[int, int], second: tuple[int, int]) -> bytes:
    out = bytearray(data)
    out[first[0] : first[0] + first[1]] = data[second[0] : second[0] + second[1]]
    out[second[0] : second[0] + second[1]] = data[first[0] : first[0] + first[1]]
    return bytes(out)


def copied(data: bytes, source: tuple[int, int], target: tuple[int, int]) -> bytes:
    out = bytearray(data)
    out[target[0] : target[0] + target[1]] = data[source[0] : source[0] + source[1]]
    return bytes(out)


def rearranged(data: bytes) -> Iterator[bytes]:
    for first, second in itertools.combinations(pieces(data), 2):
        yield swapped(data, first, second)
        yield copied(data, first, second)
        yield copied(data, second, first)
    yield swapped(data, *blob_ranges(data))
    yield copied(data, *blob_ranges(data))
    for at, size in pieces(data):
        yield data[:at] + data[at + size :]
        yield data[: at + size] + data[at : at + size] + data[at + size :]


@pytest.mark.parametrize("signing", [(), (SIGNING_KEY,)], ids=["unsigned", "signed"])
def test_chunks_and_blobs_stay_where_they_are(signing: tuple[bytes, ...]) -> None:
    data = Forge(files=MODELS, signing_keys=signing).build()
    opens(data)
    for mutant in rearranged(data):
        with pytest.raises(BundleError):
            opens(mutant)


def test_parts_of_another_bundle_do_not_fit() -> None:
    """Two bundles of one publisher for one customer, equal in all their lengths."""
    one = Forge(files=MODELS, signing_keys=(SIGNING_KEY,)).build()
    two = Forge(
        files=MODELS, signing_keys=(SIGNING_KEY,), cek=CEK[::-1], bundle_id=BUNDLE_ID[::-1],
        manifest={"name": "vector", "sequence": 2, "version": "1.0.0"},
    ).build()  # fmt: skip
    assert len(one) == len(two)
    opens(one, SIGNED)
    opens(two, SIGNED)
    structure = open_bundle(one).structure
    trailer = structure.trailer
    borders = [
        0, 64, 65536, trailer.directory_offset, trailer.index_offset, trailer.signatures_offset, len(one) - 128,
        len(one) - 88, len(one) - 56, len(one),
    ]  # fmt: skip
    spans = list(itertools.pairwise(borders))
    for count in range(1, len(spans)):
        for chosen in itertools.combinations(spans, count):
            mixed = bytearray(one)
            for start, end in chosen:
                mixed[start:end] = two[start:end]
            if bytes(mixed) in (one, two):
                continue
            with pytest.raises(BundleError):
                opens(bytes(mixed), SIGNED)


def without_mac(forge: Forge, **changes: Any) -> bytes:
    """Somebody without the content key edits the public directory and makes all digests fit."""
    genuine = Forge(files=forge.files).build()
    return Forge(files=forge.files, patch_tail_mac=lambda _: genuine[-56:-24], **changes).build()


def test_an_outsider_cannot_edit_the_public_directory() -> None:
    def rename(doc: dict[str, Any]) -> dict[str, Any]:
        return {**doc, "about": {**doc["about"], "name": "other"}}

    def swap(doc: dict[str, Any]) -> dict[str, Any]:
        first, second = doc["blobs"]
        return {**doc, "blobs": [[second[0], *first[1:]], [first[0], *second[1:]]]}

    for patch in (rename, swap):
        with pytest.raises((PrologueError, IndexDataError)):
            opens(without_mac(Forge(files=MODELS), patch_directory=patch))


def test_an_edited_threshold_is_refused() -> None:
    """The manifest lies in the encrypted index: an outsider flips each of its bits and makes the digest fit."""
    genuine = Forge(files=MODELS, manifest={"name": "vector", "sequence": 1, "threshold": 0.5}).build()
    trailer = open_bundle(genuine).structure.trailer
    for at in range(trailer.index_offset, trailer.signatures_offset):
        mutant = bytearray(genuine)
        mutant[at] ^= 1
        tail = mutant[trailer.directory_offset : trailer.signatures_offset]
        mutant[-88:-56] = hashlib.sha256(trailer.directory_length.to_bytes(8, "little") + tail).digest()
        open_bundle(bytes(mutant))  # the digest fits, so the structure is sound
        with pytest.raises(PrologueError, match="authentication failed"):
            opens(bytes(mutant))


def test_one_file_does_not_open_under_two_keys() -> None:
    """Two recipients, two content keys: whichever the file is committed to, the other is refused."""
    other_kek, other_cek = os.urandom(32), os.urandom(32)
    rows = [kek_row(), kek_row(other_cek, other_kek)]
    data = Forge(files=MODELS, stanzas=rows).build()
    opens(data)
    with pytest.raises(EnvelopeError):
        opens(data, keys=[Kek(other_kek)])
    with pytest.raises(EnvelopeError):
        opens(Forge(files=MODELS, stanzas=rows[::-1]).build(), keys=[Kek(other_kek), Kek(KEK)])


def test_one_file_does_not_open_under_two_passphrases() -> None:
    first = PassphraseRecipient("one", 4).wrap(CEK, BUNDLE_ID, os.urandom).as_row()
    second = PassphraseRecipient("two", 4).wrap(CEK, BUNDLE_ID, os.urandom).as_row()
    with pytest.raises(EnvelopeError, match="only recipient"):
        opens(Forge(files=MODELS, stanzas=[first, second]).build(), keys=[PassphraseIdentity("one")])
    other = PassphraseRecipient("two", 4).wrap(os.urandom(32), BUNDLE_ID, os.urandom).as_row()
    with pytest.raises(EnvelopeError):
        opens(Forge(files=MODELS, stanzas=[other]).build(), keys=[PassphraseIdentity("two")])


def test_recipients_stripped_or_added_are_noticed() -> None:
    both = [kek_row(kek=bytes(32)), kek_row()]
    genuine = Forge(files=MODELS, stanzas=both).build()
    stripped = Forge(files=MODELS, stanzas=both[1:]).build()
    length = int.from_bytes(stripped[64:68], "little")
    mac = genuine[68 + int.from_bytes(genuine[64:68], "little") :][:32]
    mixed = stripped[: 68 + length] + mac + stripped[100 + length :]
    opens(stripped)
    with pytest.raises(EnvelopeError):
        opens(mixed)

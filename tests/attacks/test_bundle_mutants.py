"""Exhaustive mutants of small bundles: none is accepted, none raises anything but a typed refusal.

Every bit outside the envelope's zero fill, every 64th byte inside it, every truncation, an insert and a deletion at
every place outside the fill.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from sdkpack.bundle import TrustPolicy, open_bundle
from sdkpack.crypto.recipients import Kek
from sdkpack.crypto.signature import ED25519, SigningKey
from sdkpack.errors import BundleError, PathNameError
from tests.vectors.forge import KEK, SIGNING_KEY, Forge

SMALL = {"labels.txt": b"cat\ndog\n", "model.bin": b"weights"}
MULTI_CHUNK = {"model.bin": bytes(range(256)) * 257, "empty": b""}
UNSIGNED = TrustPolicy(allow_unsigned=True)
SIGNED = TrustPolicy.of(SigningKey(ED25519, SIGNING_KEY).verifying_key)

Mutants = Iterator[tuple[str, bytes | bytearray]]


def accepted(data: bytes | bytearray | memoryview, policy: TrustPolicy) -> bool:
    """Whether a bundle opens and gives all its files; an error that is not typed fails the test."""
    try:
        with open_bundle(data) as untrusted:
            untrusted.verify(policy=policy, identities=[Kek(KEK)])
    except (BundleError, PathNameError) as error:
        assert error.exit_code == 4
        return False
    return True


def places(data: bytes, *, payload_step: int = 1) -> list[int]:
    """Bytes to be changed: all, but of the envelope's fill every 64th and of blobs every `payload_step`-th."""
    encrypted = data[12] == 1
    start = 65536 if encrypted else 64
    directory = int.from_bytes(data[-128:-120], "little")
    used = 100 + int.from_bytes(data[64:68], "little") if encrypted else 64
    payload = range(start, directory)
    edges = [at for at in payload if min(at - start, directory - at) < 128 or abs(at - start - 65552) < 64]
    return [
        *range(used),
        *range(used, start, 64),
        *sorted({*payload[::payload_step], *edges}),
        *range(directory, len(data)),
    ]


def bit_flips(data: bytes, at: list[int]) -> Mutants:
    mutant = bytearray(data)
    for place in at:
        for bit in range(8):
            mutant[place] ^= 1 << bit
            yield f"bit {bit} of byte {place}", mutant
            mutant[place] ^= 1 << bit


def truncations(data: bytes) -> Mutants:
    for size in range(len(data)):
        yield f"cut to {size}", memoryview(data)[:size]  # type: ignore[misc]


def inserts_and_deletes(data: bytes, at: list[int]) -> Mutants:
    for place in at:
        yield f"insert at {place}", data[:place] + b"\0" + data[place:]
        yield f"delete at {place}", data[:place] + data[place + 1 :]
        yield f"repeat at {place}", data[: place + 1] + data[place:]


BUNDLES: dict[str, tuple[Forge, TrustPolicy, int]] = {
    "encrypted, unsigned": (Forge(files=SMALL), UNSIGNED, 1),
    "encrypted, signed": (Forge(files=SMALL, signing_keys=(SIGNING_KEY,)), SIGNED, 1),
    "encrypted, many chunks": (Forge(files=MULTI_CHUNK, chunk_hashes=True), UNSIGNED, 512),
    "plain, signed": (Forge(files=SMALL, signing_keys=(SIGNING_KEY,), encrypted=False), SIGNED, 1),
}


@pytest.mark.parametrize("name", BUNDLES)
def test_no_mutant_is_accepted(name: str) -> None:
    forge, policy, step = BUNDLES[name]
    data = forge.build()
    assert accepted(data, policy), "the bundle itself must open, or the test shows nothing"
    at = places(data, payload_step=step)
    tried = 0
    kinds: list[Callable[[], Mutants]] = [
        lambda: bit_flips(data, at),
        lambda: truncations(data),
        lambda: inserts_and_deletes(data, at),
    ]
    for kind in kinds:
        for what, mutant in kind():
            assert not accepted(mutant, policy), what
            tried += 1
    assert tried >= {"plain, signed": 8_000}.get(name, 70_000)

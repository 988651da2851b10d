"""The envelope by itself: the commitment is compared first, and again with the mac."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sdkpack.bundle.envelope import Envelope, check_recipients, data_offset_for
from sdkpack.crypto.keys import KeySchedule
from sdkpack.crypto.recipients import Kek
from sdkpack.errors import EnvelopeError, LimitError, NoMatchError

ID, PROLOGUE, KEK = b"i" * 16, bytes(64), Kek(b"k" * 32)
OURS, OTHER = KeySchedule(b"c" * 32, ID), KeySchedule(b"o" * 32, ID)


def nonce(size: int) -> bytes:
    return b"n" * size


def sealed(*keks: Kek, schedule: KeySchedule = OURS) -> Envelope:
    stanzas = [kek.wrap(schedule.cek, ID, nonce) for kek in keks]
    return Envelope.decode(Envelope.seal(stanzas, schedule, PROLOGUE).encode(65536))


def test_the_key_comes_back_from_any_stanza() -> None:
    envelope = sealed(Kek(b"1" * 32), KEK)
    schedule = envelope.unwrap([Kek(b"x" * 32), KEK], ID)
    assert schedule.cek == OURS.cek
    envelope.check_mac(schedule, PROLOGUE)
    with pytest.raises(NoMatchError):
        envelope.unwrap([Kek(b"x" * 32)], ID)


def test_a_key_that_is_not_committed_to_ends_the_search() -> None:
    wrong = KEK.wrap(OTHER.cek, ID, nonce)
    right = Kek(b"2" * 32).wrap(OURS.cek, ID, nonce)
    envelope = Envelope.seal([wrong, right], OURS, PROLOGUE)
    with pytest.raises(EnvelopeError, match="authentication failed"):
        envelope.unwrap([KEK, Kek(b"2" * 32)], ID)


def test_the_mac_binds_prologue_body_and_commitment() -> None:
    envelope = sealed(KEK)
    envelope.check_mac(OURS, PROLOGUE)
    for changed, prologue in (
        (envelope, b"\1" + PROLOGUE[1:]),
        (replace(envelope, commit=OTHER.commit), PROLOGUE),
        (replace(envelope, body=envelope.body + b"\0"), PROLOGUE),
        (replace(envelope, mac=bytes(32)), PROLOGUE),
    ):
        with pytest.raises(EnvelopeError, match="authentication failed"):
            changed.check_mac(OURS, prologue)


@pytest.mark.parametrize(
    ("types", "problem"),
    [
        ([], "no recipient"),
        (["scrypt"], ""),
        (["scrypt", "kek"], "only recipient"),
        (["hpke-x25519", "hpke-p384", "kek", "plugin:a"], ""),
        (["hpke-mlkem768x25519", "hpke-mlkem768x25519", "kek"], ""),
        (["hpke-mlkem768x25519", "hpke-x25519"], "post-quantum"),
        (["hpke-mlkem768x25519", "plugin:a"], "post-quantum"),
    ],
)
def test_mixtures_of_recipients(types: list[str], problem: str) -> None:
    assert problem in check_recipients(types)
    assert bool(check_recipients(types)) == bool(problem)


def test_the_data_offset_has_room_for_the_body() -> None:
    assert data_offset_for(0) == data_offset_for(65536 - 100) == 65536
    assert data_offset_for(65536 - 99) == 131072
    assert data_offset_for((1 << 20) - 100) == 1 << 20
    with pytest.raises(LimitError):
        data_offset_for((1 << 20) - 99)

"""Signatures: inside, beside, in two steps; and what a policy makes of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from sdkpack.bundle import Seal, TrustedKey, TrustPolicy, open_bundle, write_bundle
from sdkpack.bundle.sign import attach, counter_sign, detached, signature_by
from sdkpack.bundle.trust import decode_signatures
from sdkpack.crypto.recipients import Kek
from sdkpack.crypto.signature import SigningKey
from sdkpack.errors import LimitError, PayloadError, SignatureError, TrustError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.bundle.conftest import Sample

SECOND = SigningKey("ecdsa-p256-sha256", b"2" * 32)
NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def both(sample: Sample, **fields: object) -> TrustPolicy:
    keys = tuple(TrustedKey(key=key.verifying_key) for key in (sample.signer, SECOND))
    return replace(TrustPolicy(keys=keys, threshold=2), **fields)  # type: ignore[arg-type]


def test_counter_signing_keeps_identity_and_meets_a_threshold(sample: Sample, tmp_path: Path) -> None:
    target = tmp_path / "twice.sdkpack"
    with open_bundle(sample.path) as bundle:
        with pytest.raises(TrustError, match="1 trusted keys signed the bundle, expected 2"):
            bundle.verify(policy=both(sample), identities=[sample.kek])
        counter_sign(bundle, target, [SECOND])
        identity = bundle.info.identity
    with open_bundle(target) as bundle:
        verified = bundle.verify(policy=both(sample), identities=[sample.kek])
        assert verified.identity == identity
        assert {item.key for item in verified.signed_by} == {sample.signer.verifying_key, SECOND.verifying_key}


def test_detached_signatures_count(sample: Sample) -> None:
    with open_bundle(sample.path) as bundle:
        beside = decode_signatures(detached(bundle, [SECOND]))
        bundle.verify(policy=both(sample), identities=[sample.kek], detached_signatures=beside)
        assert len(bundle.verify_public(policy=both(sample), detached_signatures=beside)) == 2
        wrong = [replace(beside[0], signature=bytes(64))]
        with pytest.raises(SignatureError):
            bundle.verify(policy=both(sample), identities=[sample.kek], detached_signatures=wrong)


def test_signing_in_two_steps_takes_what_tools_write(sample: Sample, tmp_path: Path) -> None:
    """The message goes to a machine with the key; a DER signature, with either s, comes back."""
    hsm = ec.derive_private_key(int.from_bytes(b"2" * 32, "big"), ec.SECP256R1())
    with open_bundle(sample.path) as bundle:
        assert len(bundle.message) == 148
        for number in range(8):  # DER has either s with even chances
            der = hsm.sign(bundle.message, ec.ECDSA(SHA256()))
            signature = signature_by(SECOND.verifying_key, bundle.message, der)
            attach(bundle, tmp_path / f"{number}.sdkpack", [signature])
            with open_bundle(tmp_path / f"{number}.sdkpack") as signed:
                signed.verify(policy=both(sample), identities=[sample.kek])
        for bad in (b"", b"junk", bytes(64), der[:-1]):
            with pytest.raises(SignatureError, match="not this key's"):
                signature_by(SECOND.verifying_key, bundle.message, bad)


def test_stripped_signatures_are_refused(sample: Sample, tmp_path: Path) -> None:
    unsigned = tmp_path / "unsigned.sdkpack"
    write_bundle(sample.content, unsigned, seal=Seal(recipients=(sample.kek,)))
    with open_bundle(unsigned) as bundle:
        with pytest.raises(TrustError, match="not signed") as caught:
            bundle.verify(policy=sample.policy, identities=[sample.kek])
        assert caught.value.exit_code == 4
        assert bundle.verify(policy=TrustPolicy(allow_unsigned=True), identities=[sample.kek]).signed_by == ()


def test_a_wrong_signature_by_a_trusted_key_fails_even_where_unsigned_is_allowed(
    sample: Sample, tmp_path: Path
) -> None:
    with open_bundle(sample.path) as bundle:
        wrong = replace(bundle.signatures[0], signature=bytes(64))
        attach(bundle, tmp_path / "wrong.sdkpack", [wrong])
    with open_bundle(tmp_path / "wrong.sdkpack") as bundle, pytest.raises(SignatureError):
        bundle.verify(policy=replace(sample.policy, allow_unsigned=True), identities=[sample.kek])


def test_rollback_is_refused(sample: Sample) -> None:
    with open_bundle(sample.path) as bundle:
        bundle.verify(policy=replace(sample.policy, minimum_sequence=5), identities=[sample.kek])
        for check in (bundle.verify_public, lambda policy: bundle.verify(policy=policy, identities=[sample.kek])):
            with pytest.raises(TrustError, match="release 5 is older than the oldest accepted one, 6"):
                check(policy=replace(sample.policy, minimum_sequence=6))


@pytest.mark.parametrize(("start", "end", "valid"), [(None, None, True), (-1, 1, True), (1, 2, False), (-2, -1, False)])
def test_keys_are_believed_in_their_time(sample: Sample, start: int | None, end: int | None, valid: bool) -> None:
    key = TrustedKey(
        key=sample.signer.verifying_key,
        name="release key",
        not_before=None if start is None else NOW + start * DAY,
        not_after=None if end is None else NOW + end * DAY,
    )
    with open_bundle(sample.path) as bundle:
        if valid:
            bundle.verify(policy=TrustPolicy(keys=(key,)), identities=[sample.kek], now=NOW)
            return
        with pytest.raises(TrustError, match="not valid now: release key"):
            bundle.verify(policy=TrustPolicy(keys=(key,)), identities=[sample.kek], now=NOW)


def test_a_policy_that_could_never_refuse_or_accept_is_an_error(sample: Sample) -> None:
    key = TrustedKey(key=sample.signer.verifying_key)
    with pytest.raises(UsageError, match="explicit consent"):
        TrustPolicy()
    with pytest.raises(UsageError, match="twice"):
        TrustPolicy(keys=(key, key), threshold=2)
    for threshold in (0, 2, -1):
        with pytest.raises(UsageError, match="threshold"):
            TrustPolicy(keys=(key,), threshold=threshold)


def test_anyone_can_check_stored_blobs_without_a_key(sample: Sample) -> None:
    data = bytearray(sample.path.read_bytes())
    open_bundle(bytes(data)).verify_public(policy=sample.policy)
    data[65536] ^= 1
    with pytest.raises(PayloadError):
        open_bundle(bytes(data)).verify_public(policy=sample.policy)


def test_too_many_signatures_are_refused(sample: Sample, tmp_path: Path) -> None:
    signers = [SigningKey("ml-dsa-65", bytes([number]) * 32) for number in range(20)]
    with open_bundle(sample.path) as bundle, pytest.raises(LimitError, match="signatures"):
        counter_sign(bundle, tmp_path / "x", signers)
    assert not (tmp_path / "x").exists()


def test_a_recipient_who_forges_a_blob_is_caught_by_the_digest(sample: Sample) -> None:
    """He knows the blob's key, so GCM accepts what he encrypts; only the signed digest does not."""
    from sdkpack.bundle.index import Index, open_index
    from sdkpack.crypto.stream import ChunkCipher

    data = bytearray(sample.path.read_bytes())
    structure = open_bundle(bytes(data)).structure
    schedule = structure.unseal([sample.kek])
    assert schedule is not None
    index = Index.decode(open_index(structure.raw_index, schedule), structure.directory, encrypted=True)
    blob, stored = index.blobs[0], structure.directory.blobs[0]
    forged = bytearray(stored.size_bytes)
    ChunkCipher(blob.key, blob.size_bytes, blob.chunk_log2).encrypt_into(0, b"X" * blob.size_bytes, forged)
    data[stored.offset : stored.offset + stored.size_bytes] = forged
    lazy = {"identities": [sample.kek], "check_blobs": False}
    signed = open_bundle(bytes(data)).verify(policy=sample.policy, **lazy)  # type: ignore[arg-type]
    with pytest.raises(PayloadError):
        signed.read("labels.txt")
    unsigned = open_bundle(bytes(data)).verify(policy=TrustPolicy(allow_unsigned=True), **lazy)  # type: ignore[arg-type]
    assert unsigned.read("labels.txt") == b"X" * 8, "GCM alone does not stop a recipient; FORMAT.md says so"


def test_every_given_key_is_tried(sample: Sample) -> None:
    with open_bundle(sample.path) as bundle:
        bundle.verify(policy=sample.policy, identities=[Kek(b"x" * 32), sample.kek])

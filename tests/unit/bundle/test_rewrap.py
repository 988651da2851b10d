"""Re-wrap, rekey and grants: who can open a bundle changes, what it is does not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from sdkpack.bundle import Grant, Seal, TrustPolicy, open_bundle, write_bundle
from sdkpack.bundle.rewrap import make_grant, rekey, rewrap
from sdkpack.crypto.recipients import HpkeIdentity, Kek, PassphraseRecipient
from sdkpack.errors import (
    BundleError,
    EnvelopeError,
    LimitError,
    NoMatchError,
    SignatureError,
    TrustError,
    UsageError,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.bundle.conftest import Sample

NEW = Kek(b"n" * 32)
UNSIGNED = TrustPolicy(allow_unsigned=True)


def test_rewrap_changes_the_envelope_alone(sample: Sample, tmp_path: Path) -> None:
    target = tmp_path / "new.sdkpack"
    with open_bundle(sample.path) as bundle:
        identity = bundle.info.identity
        rewrap(bundle, target, identities=[sample.kek], recipients=[NEW])
    old, new = sample.path.read_bytes(), target.read_bytes()
    assert old[:64] == new[:64]
    assert old[65536:] == new[65536:]
    assert old[64:65536] != new[64:65536]
    with open_bundle(target) as bundle:
        assert bundle.verify(policy=sample.policy, identities=[NEW]).identity == identity
        with pytest.raises(NoMatchError):
            bundle.verify(policy=sample.policy, identities=[sample.kek])


def test_rewrap_can_keep_the_old_recipients(sample: Sample) -> None:
    with open_bundle(sample.path) as bundle:
        rewrap(bundle, sample.path, identities=[sample.kek], recipients=[NEW], keep=True, overwrite=True)
    for key in (sample.kek, NEW):
        with open_bundle(sample.path) as bundle:
            bundle.verify(policy=sample.policy, identities=[key])


def test_rewrap_refuses_what_cannot_be(sample: Sample, tmp_path: Path) -> None:
    with open_bundle(sample.path) as bundle:
        with pytest.raises(NoMatchError):
            rewrap(bundle, tmp_path / "x", identities=[NEW], recipients=[NEW])
        with pytest.raises(UsageError, match="no recipient"):
            rewrap(bundle, tmp_path / "x", identities=[sample.kek], recipients=[])
        passphrase = PassphraseRecipient("p", 4)
        with pytest.raises(UsageError, match="only recipient"):
            rewrap(bundle, tmp_path / "x", identities=[sample.kek], recipients=[passphrase], keep=True)
        hybrid = HpkeIdentity.generate("hpke-mlkem768x25519", os.urandom).recipient
        with pytest.raises(LimitError, match="room"):
            rewrap(bundle, tmp_path / "x", identities=[sample.kek], recipients=[hybrid] * 60)
    assert [path.name for path in tmp_path.iterdir()] == ["demo.sdkpack"]


def test_spare_room_takes_later_recipients(sample: Sample, tmp_path: Path) -> None:
    path = tmp_path / "roomy.sdkpack"
    write_bundle(sample.content, path, seal=Seal(recipients=(sample.kek,), spare_bytes=200_000))
    hybrid = HpkeIdentity.generate("hpke-mlkem768x25519", os.urandom)
    with open_bundle(path) as bundle:
        rewrap(bundle, path, identities=[sample.kek], recipients=[hybrid.recipient] * 60, overwrite=True)
    with open_bundle(path) as bundle:
        bundle.verify(policy=UNSIGNED, identities=[hybrid])


def test_a_grant_opens_the_bundle_it_was_made_for(sample: Sample, tmp_path: Path) -> None:
    customer = HpkeIdentity.generate("hpke-x25519", os.urandom)
    with open_bundle(sample.path) as bundle:
        grant = make_grant(bundle, identities=[sample.kek], recipients=[customer.recipient])
        data = grant.encode()
        assert data.startswith(b"sdkpack/1 grant\n")
        assert len(data) < 1024
        assert Grant.decode(data) == grant
        opened = bundle.verify(policy=sample.policy, identities=[customer], grant=Grant.decode(data))
        assert opened.read("labels.txt") == b"cat\ndog\n"
        with pytest.raises(NoMatchError):
            bundle.verify(policy=sample.policy, identities=[customer])
        with pytest.raises(NoMatchError):
            bundle.verify(policy=sample.policy, identities=[NEW], grant=grant)
    other = tmp_path / "other.sdkpack"
    write_bundle(sample.content, other, seal=Seal(recipients=(sample.kek,)), signers=[sample.signer])
    with open_bundle(other) as bundle, pytest.raises(EnvelopeError, match="another bundle"):
        bundle.verify(policy=sample.policy, identities=[customer], grant=grant)


def test_no_changed_grant_is_accepted(sample: Sample) -> None:
    with open_bundle(sample.path) as bundle:
        data = make_grant(bundle, identities=[sample.kek], recipients=[NEW]).encode()
        for at in range(len(data)):
            for mutant in (data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], data[:at], data[:at] + data[at + 1 :]):
                with pytest.raises(BundleError):
                    bundle.verify(policy=UNSIGNED, identities=[NEW], grant=Grant.decode(mutant))


def test_rekey_keeps_blobs_and_makes_a_new_bundle(sample: Sample, tmp_path: Path) -> None:
    target = tmp_path / "new.sdkpack"
    with open_bundle(sample.path) as bundle:
        old = bundle.info
        identity = rekey(
            bundle,
            target,
            policy=sample.policy,
            identities=[sample.kek],
            recipients=[NEW],
            signers=[sample.signer],
        )
    with open_bundle(target) as bundle:
        assert bundle.info.identity == identity != old.identity
        assert [blob[0] for blob in bundle.info.blobs] == [blob[0] for blob in old.blobs]
        assert bundle.verify(policy=sample.policy, identities=[NEW]).read("labels.txt") == b"cat\ndog\n"
        with pytest.raises(NoMatchError):
            bundle.verify(policy=sample.policy, identities=[sample.kek])


def test_rekey_moves_blobs_where_recipients_need_more_room(sample: Sample, tmp_path: Path) -> None:
    hybrid = HpkeIdentity.generate("hpke-mlkem768x25519", os.urandom)
    with open_bundle(sample.path) as bundle:
        rekey(
            bundle,
            tmp_path / "new.sdkpack",
            policy=sample.policy,
            identities=[sample.kek],
            recipients=[hybrid.recipient] * 60,
        )
        with pytest.raises(TrustError):
            other = TrustPolicy.of(type(sample.signer)("ed25519", b"o" * 32).verifying_key)
            rekey(bundle, tmp_path / "x", policy=other, identities=[sample.kek], recipients=[NEW])
    with open_bundle(tmp_path / "new.sdkpack") as bundle:
        assert bundle.structure.prologue.data_offset == 131072
        opened = bundle.verify(policy=UNSIGNED, identities=[hybrid])
        assert opened.read("models/net.bin") == bytes(range(256)) * 600
        with pytest.raises((TrustError, SignatureError)):
            bundle.verify(policy=sample.policy, identities=[hybrid])


def test_plain_bundles_have_nobody_to_wrap_for(sample: Sample, tmp_path: Path) -> None:
    path = tmp_path / "plain.sdkpack"
    write_bundle(sample.content, path, seal=None)
    with open_bundle(path) as bundle, pytest.raises(UsageError, match="not encrypted"):
        rewrap(bundle, tmp_path / "x", identities=[], recipients=[NEW])

"""Every vector gives what its header says; and the checked-in files are what the script makes."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sdkpack.bundle import TrustedKey, TrustPolicy, open_bundle
from sdkpack.crypto.keyfile import parse_keys
from sdkpack.crypto.recipients import PassphraseIdentity
from sdkpack.errors import (
    BundleError,
    DirectoryError,
    EnvelopeError,
    FormatVersionError,
    IndexDataError,
    LimitError,
    NoMatchError,
    PathNameError,
    PayloadError,
    PrologueError,
    SignatureError,
    TrustError,
)
from tests.vectors.make_vectors import load_recorded, make_all

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*.sdkpack"))
ERRORS: dict[str, tuple[type[BundleError | PathNameError], ...]] = {
    "prologue": (PrologueError, FormatVersionError),
    "envelope": (EnvelopeError, FormatVersionError, LimitError),
    "directory": (DirectoryError, LimitError),
    "index": (IndexDataError, LimitError, PathNameError),
    "payload": (PayloadError,),
    "signature": (SignatureError, TrustError, LimitError),
    "no match": (NoMatchError,),
}


@dataclass
class Header:
    data: bytes
    fields: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def parse(cls, raw: bytes) -> Header:
        text, _, data = raw.partition(b"\n\n")
        header = cls(data)
        for line in text.decode().splitlines():
            name, _, value = line.partition(": ")
            header.fields.setdefault(name, []).append(value)
        if header.fields.get("compressed") == ["zlib"]:
            header.data = zlib.decompress(data)
        return header

    def one(self, name: str) -> str:
        return self.fields.get(name, [""])[0]


def read_all(header: Header) -> None:
    """Opens, verifies and reads a vector, as its header says."""
    identities = [key for line in header.fields.get("key", []) for key in parse_keys(line, where="vector")]
    if header.one("passphrase"):
        identities.append(PassphraseIdentity(header.one("passphrase")))
    trusted = [key for line in header.fields.get("trust", []) for key in parse_keys(line, where="vector")]
    policy = TrustPolicy(
        keys=tuple(TrustedKey(key=key) for key in trusted), threshold=len(trusted) or 1, allow_unsigned=not trusted
    )
    with open_bundle(header.data) as untrusted:
        bundle = untrusted.verify(policy=policy, identities=identities)
        assert bundle.identity == header.one("identity")
        found = [f"{hashlib.sha256(bundle.read(path)).hexdigest()} {path}" for path in bundle.files]
        assert found == header.fields.get("file", [])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_vector(path: Path) -> None:
    header = Header.parse(path.read_bytes())
    expect = header.one("expect")
    if expect == "success":
        read_all(header)
        return
    with pytest.raises(ERRORS[expect]) as caught:
        read_all(header)
    assert caught.value.exit_code == 4
    assert header.one("message") in str(caught.value)


STRUCTURAL = [
    path
    for path in FILES
    if (header := Header.parse(path.read_bytes())).one("expect") in ("prologue", "envelope", "directory")
    and header.one("message") != "authentication failed"
    and path.stem != "scrypt_cost_19"  # the reader's own cap, applied when the stanza is tried
]


@pytest.mark.parametrize("path", STRUCTURAL, ids=lambda path: path.stem)
def test_structure_is_refused_before_any_key_is_used(path: Path) -> None:
    with pytest.raises(BundleError):
        open_bundle(Header.parse(path.read_bytes()).data)


def test_checked_in_vectors_are_what_the_script_makes() -> None:
    recorded = load_recorded()
    made = {vector.name: Header.parse(vector.encode()) for vector in make_all(recorded)}
    assert recorded == load_recorded(), "run: python -m tests.vectors.make_vectors"
    found = {path.stem: Header.parse(path.read_bytes()) for path in FILES}
    assert found == made, "run: python -m tests.vectors.make_vectors"


def test_every_class_is_covered_and_the_folder_stays_small() -> None:
    classes = [Header.parse(path.read_bytes()).one("expect") for path in FILES]
    assert set(classes) == {"success", *ERRORS}
    assert len(classes) >= 60
    assert sum(path.stat().st_size for path in FILES) < 3 << 20

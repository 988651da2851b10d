"""Small files that claim much: refused in little time and memory, before anything is built or computed."""

from __future__ import annotations

import resource
import struct
import time
import tracemalloc

import pytest

from sdkpack.bundle import TrustPolicy, canonical, open_bundle
from sdkpack.bundle.layout import MAX_DIRECTORY_SIZE
from sdkpack.crypto.recipients import Kek, PassphraseIdentity, PassphraseRecipient
from sdkpack.errors import BundleError, DirectoryError, LimitError
from tests.vectors.forge import BUNDLE_ID, CEK, KEK, MAGIC, Forge

UNSIGNED = TrustPolicy(allow_unsigned=True)
MIB = 1 << 20
HEADERS = {
    "empty arrays": b"\xdd" + struct.pack(">I", MIB - 5) + b"\x90" * (MIB - 5),
    "empty maps": b"\xdd" + struct.pack(">I", MIB - 5) + b"\x80" * (MIB - 5),
    "small integers": b"\xdd" + struct.pack(">I", MIB - 5) + b"\x01" * (MIB - 5),
    "nested arrays": b"\x91" * MIB,
    "nested maps": b"\x81\xa0" * (MIB // 2),
    "a claim of 2^32": b"\xdd\xff\xff\xff\xff" + b"\x90" * MIB,
    "claims in claims": (b"\xdd" + struct.pack(">I", MIB // 2)) * (MIB // 5),
    "a map's claim": b"\xdf\xff\xff\xff\xff" + b"\xa0" * MIB,
    "a long text": b"\xdb\xff\xff\xff\xff" + b"a" * MIB,
    "many keys": b"\xdf" + struct.pack(">I", MIB // 8) + b"".join(b"\xa6%06d\xc2" % n for n in range(MIB // 8)),
    "one key many times": b"\xdf" + struct.pack(">I", MIB // 4) + b"\xa2ab\xc2" * (MIB // 4),
    "deep in the middle": b"\x92" + b"\x91" * 20 + b"\x01" + b"\x01",
}


@pytest.mark.parametrize("name", HEADERS)
def test_hostile_msgpack_costs_little(name: str) -> None:
    started = time.process_time()
    with pytest.raises(BundleError):
        decode_as_directory(HEADERS[name])
    assert time.process_time() - started < 1


@pytest.mark.parametrize("name", HEADERS)
def test_hostile_msgpack_takes_little_memory(name: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(BundleError):
            decode_as_directory(HEADERS[name])
        assert tracemalloc.get_traced_memory()[1] < 128 * MIB
    finally:
        tracemalloc.stop()


def decode_as_directory(data: bytes) -> None:
    canonical.decode(data, error=DirectoryError, what="directory")
    raise DirectoryError("canonical, and yet no directory")


def test_whole_bundle_of_empty_arrays_is_refused_in_a_second() -> None:
    directory = HEADERS["empty arrays"]
    forge = Forge(encrypted=False, patch_raw_directory=lambda _: directory)
    data, before = forge.build(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    with pytest.raises(BundleError):
        open_bundle(data)
    assert time.process_time() - started < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 128 * 1024


@pytest.mark.parametrize("field", range(5))
@pytest.mark.parametrize("value", [1 << 63, (1 << 64) - 1, 1 << 40, MAX_DIRECTORY_SIZE + 1, 0])
def test_trailer_claims_allocate_nothing(field: int, value: int) -> None:
    data = bytearray(Forge(encrypted=False, files={"a": b"1"}).build())
    at = len(data) - 128 + 8 * field
    if struct.unpack_from("<Q", data, at)[0] == value:
        pytest.fail("the mutant is the bundle itself")
    struct.pack_into("<Q", data, at, value)
    tracemalloc.start()
    try:
        with pytest.raises(BundleError):
            open_bundle(data)
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("log2n", [19, 20])
def test_scrypt_above_the_policy_cap_costs_nothing(log2n: int) -> None:
    row = PassphraseRecipient("x", 1).wrap(CEK, BUNDLE_ID, bytes).as_row()
    row[2][1] = log2n
    data = Forge(stanzas=[row]).build()
    started = time.process_time()
    with pytest.raises(LimitError, match="passphrase cost"):
        open_bundle(data).verify(policy=UNSIGNED, identities=[PassphraseIdentity("x")])
    assert time.process_time() - started < 0.05


def test_files_claimed_for_one_blob_are_bounded() -> None:
    rows = [[f"f{number:06}", 0, "a/b"] for number in range(65537)]
    forge = Forge(files={"a": b"1"}, patch_index=lambda doc: {**doc, "files": rows})
    with pytest.raises(LimitError, match="65536"):
        open_bundle(forge.build()).verify(policy=UNSIGNED, identities=[Kek(KEK)])


def test_manifest_above_its_limit_is_refused() -> None:
    forge = Forge(manifest={"text": "a" * (4 * MIB)})
    with pytest.raises(LimitError, match="manifest"):
        open_bundle(forge.build()).verify(policy=UNSIGNED, identities=[Kek(KEK)])


def test_sparse_file_of_a_terabyte_is_refused_at_its_end() -> None:
    class Sparse:
        """Zeros, but for a prologue."""

        size_bytes = 1 << 40
        path = None

        def read_into(self, offset: int, buffer: bytearray) -> None:
            view = memoryview(buffer)
            view[:] = bytes(len(view))
            if offset == 0:
                view[:32] = MAGIC + struct.pack("<HHIQ8x", 1, 0, 0, 64)

        def close(self) -> None:
            return

    started = time.process_time()
    with pytest.raises(BundleError, match="cut off"):
        open_bundle(Sparse())
    assert time.process_time() - started < 0.05

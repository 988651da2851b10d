"""The vectors that a reader must refuse, each with the part of the format where it must show."""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sdkpack.crypto.keyfile import format_key
from sdkpack.crypto.recipients.hpke import HYBRID, X25519
from sdkpack.crypto.signature import ECDSA, ED25519
from tests.vectors.catalogue_good import PASSPHRASE, SMALL, message_of, pattern
from tests.vectors.forge import CEK, Forge, canonical, hkdf_expand, hkdf_extract, kek_row, label, seal_chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.vectors.make_vectors import Keys

Case = tuple[str, str, str, Any]
"""(name, comment, words in the message, bytes or Forge)"""
CHANGED = "authentication failed"
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def make(keys: Keys) -> Iterator[dict[str, Any]]:
    held = (format_key(keys.kek),)
    parts: dict[str, Callable[[Keys], Iterator[Case]]] = {
        "prologue": _prologue,
        "envelope": _envelope,
        "directory": _directory,
        "index": _index,
        "payload": _payload,
    }
    for expect, cases in parts.items():
        for name, comment, message, bundle in cases(keys):
            data = bundle.build() if isinstance(bundle, Forge) else bundle
            fields = {"expect": expect, "comment": comment, "message": message, "data": data, "keys": held}
            if name.startswith("scrypt"):
                fields["passphrase"] = PASSPHRASE
            yield {"name": name, **fields}
    yield from _signature(keys)
    yield from _no_match(keys)


def put(data: bytes, at: int, new: bytes) -> bytes:
    at %= len(data)
    return data[:at] + new + data[at + len(new) :]


def flip(data: bytes, at: int) -> bytes:
    at %= len(data)
    return put(data, at, bytes([data[at] ^ 1]))


def _prologue(keys: Keys) -> Iterator[Case]:
    del keys
    whole, plain = Forge(files=SMALL).build(), Forge(files=SMALL, encrypted=False).build()
    yield "prologue_magic", "another first byte", "not a bundle", flip(whole, 0)
    yield "prologue_zip", "a ZIP file's magic", "not a bundle", put(whole, 0, b"PK\3\4")
    yield "prologue_prepended", "one byte before the bundle", "not a bundle", b"\0" + whole
    yield "prologue_major", "major version 2", "not supported", put(whole, 8, b"\2")
    yield "prologue_flag", "an unknown flag", "unknown flags", put(whole, 12, b"\3")
    yield "prologue_flag_downgrade", "the encrypted flag cleared", "plain bundle", put(whole, 12, b"\0")
    yield "prologue_reserved", "a reserved byte is set", "reserved", put(whole, 63, b"\1")
    yield "prologue_plain_id", "a plain bundle with an id", "plain bundle", put(plain, 24, b"\1")
    for offset in (0, 64, 65537, 1 << 20 | 65536):
        data = put(whole, 16, struct.pack("<Q", offset))
        yield f"prologue_data_offset_{offset}", f"data offset {offset}", "data offset", data
    yield "trailer_truncated", "the last byte is missing", "cut off", whole[:-1]
    yield "trailer_appended", "one byte after the bundle", "appended", whole + b"\0"
    yield "trailer_only_head", "cut off after the envelope", "trailer", whole[:65600]
    yield "trailer_empty_file", "an empty file", "fewer", b""
    yield "trailer_reserved", "a reserved byte is set", "reserved", put(whole, -9, b"\1")
    yield "trailer_file_size", "another file size", "describes", put(whole, -96, struct.pack("<Q", len(whole) + 1))
    yield "trailer_lengths", "index and signatures claim each other's bytes", "digest", _shifted(whole)
    yield "trailer_digest", "another tail digest", "digest", flip(whole, -70)
    yield "trailer_directory_early", "the directory begins in the prologue", "before the data", _early(plain)
    yield "tail_mac", "another tail mac", CHANGED, Forge(files=SMALL, patch_tail_mac=lambda mac: flip(mac, 5))
    yield "tail_mac_zero", "no tail mac", CHANGED, Forge(files=SMALL, patch_tail_mac=lambda mac: bytes(len(mac)))
    mac_on_plain = Forge(files=SMALL, encrypted=False, patch_tail_mac=lambda mac: flip(mac, 0))
    yield "tail_mac_on_plain", "a plain bundle with a tail mac", "tail mac", mac_on_plain


def _shifted(whole: bytes) -> bytes:
    index, signatures = struct.unpack("<QQ", whole[-112:-96])
    return put(whole, -112, struct.pack("<QQ", index - 1, signatures + 1))


def _early(plain: bytes) -> bytes:
    offset, directory = struct.unpack("<QQ", plain[-128:-112])
    return put(plain, -128, struct.pack("<QQ", 32, directory + offset - 32))


def _stanzas(rows: list[Any], **fields: Any) -> Forge:
    return Forge(files=SMALL, stanzas=rows, **fields)


def _envelope(keys: Keys) -> Iterator[Case]:
    whole = Forge(files=SMALL).build()
    length = int.from_bytes(whole[64:68], "little")
    mac_at = 68 + length
    row = kek_row()
    yield "hmac_bad", "another envelope mac", CHANGED, flip(whole, mac_at)
    yield "hmac_zero", "no envelope mac", CHANGED, put(whole, mac_at, bytes(32))
    yield "hmac_garbage_after", "a byte after the mac", "hidden", put(whole, mac_at + 32, b"\1")
    yield "hmac_garbage_end", "a byte before the data", "hidden", put(whole, 65535, b"\1")
    added = canonical([1, _commit(), [row, kek_row(kek=bytes(32))]])
    rest = struct.pack("<I", len(added)) + added + whole[mac_at : mac_at + 32]
    yield "hmac_stanza_added", "a recipient added by somebody without the key", CHANGED, put(whole, 64, rest)
    yield "envelope_length", "a body longer than its room", "claims", put(whole, 64, struct.pack("<I", 65500))
    body = lambda rows, suite=1, commit=None: (  # noqa: E731
        lambda _: canonical([suite, commit if commit is not None else _commit(), rows])
    )
    yield "envelope_suite", "suite 2", "suite", Forge(files=SMALL, patch_body=body([row], suite=2))
    yield (
        "envelope_commit_short",
        "31 bytes of commitment",
        "range",
        Forge(files=SMALL, patch_body=body([row], 1, b"x" * 31)),
    )
    yield "envelope_no_stanzas", "nobody can open it", "range", _stanzas([])
    yield (
        "envelope_trailing",
        "a byte after the body's array",
        "content",
        Forge(files=SMALL, patch_body=lambda raw: raw + b"\0"),
    )
    yield (
        "envelope_long_form",
        "an integer in a longer form",
        "canonical",
        Forge(files=SMALL, patch_body=lambda raw: raw[:1] + b"\xcc\1" + raw[2:]),
    )
    yield (
        "envelope_257_stanzas",
        "too many stanzas",
        "range",
        _stanzas([["x", b"", [], b""]] * 257, data_offset=131072),
    )
    yield (
        "envelope_long_stanza",
        "a stanza of more than 4096 bytes",
        "longer",
        _stanzas([row, ["x", b"", [], bytes(5000)]]),
    )
    yield "stanza_key_id", "a key id of 31 bytes", "key id", _stanzas([["kek", bytes(31), [], bytes(60)]])
    yield "stanza_types", "a stanza of three parts", "stanza", _stanzas([row[:3]])
    yield (
        "stanza_plugin_name",
        "a provider's name with a slash",
        "provider",
        _stanzas([["plugin:a/b", b"", [], b""], row]),
    )
    yield "kek_wrapped_short", "59 bytes", "expected 60", _stanzas([["kek", row[1], [], row[3][:-1]]])
    yield "kek_wrapped_long", "61 bytes", "expected 60", _stanzas([["kek", row[1], [], row[3] + b"\0"]])
    yield "kek_params", "parameters where there are none", "parameters", _stanzas([["kek", row[1], [1], row[3]]])
    x25519 = keys.hpke_row(X25519)
    yield "x25519_wrapped_short", "79 bytes", "expected 80", _stanzas([[*x25519[:3], x25519[3][:-1]]])
    hybrid = keys.hpke_row(HYBRID)
    yield "hybrid_mixed", "a hybrid beside a classical recipient", "post-quantum", _stanzas([hybrid, x25519])
    yield "hybrid_wrapped_short", "1167 bytes", "expected 1168", _stanzas([[*hybrid[:3], hybrid[3][:-1]]])
    scrypt = keys.scrypt_row()
    yield "scrypt_with_kek", "a passphrase and a kek", "only recipient", _stanzas([row, scrypt])
    yield "scrypt_twice", "two passphrases", "only recipient", _stanzas([scrypt, scrypt])
    yield "scrypt_cost_21", "N = 2^21: above the hard cap", "at most", _stanzas([_cost(scrypt, 21)])
    yield "scrypt_cost_19", "N = 2^19: above what a reader pays unasked", "limit", _stanzas([_cost(scrypt, 19)])
    yield "scrypt_cost_0", "N = 1", "cost", _stanzas([_cost(scrypt, 0)])
    yield "scrypt_cost_negative", "N = 2^-1", "cost", _stanzas([_cost(scrypt, -1)])
    yield "scrypt_salt_short", "15 bytes of salt", "salt", _stanzas([["scrypt", b"", [bytes(15), 10], scrypt[3]]])
    yield "scrypt_key_id", "a passphrase with a key id", "salt", _stanzas([["scrypt", bytes(32), *scrypt[2:]]])
    other = hashlib.sha256(b"another content key").digest()
    yield (
        "commit_other_key",
        "our stanza holds a key that the file is not committed to",
        CHANGED,
        _stanzas([kek_row(other)]),
    )
    both = [kek_row(other), kek_row(CEK)]
    yield "commit_first_of_two", "a second stanza would open: it must not be tried", CHANGED, _stanzas(both)


def _cost(row: list[Any], log2n: int) -> list[Any]:
    return ["scrypt", b"", [row[2][0], log2n], row[3]]


def _commit() -> bytes:
    return hkdf_expand(hkdf_extract(Forge().bundle_id, CEK), label("commit"))


def _doc(**changes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda doc: {**doc, **changes}


def _directory(keys: Keys) -> Iterator[Case]:
    del keys

    def raw(old: bytes, new: bytes) -> Forge:
        return Forge(files=SMALL, patch_raw_directory=lambda data: _replace(data, old, new))

    def doc(**changes: Any) -> Forge:
        return Forge(files=SMALL, patch_directory=_doc(**changes))

    def blob(number: int, at: int, value: Any) -> Forge:
        def patch(document: dict[str, Any]) -> dict[str, Any]:
            document["blobs"][number][at] = value
            return document

        return Forge(files=SMALL, patch_directory=patch)

    yield "directory_version", "version 2", "version", doc(v=2)
    yield "directory_unknown_key", "a key without x-", "map of", doc(more=1)
    yield "directory_about_list", "about is a list", "lacks", doc(about=[])
    yield "directory_float", "a float in about", "float", doc(about={"name": 1.5})
    yield "directory_nil", "nil", "not allowed", doc(about={"name": None})
    yield "directory_ext", "an ext value", "not allowed", raw(b"\xa1v\x01", b"\xa1v\xd4\x01\x00")
    yield "directory_float32", "float32", "not allowed", raw(b"\xa1v\x01", b"\xa1v\xca\x3f\x80\x00\x00")
    yield "directory_reserved_tag", "the byte c1", "not allowed", raw(b"\xa1v\x01", b"\xa1v\xc1")
    yield "directory_long_int", "1 in two bytes", "canonical", raw(b"\xa1v\x01", b"\xa1v\xcc\x01")
    yield "directory_long_str", "a key with a longer length", "canonical", raw(b"\xa1v\x01", b"\xd9\x01v\x01")
    yield "directory_unsorted", "v before blobs", "canonical", Forge(files=SMALL, patch_raw_directory=_unsorted)
    yield (
        "directory_duplicate",
        "v twice",
        "canonical",
        Forge(files=SMALL, patch_raw_directory=lambda data: b"\x84" + data[1:] + b"\xa1v\x01"),
    )
    yield (
        "directory_trailing",
        "a byte after the map",
        "content",
        Forge(files=SMALL, patch_raw_directory=lambda data: data + b"\0"),
    )
    yield (
        "directory_short",
        "ends early",
        "ends early",
        Forge(files=SMALL, patch_raw_directory=lambda data: data[:-1]),
    )
    yield (
        "directory_not_utf8",
        "text that is no UTF-8",
        "UTF-8",
        Forge(files=SMALL, patch_raw_directory=lambda data: _replace(data, b"vector", b"vect\xffr")),
    )
    yield (
        "directory_claims",
        "an array that claims 2^32 - 1 items",
        "announced",
        raw(b"\xa1v\x01", b"\xa1v\xdd\xff\xff\xff\xff"),
    )
    deep: Any = 1
    for _ in range(17):
        deep = [deep]
    yield "directory_deep", "nested deeper than 16", "nested", doc(**{"x-deep": deep})
    yield "directory_digest_short", "31 bytes of digest", "range", blob(0, 0, bytes(31))
    yield "directory_offset", "a blob 64 bytes later than the rule puts it", "rule", blob(1, 1, 65536 + 128)
    yield "directory_overlap", "two blobs at one place", "rule", blob(1, 1, 65536)
    yield "directory_negative", "a negative length", "range", blob(1, 2, -1)
    yield "directory_huge", "a length of 2^63", "range", blob(1, 2, 1 << 63)
    yield "directory_gap", "bytes in the gaps", "hidden", Forge(files=SMALL, gap=b"\1")


def _replace(data: bytes, old: bytes, new: bytes) -> bytes:
    if data.count(old) != 1:
        raise ValueError("the vector would not show what it says")
    return data.replace(old, new)


def _unsorted(data: bytes) -> bytes:
    """Moves `v` to the front."""
    return data[:1] + b"\xa1v\x01" + data[1:-3]


def _index(keys: Keys) -> Iterator[Case]:
    del keys

    def doc(**changes: Any) -> Forge:
        return Forge(files=SMALL, patch_index=_doc(**changes))

    def blob(at: int, value: Any, *, encrypted: bool = True) -> Forge:
        def patch(document: dict[str, Any]) -> dict[str, Any]:
            document["blobs"][1][at] = value
            return document

        return Forge(files=SMALL, patch_index=patch, encrypted=encrypted)

    manifest = Forge().manifest
    kind = "application/octet-stream"
    yield "index_version", "version 2", "version", doc(v=2)
    yield "index_unknown_key", "a key without x-", "unknown key", doc(more=1)
    yield "index_manifest_list", "the manifest is a list", "map of", doc(manifest=[])
    yield (
        "index_about",
        "the directory shows another name",
        "another 'name'",
        doc(manifest={**manifest, "name": "other"}),
    )
    yield "index_about_missing", "the directory shows a name, the manifest has none", "another", doc(manifest={})
    yield "index_about_bool", "1 is not true", "another", doc(manifest={**manifest, "sequence": True})
    for name, value in (("nan", float("nan")), ("infinity", float("inf")), ("negative_zero", -0.0)):
        yield f"index_float_{name}", f"{name} in the manifest", "canonical", doc(manifest={**manifest, "x": value})
    yield "index_float_outside", "a float outside the manifest", "float", doc(**{"x-new": 1.5})
    yield "index_blobs_fewer", "fewer blobs than the directory", "blobs", doc(blobs=[], files=[])
    yield "index_size", "a size that does not give the stored length", "stored bytes", blob(0, 4)
    yield "index_size_huge", "a size of 2^40 + 1", "2^40", blob(0, (1 << 40) + 1)
    yield "index_size_bool", "a size that is no integer", "blob of the index", blob(0, True)
    yield "index_k_15", "chunks of 2^15", "chunk size", blob(1, 15)
    yield "index_k_25", "chunks of 2^25", "chunk size", blob(1, 25)
    yield "index_plain_k_16", "a plain blob with k = 16", "chunk size", blob(1, 16, encrypted=False)
    yield "index_plain_key", "a plain blob with a key", "wrong length", blob(2, bytes(32), encrypted=False)
    yield "index_key_short", "31 bytes of key", "wrong length", blob(2, bytes(31))
    yield "index_digest_short", "31 bytes of digest", "wrong length", blob(3, bytes(31))
    same_key = hashlib.sha256(b"blob key labels.txt").digest()
    yield "index_shared_key", "two blobs under one key", "share a key", blob(2, same_key)
    twins = Forge(files={"a": b"same", "b": b"same"}, encrypted=False)
    yield "index_plain_twins", "two plain blobs of equal content", "same content", twins
    yield "index_chunk_hashes", "too few chunk hashes", "chunk hashes", doc(chunk_hashes=bytes(32))
    yield "index_blob_unnamed", "a blob that no file names", "no file", doc(files=[["labels.txt", 0, kind]])
    yield (
        "index_file_blob",
        "a file that names a blob beyond the last",
        "names blob",
        doc(files=[["labels.txt", 0, kind], ["model.bin", 2, kind]]),
    )
    yield (
        "index_media_type",
        "a media type without a slash",
        "media type",
        doc(files=[["labels.txt", 0, "text"], ["model.bin", 1, kind]]),
    )
    names = {
        "dotdot": ["../a", "b"], "absolute": ["/a", "b"], "backslash": ["a\\b", "b"], "empty": ["", "b"],
        "unsorted": ["b", "a"], "duplicate": ["a", "a"], "case": ["A", "a"], "folder_case": ["A/x", "a/y"],
        "parent": ["a", "a/b"], "device": ["a", "nul.txt"], "nul": ["a\0b", "b"], "unicode": ["a", "\u00e9"],
        "trailing_dot": ["a.", "b"], "long": ["a" * 256, "b"], "very_long": ["a/" * 512 + "a", "b"],
    }  # fmt: skip
    for name, paths in names.items():
        rows = [[path, number, kind] for number, path in enumerate(paths)]
        yield (
            f"path_{name}",
            f"file names {name}",
            "path name" if name != "folder_case" else "folder",
            doc(files=rows),
        )
    yield (
        "index_long_int",
        "an integer in a longer form",
        "canonical",
        Forge(files=SMALL, patch_raw_index=lambda data: data[:-1] + b"\xcc\x01"),
    )
    yield (
        "index_trailing",
        "a byte after the map",
        "content",
        Forge(files=SMALL, patch_raw_index=lambda data: data + b"\0"),
    )


def _payload(keys: Keys) -> Iterator[Case]:
    del keys
    two = {"data.bin": pattern(65536 + 10)}

    def stored(change: Callable[[bytes], bytes], files: dict[str, bytes] = two, **fields: Any) -> Forge:
        def patch(rows: list[list[Any]]) -> list[list[Any]]:
            rows[0][0] = change(rows[0][0])
            return rows

        return Forge(files=files, patch_blobs=patch, **fields)

    def sealed(numbers: list[int], last: int) -> Callable[[bytes], bytes]:
        """Seals the two chunks under the given numbers; `last` is the place of the flagged one."""
        key, plain = hashlib.sha256(b"blob key data.bin").digest(), two["data.bin"]
        chunks = [plain[:65536], plain[65536:]]
        return lambda _: b"".join(
            AESGCM(key).encrypt(struct.pack(">3xQ?", number, place == last), chunk, None)
            for place, (number, chunk) in enumerate(zip(numbers, chunks, strict=True))
        )

    yield "payload_flip", "a bit of a blob, the directory made to fit", CHANGED, stored(lambda data: flip(data, 3))
    yield "payload_tag", "a bit of a tag", CHANGED, stored(lambda data: flip(data, -1))
    yield (
        "payload_flip_unfitted",
        "a bit of a blob, the directory as it was",
        CHANGED,
        flip(Forge(files=two).build(), 65536 + 3),
    )
    yield "stream_no_last", "the last chunk is not flagged", CHANGED, stored(sealed([0, 1], 9))
    yield "stream_last_first", "the first chunk is flagged too", CHANGED, stored(sealed([0, 1], 0))
    yield "stream_counter", "the counter begins with 1", CHANGED, stored(sealed([1, 2], 1))
    yield "stream_counter_same", "both chunks have number 0", CHANGED, stored(sealed([0, 0], 1))
    yield "stream_little_endian", "the counter is little-endian", CHANGED, stored(sealed([0, 1 << 56], 1))
    full = {"data.bin": pattern(2 * 65536)}
    swap = lambda data: data[65552:] + data[:65552]  # noqa: E731
    yield "stream_swapped", "two full chunks change places", CHANGED, stored(swap, full)
    yield "stream_repeated", "the first chunk stands twice", CHANGED, stored(lambda data: data[:65552] * 2, full)
    yield "stream_empty_tag", "the empty blob's tag", CHANGED, stored(lambda data: flip(data, 0), {"data.bin": b""})
    key = hashlib.sha256(b"blob key data.bin").digest()
    yield (
        "stream_other_k",
        "sealed as one chunk of 2^17",
        CHANGED,
        stored(lambda data: seal_chunks(key, two["data.bin"], 17).ljust(len(data), b"\0")),
    )

    def swapped(rows: list[list[Any]]) -> list[list[Any]]:
        rows[0][0], rows[1][0] = rows[1][0], rows[0][0]
        return rows

    models = {"a.bin": b"one", "b.bin": b"two"}
    yield "payload_swapped", "two blobs of one size change places", CHANGED, Forge(files=models, patch_blobs=swapped)

    def digest(document: dict[str, Any]) -> dict[str, Any]:
        document["blobs"][0][0] = flip(document["blobs"][0][0], 0)
        return document

    yield (
        "payload_stored_digest",
        "the directory's digest of an encrypted blob",
        CHANGED,
        Forge(files=SMALL, patch_directory=digest),
    )
    yield (
        "payload_plain_digest",
        "the directory's digest of a plain blob",
        CHANGED,
        Forge(files=SMALL, patch_directory=digest, encrypted=False),
    )

    def inner(document: dict[str, Any]) -> dict[str, Any]:
        document["blobs"][0][3] = flip(document["blobs"][0][3], 0)
        return document

    yield (
        "payload_inner_digest",
        "the index's digest of the plaintext",
        CHANGED,
        Forge(files=SMALL, patch_index=inner),
    )
    yield (
        "payload_chunk_hash",
        "a chunk hash",
        CHANGED,
        Forge(
            files=SMALL,
            chunk_hashes=True,
            patch_index=lambda doc: {**doc, "chunk_hashes": flip(doc["chunk_hashes"], 0)},
        ),
    )


def _signature(keys: Keys) -> Iterator[dict[str, Any]]:
    message = message_of(Forge(encrypted=False, files=SMALL))
    good = keys.sign(ED25519, message)
    ecdsa = keys.sign(ECDSA, message)
    high = (P256_ORDER - int.from_bytes(ecdsa[2][32:], "big")).to_bytes(32, "big")
    unordered = [good, ecdsa]
    other = [ED25519, bytes(32), good[2]]
    cases: list[tuple[str, str, str, list[Any], tuple[str, ...]]] = [
        ("stripped", "the signature was taken away", "not signed", [], (ED25519,)),
        ("flipped", "a bit of the signature", CHANGED, [[*good[:2], flip(good[2], 9)]], (ED25519,)),
        ("short", "63 bytes", CHANGED, [[*good[:2], good[2][:-1]]], (ED25519,)),
        ("other_key", "by a key that is not trusted", "expected 1", [other], (ED25519,)),
        ("other_bundle", "of another message", CHANGED, [keys.sign(ED25519, message[:-1])], (ED25519,)),
        ("threshold", "one of two required", "expected 2", [good], (ED25519, ECDSA)),
        ("alg_confusion", "an Ed25519 signature called ecdsa", CHANGED, [[ECDSA, ecdsa[1], good[2]]], (ECDSA,)),
        ("high_s", "the twin of an ECDSA signature", CHANGED, [[*ecdsa[:2], ecdsa[2][:32] + high]], (ECDSA,)),
        ("zero", "r = s = 0", CHANGED, [[*ecdsa[:2], bytes(64)]], (ECDSA,)),
        ("unsorted", "not in ascending order", "order", unordered, (ED25519,)),
        ("twice", "twice by one key", "order", [good, good], (ED25519,)),
        ("malformed", "two parts", "algorithm", [good[:2]], (ED25519,)),
        ("key_id", "31 bytes of key id", "algorithm", [[ED25519, bytes(31), good[2]]], (ED25519,)),
        ("map", "a map instead of an array", "no array", {}, (ED25519,)),
    ]  # type: ignore[list-item]
    for name, comment, words, rows, trust in cases:
        data = Forge(encrypted=False, files=SMALL, patch_signatures=lambda _, rows=rows: rows).build()
        fields = {"expect": "signature", "comment": comment, "message": words, "data": data}
        yield {"name": f"signature_{name}", **fields, "trust": keys.trust(*trust)}
    large = Forge(encrypted=False, files=SMALL, patch_signatures=lambda _: [["x", bytes(32), bytes(65536)]]).build()
    fields = {"expect": "signature", "comment": "more than 64 KiB", "message": "longer", "data": large}
    yield {"name": "signature_large", **fields, "trust": keys.trust(ED25519)}


def _no_match(keys: Keys) -> Iterator[dict[str, Any]]:
    base = {"expect": "no match", "message": "none of the given keys"}
    whole = Forge(files=SMALL).build()
    yield {
        **base,
        "name": "kek_wrong",
        "comment": "another kek",
        "data": whole,
        "keys": (format_key(keys.other_kek),),
    }
    yield {**base, "name": "kek_none", "comment": "no key at all", "data": whole}
    row = kek_row()
    changed = _stanzas([["kek", row[1], [], flip(row[3], 20)]]).build()
    yield {
        **base,
        "name": "kek_changed",
        "comment": "the wrapped key was changed",
        "data": changed,
        "keys": (format_key(keys.kek),),
    }
    renamed = _stanzas([["kek", bytes(32), [], row[3]]]).build()
    yield {
        **base,
        "name": "kek_other_id",
        "comment": "the key id is not ours",
        "data": renamed,
        "keys": (format_key(keys.kek),),
    }
    data = _stanzas([keys.scrypt_row()]).build()
    yield {**base, "name": "scrypt_wrong", "comment": "another passphrase", "data": data, "passphrase": "wrong"}
    held = (format_key(keys.identities[X25519]),)
    x25519 = keys.hpke_row(X25519)
    for name, at in (("share", 0), ("body", 40), ("tag", -1)):
        data = _stanzas([[*x25519[:3], flip(x25519[3], at)]]).build()
        yield {**base, "name": f"x25519_{name}", "comment": f"the {name} was changed", "data": data, "keys": held}
    low_order = _stanzas([[*x25519[:3], bytes(32) + x25519[3][32:]]]).build()
    yield {
        **base,
        "name": "x25519_low_order",
        "comment": "the share is the zero point",
        "data": low_order,
        "keys": held,
    }
    hybrid = keys.hpke_row(HYBRID)
    held = (format_key(keys.identities[HYBRID]),)
    for name, at in (("mlkem_share", 5), ("x25519_share", 1100), ("body", 1130)):
        data = _stanzas([[*hybrid[:3], flip(hybrid[3], at)]]).build()
        yield {**base, "name": f"hybrid_{name}", "comment": f"the {name} was changed", "data": data, "keys": held}

"""Where things lie in a bundle: prologue, blob placement, trailer, and the message that is signed."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from sdkpack.errors import FormatVersionError, LimitError, PrologueError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MAX_DATA_OFFSET", "PAGE", "PROLOGUE_SIZE", "TRAILER_SIZE", "Prologue", "Trailer", "align", "identity_of"]
__all__ += [
    "ENVELOPE_OVERHEAD",
    "MAX_DIRECTORY_SIZE",
    "MAX_SIGNATURES_SIZE",
    "place",
    "signed_message",
    "tail_digest",
]

PROLOGUE_SIZE: Final = 64
TRAILER_SIZE: Final = 128
PAGE: Final = 65536  # divides every page size in use: blobs can be mapped, and read into device memory, where they lie
MAX_DATA_OFFSET: Final = 1 << 20  # 256 stanzas of 4 KiB
ENVELOPE_OVERHEAD: Final = 100  # prologue, length, mac
LARGE: Final = 1 << 20
SMALL_ALIGNMENT: Final = 64
MAX_DIRECTORY_SIZE: Final = 8 << 20  # 65536 rows of up to 53 bytes, and what the publisher shows
MAX_SIGNATURES_SIZE: Final = 64 << 10  # a dozen of the largest kind

MAGIC: Final = bytes.fromhex("8953444B0D0A1A0A")  # after PNG: shows transfers that drop bit 7 or translate line ends
MAGIC_END: Final = MAGIC[::-1]
_MAJOR: Final = 1
_ENCRYPTED: Final = 1
_PROLOGUE: Final = struct.Struct("<8sHHIQ16s24s")
_TRAILER: Final = struct.Struct("<QQQQQ32s32s16s8s")


def align(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment


def place(stored: Sequence[int], data_offset: int) -> tuple[list[int], int]:
    """Returns the offset of each blob, and of the directory: there is one valid placement, so nothing can hide."""
    offsets: list[int] = []
    end = data_offset
    for size in stored:
        start = align(end, PAGE if size >= LARGE else SMALL_ALIGNMENT)
        offsets.append(start)
        end = start + size
    return offsets, align(end, SMALL_ALIGNMENT)


def tail_digest(directory: bytes, stored_index: bytes) -> bytes:
    return hashlib.sha256(len(directory).to_bytes(8, "little") + directory + stored_index).digest()


def signed_message(prologue: bytes, commit: bytes, tail: bytes) -> bytes:
    """Returns the 148 bytes that fix a bundle: what is signed, and what the content key authenticates."""
    return b"sdkpack/1 signature\0" + prologue + commit + tail


def identity_of(message: bytes) -> str:
    """Returns the bundle's identity: unchanged by re-wrapping and counter-signing."""
    return "sha256:" + hashlib.sha256(message).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prologue:
    """The first 64 bytes."""

    encrypted: bool
    data_offset: int
    bundle_id: bytes = bytes(16)
    minor: int = 0

    def encode(self) -> bytes:
        flags = _ENCRYPTED if self.encrypted else 0
        return _PROLOGUE.pack(MAGIC, _MAJOR, self.minor, flags, self.data_offset, self.bundle_id, bytes(24))

    @classmethod
    def decode(cls, data: bytes) -> Prologue:
        """Reads and checks the prologue.

        Raises:
            PrologueError: not a bundle, or malformed.
            FormatVersionError: a major version or a flag that this reader does not know.
        """
        if len(data) != PROLOGUE_SIZE or data[:8] != MAGIC:
            raise PrologueError("not a bundle: the file does not begin with the bundle magic")
        _, major, minor, flags, data_offset, bundle_id, zero = _PROLOGUE.unpack(data)
        if major != _MAJOR:
            raise FormatVersionError(
                f"bundle format {major}.{minor} is not supported, expected {_MAJOR}.x", hint="update sdkpack"
            )
        if flags & ~_ENCRYPTED:
            raise FormatVersionError(f"unknown flags {flags:#x} in the prologue", hint="update sdkpack")
        if any(zero):
            raise PrologueError("the prologue's reserved bytes are not zero")
        result = cls(encrypted=bool(flags), data_offset=data_offset, bundle_id=bundle_id, minor=minor)
        result._check()
        return result

    def _check(self) -> None:
        if self.encrypted:
            if self.data_offset % PAGE or not PAGE <= self.data_offset <= MAX_DATA_OFFSET:
                raise PrologueError(f"data offset {self.data_offset} is not one of 65536, 131072, ... 1048576")
        elif self.data_offset != PROLOGUE_SIZE or any(self.bundle_id):
            raise PrologueError("a plain bundle has data offset 64 and no bundle id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trailer:
    """The last 128 bytes."""

    directory_offset: int
    directory_length: int
    index_length: int
    signatures_length: int
    tail_digest: bytes
    tail_mac: bytes = bytes(32)

    @property
    def index_offset(self) -> int:
        return self.directory_offset + self.directory_length

    @property
    def signatures_offset(self) -> int:
        return self.index_offset + self.index_length

    @property
    def file_size(self) -> int:
        return self.signatures_offset + self.signatures_length + TRAILER_SIZE

    def with_signatures(self, length: int) -> Trailer:
        """The trailer of the same bundle with another signatures' part."""
        return replace(self, signatures_length=length)

    def encode(self) -> bytes:
        lengths = (self.directory_offset, self.directory_length, self.index_length, self.signatures_length)
        return _TRAILER.pack(*lengths, self.file_size, self.tail_digest, self.tail_mac, bytes(16), MAGIC_END)

    @classmethod
    def decode(cls, data: bytes, *, file_size: int) -> Trailer:
        """Reads the trailer and checks that its parts fill the file exactly.

        Raises:
            PrologueError: cut off, malformed, or of another file size.
            LimitError: a part is longer than a reader accepts.
        """
        offset, directory, index, signatures, stated_size, digest, mac, zero, magic = _TRAILER.unpack(data)
        if magic != MAGIC_END:
            raise PrologueError("the file does not end with a bundle's trailer: it is cut off or has bytes appended")
        if any(zero):
            raise PrologueError("the trailer's reserved bytes are not zero")
        result = cls(
            directory_offset=offset,
            directory_length=directory,
            index_length=index,
            signatures_length=signatures,
            tail_digest=digest,
            tail_mac=mac,
        )
        if stated_size != file_size or result.file_size != file_size:
            raise PrologueError(f"the trailer describes {stated_size} bytes, the file has {file_size}")
        if directory > MAX_DIRECTORY_SIZE or signatures > MAX_SIGNATURES_SIZE:
            raise LimitError("the directory or the signatures are longer than a reader accepts")
        return result

"""Keys as text: one line each, in files or environment variables.

A line is `sdkpack-VISIBILITY-1:ROLE:TYPE:DATA`. DATA is base64url without padding of the raw key and a checksum, the
first four bytes of SHA-256 over everything before DATA and the raw key; it catches a cut or mistyped line.

| VISIBILITY | ROLE | TYPE | raw key |
| --- | --- | --- | --- |
| secret | identity | hpke-x25519, hpke-mlkem768x25519, hpke-p384 | private key, see `recipients.hpke` |
| public | recipient | the same | public key |
| secret | signing | ed25519, ecdsa-p256-sha256, ml-dsa-65 | private key, see `signature` |
| public | verifying | the same | public key |
| secret | kek | aes-256-gcm | 32 B |
| secret | line | hmac-sha256 | 32 B |

A file may hold several lines; empty lines and those that begin with `#` are skipped. A file with a secret line must
be readable by its owner alone. `sdkpack-secret-1:` is a fixed string, so that scanners for leaked secrets find it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from sdkpack.crypto.keys import LineKey
from sdkpack.crypto.recipients import HpkeIdentity, HpkeRecipient, Kek
from sdkpack.crypto.signature import SigningKey, VerifyingKey
from sdkpack.errors import KeyFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

__all__ = ["Key", "format_key", "parse_keys", "public_part", "read_key_file", "write_key_file"]

Key = HpkeIdentity | HpkeRecipient | SigningKey | VerifyingKey | Kek | LineKey

MAX_SIZE: Final = 1 << 20  # some hundred of the longest keys
_LINE: Final = re.compile(r"sdkpack-(secret|public)-1:([a-z]+):([a-z0-9-]+):([A-Za-z0-9_-]+)")
_CHECKSUM_SIZE: Final = 4


@dataclass(frozen=True, slots=True)
class _Role:
    """How one kind of key is built from its raw form, and back."""

    visibility: str
    kind: type[Any]
    build: Callable[[str, bytes], Key]
    type_of: Callable[[Any], str]
    raw: Callable[[Any], bytes]


def _only(expected: str, build: Callable[[bytes], Key]) -> Callable[[str, bytes], Key]:
    def checked(kind: str, raw: bytes) -> Key:
        if kind != expected:
            raise ValueError(kind)
        return build(raw)

    return checked


_ROLES: Final[Mapping[str, _Role]] = MappingProxyType(
    {
        "identity": _Role("secret", HpkeIdentity, HpkeIdentity, lambda key: key.type, lambda key: key.private_key),
        "recipient": _Role("public", HpkeRecipient, HpkeRecipient, lambda key: key.type, lambda key: key.public_key),
        "signing": _Role("secret", SigningKey, SigningKey, lambda key: key.alg, lambda key: key.private_key),
        "verifying": _Role("public", VerifyingKey, VerifyingKey, lambda key: key.alg, lambda key: key.public_key),
        "kek": _Role("secret", Kek, _only("aes-256-gcm", Kek), lambda _: "aes-256-gcm", lambda key: key.secret),
        "line": _Role("secret", LineKey, _only("hmac-sha256", LineKey), lambda _: "hmac-sha256", lambda k: k.secret),
    }
)


def public_part(key: Key) -> HpkeRecipient | VerifyingKey | None:
    """Returns what may be given away of a key; None for a symmetric one."""
    if isinstance(key, HpkeIdentity):
        return key.recipient
    if isinstance(key, SigningKey):
        return key.verifying_key
    return key if isinstance(key, (HpkeRecipient, VerifyingKey)) else None


def is_secret(key: Key) -> bool:
    return public_part(key) is not key


def format_key(key: Key) -> str:
    """Returns the one line that stands for a key, without a line end."""
    name, role = next((name, role) for name, role in _ROLES.items() if role.kind is type(key))
    prefix = f"sdkpack-{role.visibility}-1:{name}:{role.type_of(key)}:"
    raw = role.raw(key)
    data = raw + _checksum(prefix, raw)
    return prefix + base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def parse_keys(text: str, *, where: str) -> tuple[Key, ...]:
    """Reads the keys in a text.

    Args:
        text: one key a line.
        where: the file's or variable's name, for messages. The text itself never enters a message.

    Raises:
        KeyFileError: a line is malformed, or there is none.
    """
    keys = []
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            keys.append(_parse_line(stripped, f"{where}, line {number}"))
    if not keys:
        raise KeyFileError("there is no key", where=where, hint="make one: sdkpack keys new")
    return tuple(keys)


def _parse_line(line: str, where: str) -> Key:
    match = _LINE.fullmatch(line)
    role = _ROLES.get(match[2]) if match else None
    if match is None or role is None or role.visibility != match[1]:
        raise KeyFileError("not a key", where=where, hint="a key begins with sdkpack-secret-1: or sdkpack-public-1:")
    prefix, data = line[: match.start(4)], match[4]
    try:
        decoded = base64.b64decode(data + "=" * (-len(data) % 4), altchars=b"-_", validate=True)
        raw, checksum = decoded[:-_CHECKSUM_SIZE], decoded[-_CHECKSUM_SIZE:]
        if checksum != _checksum(prefix, raw):
            raise KeyFileError("the key is cut off or mistyped: its checksum is wrong", where=where)
        return role.build(match[3], raw)
    except (ValueError, binascii.Error):
        # From None: a library's message may quote its input.
        raise KeyFileError(f"not a {match[2]} key of type {match[3][:40]}", where=where) from None


def _checksum(prefix: str, raw: bytes) -> bytes:
    return hashlib.sha256(prefix.encode("ascii") + raw).digest()[:_CHECKSUM_SIZE]


def read_key_file(path: Path) -> tuple[Key, ...]:
    """Reads the keys in a file.

    Raises:
        KeyFileError: missing, malformed, or a secret that others may read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            mode = os.fstat(fd).st_mode
            data = file.read(MAX_SIZE + 1) if not stat.S_ISDIR(mode) else b""
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else "it cannot be opened"
        raise KeyFileError(f"cannot read key file '{path}': {reason}", hint="make one: sdkpack keys new") from None
    if len(data) > MAX_SIZE:
        raise KeyFileError(f"key file '{path}' is longer than {MAX_SIZE} bytes")
    try:
        keys = parse_keys(data.decode("ascii"), where=f"key file '{path}'")
    except UnicodeDecodeError:
        raise KeyFileError(f"key file '{path}' is not text") from None
    if stat.S_ISREG(mode) and mode & 0o077 and any(is_secret(key) for key in keys):
        raise KeyFileError(
            f"key file '{path}' holds a secret and is readable by others (mode {stat.S_IMODE(mode):04o})",
            hint=f"chmod 600 '{path}'",
        )
    return keys


def write_key_file(path: Path, key: Key, *, comment: str = "") -> None:
    """Writes a new key file; one with a secret is readable by its owner alone, and says its public part.

    Raises:
        KeyFileError: the file exists, or cannot be written.
    """
    public = public_part(key)
    lines = [f"# {line}" for line in comment.splitlines()]
    if public is not None and public is not key:
        lines.append(f"# public: {format_key(public)}")
    lines.append(format_key(key))
    try:
        # O_EXCL: a key that is overwritten is lost, and with it every bundle that it opens.
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600 if is_secret(key) else 0o644)
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else "it cannot be opened"
        raise KeyFileError(f"cannot write key file '{path}': {reason}", hint="choose another name") from None
    try:
        with os.fdopen(fd, "w", encoding="ascii") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(fd)
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        raise KeyFileError(f"cannot write key file '{path}': {error.strerror}") from None

"""Reads arrays from npz and npy content of a bundle: no pickle, no claim believed before it is compared with the size.

`numpy.load` allocates what a header claims. Here the claimed shape must fill the member exactly, and the members are
counted against a quota before any is unpacked.
"""

from __future__ import annotations

import io
import math
import re
import zipfile
import zlib
from typing import TYPE_CHECKING, Any, Final

from sdkpack.errors import PayloadError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MAX_ARRAYS", "MAX_BYTES", "read_npy", "read_npz"]

MAX_BYTES: Final = 1 << 30
"""Unpacked; recorded inputs and outputs are a few MiB, and a deflate bomb grows a thousandfold."""

MAX_ARRAYS: Final = 4096
"""Far above any model's tensors; bounds the objects that a central directory can make."""

_MAGIC: Final = b"\x93NUMPY"
_MAX_HEADER_BYTES: Final = 4096
# The one form that numpy writes. numpy.lib.format reads any Python literal here, and fails on hostile ones with
# whatever its parser and tokenizer raise.
_HEADER: Final = re.compile(
    r"\{'descr': '(?P<descr>[<>|=]?[A-Za-z][0-9]{0,9})', 'fortran_order': (?P<fortran>True|False), "
    r"'shape': \((?P<shape>(?:[0-9]{1,18}(?:, [0-9]{1,18}){0,63},?)?)\), \}"
)


def read_npz(content: bytes, *, where: str, max_bytes: int = MAX_BYTES) -> dict[str, NDArray[Any]]:
    """Arrays by name.

    Raises:
        PayloadError: it is no npz, holds objects, has a name twice, or is larger than `max_bytes` unpacked.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            names = [member.filename.removesuffix(".npy") for member in members]
            if len(members) > MAX_ARRAYS or len(set(names)) != len(names):
                raise PayloadError(f"{where}: not an npz of at most {MAX_ARRAYS} arrays with a name each")
            if sum(member.file_size for member in members) > max_bytes:
                raise PayloadError(f"{where}: more than {max_bytes} bytes unpacked")
            return {
                name: read_npy(archive.read(member), where=f"{where}: {name}")
                for name, member in zip(names, members, strict=True)
            }
    # NotImplementedError, RuntimeError: compression methods and passwords that zipfile lacks.
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise PayloadError(f"{where}: not an npz: {error}") from error


def read_npy(content: bytes, *, where: str) -> NDArray[Any]:
    """One array, of versions 1.0 and 2.0 of the format, with one element type.

    Raises:
        PayloadError: it is no npy, holds objects, or its size is not what its header says.
    """
    import numpy as np

    text, start = _header(content, where)
    match = _HEADER.fullmatch(text)
    if match is None:
        raise PayloadError(f"{where}: not an npy header that numpy writes for a plain array")
    if match["descr"].endswith("O"):
        raise PayloadError(f"{where}: holds Python objects, which are never unpickled")
    try:
        dtype = np.dtype(match["descr"])
    except TypeError as error:
        raise PayloadError(f"{where}: no element type {match['descr']!r}") from error
    shape = tuple(int(size) for size in match["shape"].replace(" ", "").split(",") if size)
    body = memoryview(content)[start:]
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(body):
        raise PayloadError(f"{where}: {len(body)} bytes, expected {dtype} of shape {list(shape)}")
    if not body:
        return np.zeros(shape, dtype)
    return np.frombuffer(body, dtype).reshape(shape, order="F" if match["fortran"] == "True" else "C")


def _header(content: bytes, where: str) -> tuple[str, int]:
    """The header's text, and where the data begins."""
    width = {b"\x01\x00": 2, b"\x02\x00": 4}.get(content[6:8], 0)
    if not content.startswith(_MAGIC) or not width:
        raise PayloadError(f"{where}: not an npy of version 1.0 or 2.0")
    start = 8 + width + int.from_bytes(content[8 : 8 + width], "little")
    raw = content[8 + width : start]
    if len(content) < start or len(raw) > _MAX_HEADER_BYTES:
        raise PayloadError(f"{where}: not an npy: its header is cut off or too long")
    return raw.decode("latin-1").rstrip(), start

"""Reads arrays from npz and npy content of a bundle: no pickle, no claim believed before it is compared with the size.

`numpy.load` allocates what a header claims. Here the claimed shape must fill the member exactly, and the members are
counted against a quota before any is unpacked.
"""

from __future__ import annotations

import io
import math
import zipfile
from typing import TYPE_CHECKING, Any, Final

from sdkpack.errors import PayloadError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MAX_ARRAYS", "MAX_BYTES", "read_npy", "read_npz"]

MAX_BYTES: Final = 1 << 30
"""Unpacked; recorded inputs and outputs are a few MiB, and a deflate bomb grows a thousandfold."""

MAX_ARRAYS: Final = 4096
"""Far above any model's tensors; bounds the objects that a central directory can make."""


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
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise PayloadError(f"{where}: not an npz: {error}") from error


def read_npy(content: bytes, *, where: str) -> NDArray[Any]:
    """One array.

    Raises:
        PayloadError: it is no npy, holds objects, or its size is not what its header says.
    """
    import numpy as np

    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        if version not in {(1, 0), (2, 0)}:
            raise PayloadError(f"{where}: npy version {version[0]}.{version[1]}, expected 1.0 or 2.0")
        shape, fortran, dtype = read(stream)
    except (ValueError, EOFError, SyntaxError, TypeError) as error:
        raise PayloadError(f"{where}: not an npy: {error}") from error
    if dtype.hasobject:
        raise PayloadError(f"{where}: holds Python objects, which are never unpickled")
    body = memoryview(content)[stream.tell() :]
    if math.prod(shape) * dtype.itemsize != len(body):
        raise PayloadError(f"{where}: {len(body)} bytes, expected {dtype} of shape {list(shape)}")
    if dtype.itemsize == 0:
        return np.zeros(shape, dtype)
    array = np.frombuffer(body, dtype)
    return array.reshape(shape, order="F" if fortran else "C")

"""Named arrays as .npz files whose bytes depend on nothing but the arrays.

NumPy's own writer stamps the time of day into each member. Object arrays would be pickled, so they are refused, and
strings stand as a fixed-width unicode array.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from sdkpack.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["read_npz", "write_npz"]

# The earliest date that ZIP can hold.
_DATE: Final = (1980, 1, 1, 0, 0, 0)
_MODE: Final = 0o644 << 16


def write_npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The file's bytes, members in the order of their names, stored without compression.

    Raises:
        ModelError: an array holds objects other than strings.
    """
    import numpy as np

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            member = zipfile.ZipInfo(f"{name}.npy", date_time=_DATE)
            member.external_attr = _MODE
            member.create_system = 3
            content = io.BytesIO()
            array = np.ascontiguousarray(_plain(name, arrays[name])).reshape(arrays[name].shape)
            np.lib.format.write_array(content, array, version=(1, 0), allow_pickle=False)
            archive.writestr(member, content.getvalue())
    return buffer.getvalue()


def read_npz(data: bytes) -> dict[str, NDArray[Any]]:
    """The arrays by name; never unpickles."""
    import numpy as np

    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _plain(name: str, array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind != "O":
        return array
    if not all(isinstance(item, str) for item in array.ravel()):
        raise ModelError(f"tensor {name!r} holds objects other than strings, so it cannot be recorded")
    return array.astype(str)

"""Reads a caffemodel: the blobs of each layer, by the layer's name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sdkpack.errors import ModelError
from sdkpack_caffe.schema import weights_class

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Blob", "read_caffemodel"]

_HDF5: Final = b"\x89HDF\r\n\x1a\n"
_MAX_BYTES: Final = (1 << 31) - 1
"""A protocol buffer message cannot be larger."""
_FLOAT16: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """One array of weights, float32."""

    values: NDArray[Any]
    legacy: bool = False
    """Of the time when every blob had four dimensions: leading ones may be dropped."""

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether it can serve as a parameter of `shape`."""
        own = self.values.shape
        if own == shape or (self.values.size == 1 and math.prod(shape) == 1):
            return True
        if not self.legacy or len(shape) > len(own):
            return False
        lead = len(own) - len(shape)
        return own[lead:] == shape and all(dim == 1 for dim in own[:lead])


def read_caffemodel(path: Path) -> Mapping[str, tuple[Blob, ...]]:
    """The blobs by layer name; layers without blobs are left out.

    Raises:
        ModelError: no caffemodel, truncated, HDF5, or a blob without the values that its shape promises.
    """
    from google.protobuf.message import DecodeError

    if path.stat().st_size > _MAX_BYTES:
        raise ModelError(f"the caffemodel has {path.stat().st_size} bytes, at most {_MAX_BYTES} are read",
                         where=path.name)  # fmt: skip
    content = path.read_bytes()
    if content.startswith(_HDF5):
        raise ModelError("the weights are in HDF5, the format .caffemodel.h5",
                         hint="save them with Caffe as a binary caffemodel", where=path.name)  # fmt: skip
    net = weights_class()()
    try:
        net.ParseFromString(content)
    except DecodeError as error:
        raise ModelError("the caffemodel is damaged, truncated, or of another format",
                         hint="is it the prototxt? else fetch the file again", where=path.name) from error  # fmt: skip
    if not net.layer and not net.layers:
        raise ModelError("the caffemodel has no layers", hint="is it another file, or empty?", where=path.name)
    found: dict[str, tuple[Blob, ...]] = {}
    for layer in (*net.layer, *net.layers):
        name = layer.name
        blobs = layer.blobs
        if not blobs and layer.DESCRIPTOR.name == "V1LayerParameter" and layer.HasField("layer"):
            name, blobs = layer.layer.name, layer.layer.blobs
        if blobs:
            found[name] = tuple(_blob(blob, f"{name!r}, blob {number}", path) for number, blob in enumerate(blobs))
    return found


def _blob(blob: Any, what: str, path: Path) -> Blob:
    import numpy as np

    legacy = any(blob.HasField(name) for name in ("num", "channels", "height", "width"))
    shape = (blob.num, blob.channels, blob.height, blob.width) if legacy else tuple(blob.shape.dim)
    if blob.double_data:
        values = np.array(blob.double_data, dtype=np.float64).astype(np.float32)
    elif blob.data:
        values = np.array(blob.data, dtype=np.float32)
    elif blob.raw:
        values = _raw(blob, what, path)
    else:
        values = np.zeros(0, np.float32)
    if any(dim < 1 for dim in shape) or values.size != math.prod(shape):
        raise ModelError(
            f"layer {what} of the caffemodel has {values.size} values, expected {math.prod(shape)} for its shape "
            f"{list(shape)}",
            hint="its values are missing or stored in a way of a fork; save the model with float weights",
            where=path.name,
        )
    return Blob(values=values.reshape(shape), legacy=legacy)


def _raw(blob: Any, what: str, path: Path) -> NDArray[Any]:
    import numpy as np

    if blob.raw_type != _FLOAT16 or len(blob.raw) % 2:
        raise ModelError(f"layer {what} of the caffemodel holds {len(blob.raw)} raw bytes of type {blob.raw_type}, "
                         f"expected float16 (type {_FLOAT16})", where=path.name)  # fmt: skip
    return np.frombuffer(blob.raw, dtype="<f2").astype(np.float32)

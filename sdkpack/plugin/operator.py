"""Operators: the typed steps of a pipeline that are not models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Protocol, runtime_checkable

from sdkpack.plugin.info import AssetMarker
from sdkpack.types import ValueType

__all__ = ["FileBytes", "FileText", "Lines", "Operator"]

Lines = Annotated[tuple[str, ...], AssetMarker(content="lines")]
"""A parameter that is a list of strings, or the lines of a packed file: labels, an alphabet."""
FileText = Annotated[str, AssetMarker(content="text")]
FileBytes = Annotated[bytes, AssetMarker(content="bytes", media_type="application/octet-stream")]


@runtime_checkable
class Operator(Protocol):
    """One operator with its parameters set. The class is called with its params: `Resize(ResizeParams(width_px=224))`.

    Images are NumPy uint8 arrays, HWC, RGB. Tensors are NumPy arrays. A `quad` is float32 [4, 2], x then y in pixels,
    clockwise from the text's top left. A list is a Python list, a record a dict with str keys.
    """

    def infer(self, inputs: Mapping[str, ValueType]) -> Mapping[str, ValueType]:
        """The types of the outputs for these types of the inputs, by port name.

        Called before anything runs. An operator whose ports say all there is to say returns `{}`; what is not returned
        keeps the port's type.

        Raises:
            ValueError: these inputs cannot work together; the message says why, with got and expected.
        """
        ...

    def run(self, *inputs: Any) -> Any:
        """Computes the outputs from the inputs, both in the order of the ports.

        One output is returned as it is, several as a tuple. Inputs must not be changed. Called from several threads.

        Raises:
            sdkpack.errors.InputError: the input's content cannot be used (a truncated image, say).
        """
        ...

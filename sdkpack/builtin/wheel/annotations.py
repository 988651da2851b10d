"""Python annotations for the types of a pipeline's inputs and outputs."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass, field
from typing import Final

from sdkpack.types import ValueType

__all__ = ["Annotations", "class_name"]

_SIMPLE: Final = {
    "string": "str",
    "int": "int",
    "float": "float",
    "bool": "bool",
    "bytes": "bytes",
    "image": "npt.NDArray[np.uint8]",
    "quad": "npt.NDArray[np.float32]",
}
_NUMPY: Final = frozenset(
    {"float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}
    | {"bool", "complex64", "complex128"}
)


@dataclass(slots=True)
class Annotations:
    """Turns types into annotations and collects the TypedDict classes that they need."""

    classes: dict[str, str] = field(default_factory=dict)

    def of(self, kind: ValueType, name: str, *, as_input: bool = False) -> str:
        """The annotation of a value; `name` is what a record in it would be called after."""
        if as_input and kind.kind.endswith("/encoded"):
            return "bytes | str | os.PathLike[str]"
        if kind.kind == "list" and kind.item is not None:
            return f"list[{self.of(kind.item, _singular(name))}]"
        if kind.kind == "record" and kind.fields:
            return self._record(kind, name)
        if kind.kind == "tensor":
            return f"npt.NDArray[np.{kind.dtype}]" if kind.dtype in _NUMPY else "npt.NDArray[Any]"
        if kind.kind.endswith("/encoded"):
            return "bytes"
        return _SIMPLE.get(kind.kind, "Any")

    def result_class(self, name: str, fields: dict[str, ValueType]) -> str:
        """A TypedDict of the outputs of a pipeline."""
        return self._record(ValueType(kind="record", fields=tuple(fields.items())), name)

    def _record(self, kind: ValueType, name: str) -> str:
        title = class_name(name)
        if any(not key.isidentifier() or keyword.iskeyword(key) for key, _ in kind.fields):
            return "dict[str, Any]"
        body = "\n".join(f"    {key}: {self.of(inner, key)}" for key, inner in kind.fields)
        text = f"class {title}(TypedDict):\n{body}\n"
        if self.classes.get(title, text) != text:
            return self._record(kind, f"{name}_{len(self.classes)}")
        self.classes[title] = text
        return title


def class_name(name: str) -> str:
    """`text_lines` -> `TextLines`."""
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[^0-9A-Za-z]+", name) if part) or "Record"


def _singular(name: str) -> str:
    return name[:-1] if name.endswith("s") and len(name) > 1 else f"{name}_item"

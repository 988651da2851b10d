"""Values that every layer speaks of: digests, media types, tensor specs, value types."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["DTYPES", "SHAPE_SYMBOL", "Digest", "MediaType", "Quantization", "TensorSpec", "ValueType"]

Digest = str
"""`sha256:` and 64 lower-case hex digits."""

MediaType = str
"""As in RFC 6838: `application/vnd.onnx.graph`."""

DTYPES: Final = frozenset(
    {
        "float16", "bfloat16", "float32", "float64", "int4", "int8", "int16", "int32", "int64",
        "uint4", "uint8", "uint16", "uint32", "uint64", "bool", "string", "complex64", "complex128",
        "float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "float8e8m0", "float4e2m1", "int2", "uint2",
    }
)  # fmt: skip
"""Element types, by NumPy's names where NumPy has one, else by ONNX's in lower case."""

SHAPE_SYMBOL: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """How integers stand for real numbers: `real = scale * (integer - zero_point)`, per tensor or along `axis`."""

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """Name, element type and shape of a tensor; a dimension is a size, a symbol, or "?" for any."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    layout: str = ""
    """One letter a dimension, as in `NCHW`; empty where nobody said."""
    quant: Quantization | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.type}"

    @property
    def type(self) -> ValueType:
        """The type of its values. A symbol that type texts cannot hold, such as `floor(H/2)`, counts as any size."""
        shape = tuple(dim if isinstance(dim, int) or SHAPE_SYMBOL.fullmatch(dim) else "?" for dim in self.shape)
        return ValueType(kind="tensor", dtype=self.dtype, shape=shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueType:
    """The type of a value that flows through a pipeline.

    Written as text, the way recipes, manifests and operators write it:

    * a named kind: `image` (uint8 HWC, RGB), `image/encoded` (bytes of a JPEG, PNG, ...), `string`, `int`, `float`,
      `bool`, `bytes`, `quad` (float32 [4, 2], x and y in pixels), `geometry` (how a resized image maps back), `any`;
    * `tensor(float32, [N, 3, H, 640])`; `tensor(float32)` has unknown rank; `?` is a dimension of any size;
    * `list(image)`; `record(score: float, text: string)`.
    """

    kind: str
    dtype: str = ""
    shape: tuple[int | str, ...] | None = None
    item: ValueType | None = None
    fields: tuple[tuple[str, ValueType], ...] = ()
    """Of a record, sorted by name: their order means nothing."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", tuple(sorted(self.fields, key=lambda field: field[0])))

    def __str__(self) -> str:
        if self.kind == "tensor":
            if not self.dtype:
                return "tensor"
            if self.shape is None:
                return f"tensor({self.dtype})"
            return f"tensor({self.dtype}, [{', '.join(str(dim) for dim in self.shape)}])"
        if self.kind == "list":
            return f"list({self.item})"
        if self.kind == "record" and self.fields:
            return f"record({', '.join(f'{name}: {kind}' for name, kind in self.fields)})"
        return self.kind

    @staticmethod
    def parse(text: str) -> ValueType:
        """Reads the text form.

        Raises:
            ValueError: the text is no type; the message says where.
        """
        parser = _TypeParser(text)
        value = parser.value()
        parser.end()
        return value

    @staticmethod
    def list_of(item: ValueType) -> ValueType:
        return ValueType(kind="list", item=item)


_TOKEN: Final = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_./]*|[0-9]+|[()\[\],:?])")
# Deep enough for any real pipeline; a bound because the text may come from an untrusted manifest.
_MAX_DEPTH: Final = 8
_MAX_DIGITS: Final = 18


class _TypeParser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def _peek(self) -> str:
        match = _TOKEN.match(self._text, self._at)
        return match[1] if match else ""

    def _take(self, expected: str = "") -> str:
        match = _TOKEN.match(self._text, self._at)
        if match is None or (expected and match[1] != expected):
            raise ValueError(f"type {self._text!r}: expected {expected or 'a name'!r} at character {self._at + 1}")
        self._at = match.end()
        return match[1]

    def end(self) -> None:
        if self._text[self._at :].strip():
            raise ValueError(f"type {self._text!r}: unexpected text from character {self._at + 1}")

    def value(self) -> ValueType:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ValueError("type nested too deeply")
        name = self._take()
        if not (name[0].isalpha() or name[0] == "_"):
            raise ValueError(f"type {self._text!r}: expected a name, got {name!r}")
        if name == "tensor":
            result = self._tensor()
        elif name == "list":
            self._take("(")
            result = ValueType.list_of(self.value())
            self._take(")")
        elif name == "record":
            result = ValueType(kind="record", fields=self._fields())
        else:
            result = ValueType(kind=name)
        self._depth -= 1
        return result

    def _tensor(self) -> ValueType:
        if self._peek() != "(":
            return ValueType(kind="tensor")
        self._take("(")
        dtype = self._take()
        if dtype not in DTYPES:
            raise ValueError(f"type {self._text!r}: unknown element type {dtype!r}")
        shape: tuple[int | str, ...] | None = None
        if self._peek() == ",":
            self._take(",")
            shape = self._shape()
        self._take(")")
        return ValueType(kind="tensor", dtype=dtype, shape=shape)

    def _shape(self) -> tuple[int | str, ...]:
        self._take("[")
        dims: list[int | str] = []
        while self._peek() != "]":
            if dims:
                self._take(",")
            token = self._take()
            if not (token == "?" or token.isdigit() or SHAPE_SYMBOL.fullmatch(token)):
                raise ValueError(f"type {self._text!r}: {token!r} is no dimension")
            if len(token) > _MAX_DIGITS and token.isdigit():
                raise ValueError(f"type {self._text[:40]!r}...: a dimension has {len(token)} digits")
            dims.append(int(token) if token.isdigit() else token)
        self._take("]")
        return tuple(dims)

    def _fields(self) -> tuple[tuple[str, ValueType], ...]:
        if self._peek() != "(":
            return ()
        self._take("(")
        fields: dict[str, ValueType] = {}
        while self._peek() != ")":
            if fields:
                self._take(",")
            name = self._take()
            self._take(":")
            if name in fields:
                raise ValueError(f"type {self._text!r}: field {name!r} stands twice")
            fields[name] = self.value()
        self._take(")")
        return tuple(sorted(fields.items()))

"""Reads a model file, and says what is wrong with it before a parser gets to see it."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sdkpack.errors import FileError, ModelError
from sdkpack.model.sniff import looks_like
from sdkpack.model.wire import scan

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["MAX_MODEL_BYTES", "LoadedModel", "load_model", "parse_model"]

MAX_MODEL_BYTES: Final = (1 << 31) - 1
"""A protobuf message cannot be larger; weights beyond it stand in external data."""

_GRAPH_FIELD: Final = 7
_TOO_LARGE: Final = "save it with onnx.save(model, path, save_as_external_data=True)"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A parsed model and where it came from. External data is not read, and its locations are not yet checked."""

    proto: ModelProto
    name: str
    """For messages: the path, or what the caller calls it."""
    folder: Path | None
    """Where external data must stand; None for a model from bytes."""
    size_bytes: int


def load_model(path: str | os.PathLike[str]) -> LoadedModel:
    """Reads the ONNX model at `path`.

    Peak memory is twice the file: its bytes and the parsed message.

    Raises:
        FileError: there is no readable regular file.
        ModelError: the file is no ONNX model, damaged, too large, or of a version that is not supported.
    """
    path = Path(path)
    try:
        # O_NONBLOCK: a fifo in a model's place must not hang the build.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise FileError(f"cannot read the model: {reason}", where=str(path), hint="check the path") from None
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise FileError("the model is not a regular file", where=str(path), hint="give the path of a .onnx file")
    with os.fdopen(fd, "rb") as file:
        if status.st_size > MAX_MODEL_BYTES:
            head = looks_like(file.read(512))
            _refuse_size(status.st_size, str(path), head)
        data = file.read(MAX_MODEL_BYTES + 1)
    return parse_model(data, name=str(path), folder=path.parent)


def parse_model(data: bytes, *, name: str = "model", folder: Path | None = None) -> LoadedModel:
    """The same for a model in memory.

    Args:
        data: the whole file.
        name: what to call it in messages.
        folder: where its external data may stand; None refuses external data when it is resolved.

    Raises:
        ModelError: as `load_model`.
    """
    if len(data) > MAX_MODEL_BYTES:
        _refuse_size(len(data), name, looks_like(data[:512]))
    _pre_check(data, name)
    from google.protobuf.message import DecodeError
    from onnx import ModelProto

    proto = ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError:
        raise ModelError(
            "damaged ONNX model: a field cannot be decoded",
            where=name,
            hint="copy or download the file again and compare its size with the source's",
        ) from None
    _check_text(proto, name)
    _check_versions(proto, name)
    return LoadedModel(proto=proto, name=name, folder=folder, size_bytes=len(data))


def _pre_check(data: bytes, name: str) -> None:
    seen = looks_like(data[:512])
    try:
        fields = scan(data)
    except ModelError as error:
        if seen is not None:
            raise ModelError(f"not an ONNX model: it looks like {seen[0]}", where=name, hint=seen[1]) from None
        raise ModelError(f"not an ONNX model, or damaged: {error.message}", where=name, hint=error.hint) from None
    if _GRAPH_FIELD not in fields:
        what, hint = seen or ("data of another kind", "export the model to ONNX")
        raise ModelError(f"not an ONNX model: it looks like {what}", where=name, hint=hint)


def _check_text(proto: ModelProto, name: str) -> None:
    """Refuses names that are not UTF-8.

    Protobuf's Python library hands such a string out as `bytes`, which no code that reads models expects: a name that
    is compared, sorted or printed would fail far from its cause, or not be equal to itself.
    """
    from google.protobuf.descriptor import FieldDescriptor

    stack: list[Any] = [proto]
    while stack:
        message = stack.pop()
        if message.DESCRIPTOR.name == "TensorProto":  # its other fields are data, and listing them would copy them
            texts: list[Any] = [message.name, message.doc_string]
            stack += [*message.external_data, *message.metadata_props]
        else:
            texts = []
            for field, value in message.ListFields():
                if field.message_type is not None:
                    stack += [value] if hasattr(value, "ListFields") else value
                elif field.type == FieldDescriptor.TYPE_STRING:
                    texts += [value] if isinstance(value, str | bytes) else value
        for text in texts:
            if isinstance(text, bytes):
                raise ModelError(
                    f"damaged ONNX model: text that is not UTF-8 in a {message.DESCRIPTOR.name}: {text[:60]!r}",
                    where=name,
                    hint="copy or download the file again and compare its size with the source's",
                )


def _check_versions(proto: ModelProto, name: str) -> None:
    import onnx

    if proto.ir_version < 3:
        raise ModelError(
            f"IR version {proto.ir_version} is not supported, expected 3 to {onnx.IR_VERSION}",
            where=name,
            hint="convert it with onnx.version_converter, or export the model again",
        )
    if proto.ir_version > onnx.IR_VERSION:
        raise ModelError(
            f"IR version {proto.ir_version} is newer than the newest supported, {onnx.IR_VERSION} "
            f"(onnx {onnx.__version__})",
            where=name,
            hint="export with an older IR version, or upgrade onnx",
        )
    _check_opsets(proto, name)


def _check_opsets(proto: ModelProto, name: str) -> None:
    import onnx

    newest = {"": onnx.defs.onnx_opset_version(), "ai.onnx.ml": onnx.defs.onnx_ml_opset_version()}
    seen: set[str] = set()
    for entry in proto.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        shown = domain or "ai.onnx"
        if domain in seen:
            raise ModelError(f"opset import of domain {shown!r} stands twice", where=name)
        seen.add(domain)
        limit = newest.get(domain)
        if entry.version < 1 or (limit is not None and entry.version > limit):
            raise ModelError(
                f"opset {entry.version} of domain {shown!r} is not supported, expected 1 to {limit or 'any'} "
                f"(onnx {onnx.__version__})",
                where=name,
                hint=f"export the model with opset {limit}, or upgrade onnx" if limit else "export the model again",
            )
    used = {"" if node.domain == "ai.onnx" else node.domain for node in proto.graph.node}
    for domain in sorted(used - seen):
        raise ModelError(
            f"no opset import for domain {domain or 'ai.onnx'!r}, whose operators the graph uses",
            where=name,
            hint="set model.opset_import, or export the model again",
        )


def _refuse_size(size_bytes: int, name: str, seen: tuple[str, str] | None) -> None:
    if seen is not None:
        raise ModelError(f"not an ONNX model: it looks like {seen[0]}", where=name, hint=seen[1])
    raise ModelError(
        f"the model file is too large for protobuf, got {size_bytes} bytes, expected at most {MAX_MODEL_BYTES}",
        where=name,
        hint=_TOO_LARGE,
    )

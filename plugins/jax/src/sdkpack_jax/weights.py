"""Weights: npz or safetensors, as a tree of dicts and lists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from sdkpack.errors import ModelError

__all__ = ["read_weights"]

_DTYPES: Final = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
_HEADER_BYTES: Final = 100 << 20


def read_weights(path: Path) -> Any:
    """`dense/0/w` stands in the first element of the list `dense`, under `w`: `/` or `.` part names, and where all
    names at a place are 0, 1, 2... it is a list.

    Raises:
        ModelError: it is neither format, or damaged.
    """
    with path.open("rb") as file:
        head = file.read(4)
    try:
        flat = _npz(path) if head.startswith(b"PK") else _safetensors(path)
    except (ValueError, KeyError, TypeError, OSError, EOFError) as error:
        raise ModelError(
            f"{path.name!r} holds no weights that can be read: {error}",
            hint="save them by numpy.savez(path, **{'dense/w': array}) or by safetensors",
        ) from error
    tree: dict[str, Any] = {}
    for name, array in sorted(flat.items()):
        place = tree
        *outer, last = name.replace(".", "/").split("/")
        for part in outer:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ModelError(f"{path.name!r} has weights both at and below {part!r}", hint="rename one of them")
        place[last] = array
    return _listed(tree)


def _listed(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    found = {name: _listed(value) for name, value in tree.items()}
    if found and set(found) == {str(number) for number in range(len(found))}:
        return [found[str(number)] for number in range(len(found))]
    return found


def _npz(path: Path) -> dict[str, Any]:
    import numpy as np

    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _safetensors(path: Path) -> dict[str, Any]:
    """https://github.com/huggingface/safetensors#format: a length, a JSON header of names, the arrays."""
    import ml_dtypes
    import numpy as np

    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(len(content) - 8, _HEADER_BYTES):
        raise ValueError("neither npz nor safetensors")
    header, start, found = json.loads(content[8 : 8 + length]), 8 + length, {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        first, end = entry["data_offsets"]
        word = _DTYPES[entry["dtype"]]
        dtype = np.dtype(ml_dtypes.bfloat16 if word == "bfloat16" else word)
        if not 0 <= first <= end <= len(content) - start:
            raise ValueError(f"{name!r} lies outside of the file")
        found[name] = np.frombuffer(content[start + first : start + end], dtype).reshape(entry["shape"])
    return found

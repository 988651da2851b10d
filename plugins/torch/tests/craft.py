"""Files that run code when torch reads them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."


def payload(code: str) -> bytes:
    """A pickle, protocol 2, that calls `builtins.exec`; written by hand, since pickling is banned here."""
    data = code.encode()
    return b"\x80\x02cbuiltins\nexec\nX" + len(data).to_bytes(4, "little") + data + b"\x85R."


def rewritten(source: Path, target: Path, change: Callable[[str, bytes], bytes | None], **more: bytes) -> Path:
    """A copy of an archive with members changed, left out (None) or added."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        root = old.namelist()[0].partition("/")[0]
        for info in old.infolist():
            data = change(info.filename.partition("/")[2], old.read(info))
            if data is not None:
                new.writestr(info.filename, data)
        for name, data in more.items():
            new.writestr(f"{root}/{name}", data)
    return target


def edited(source: Path, target: Path, edit: Callable[[Any], None]) -> Path:
    """A copy of a .pt2 with its program edited."""

    def change(name: str, data: bytes) -> bytes:
        if name != "models/model.json":
            return data
        program = json.loads(data)
        edit(program)
        return json.dumps(program).encode()

    return rewritten(source, target, change)


def pickled_member(source: Path, target: Path, name: str, code: str) -> Path:
    """A copy with one member, wherever it is a file of torch.save, replaced by one that runs code."""
    inner = target.with_suffix(".inner")
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("archive/data.pkl", payload(code))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    content = inner.read_bytes()
    inner.unlink()
    return rewritten(source, target, lambda own, data: None if own == name else data, **{name: content})


def saved(target: Path, code: str) -> Path:
    """What torch.save writes, with code in it."""
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("archive/data.pkl", payload(code))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return target


def saved_before(target: Path, code: str) -> Path:
    """What torch.save wrote before 1.6."""
    target.write_bytes(LEGACY + b"\x80\x02M\xe9\x03." + payload(code))
    return target

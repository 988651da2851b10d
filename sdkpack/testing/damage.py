"""Damaged sources: cut, changed, emptied, of other formats. A converter may answer with a model or a stated error."""

from __future__ import annotations

import dataclasses
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sdkpack.errors import ModelError, SdkpackError, StepError
from sdkpack.plugin.converter import ConvertRequest
from sdkpack.testing.bench import PlainContext

__all__ = ["FOREIGN", "Damage", "damages", "tried", "try_all"]

FOREIGN: Final[dict[str, bytes]] = {
    "an empty file": b"",
    "a picture": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(17),
    "a program": b"\x7fELF\x02\x01\x01" + bytes(57),
    "an archive": b"PK\x05\x06" + bytes(18),
    "a text": b"Dear customer,\n\nplease find attached.\n",
    "zeros": bytes(512),
}
"""What is no model of any format."""

_MOST_MEMBERS: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One damaged source."""

    what: str
    request: ConvertRequest
    hopeless: bool
    """No model is left in it: converting it is no answer."""
    folder: Path
    """Holds nothing else."""


def try_all(tool: Any, request: ConvertRequest, folder: Path, *, flips: int) -> Iterator[tuple[str, str]]:
    """Tries every damage, one after the other; large sources are many copies, of which one is there at a time.

    Args:
        tool: a converter.
        request: a valid one.
        folder: a new one.
        flips: as `damages`.

    Yields:
        What is about to be tried and "", then the same and what is wrong about the answer, "" where nothing is.
    """
    for number, damage in enumerate(damages(request, folder / "sources", flips=flips)):
        yield damage.what, ""
        work = folder / f"job-{number}"
        told = tried(tool, damage.request, work)
        if told["outcome"] == "wrong":
            yield damage.what, told["text"]
        elif damage.hopeless and told["outcome"] == "converted":
            yield damage.what, "it was converted, and there is no model in it"
        for done in (damage.folder, work):
            shutil.rmtree(done, ignore_errors=True)


def damages(request: ConvertRequest, folder: Path, *, flips: int) -> Iterator[Damage]:
    """Damaged copies of what a valid request names, made in `folder` one at a time.

    Args:
        request: a valid one.
        folder: where they go; each in a folder of its own, which may be taken away before the next is made.
        flips: how many bits are changed in each file, one a copy.
    """
    for what, content in FOREIGN.items():
        yield from _foreign(request, folder / what.replace(" ", "-"), what, content)
    for role, path in (("", request.source), *request.files.items()):
        for member in _members(path):
            content = (path / member if member else path).read_bytes()
            for number, (what, damaged) in enumerate(_changes(content, flips)):
                target = folder / f"{role or 'source'}-{member.replace('/', '-')}-{number}"
                other = _copied(request, role, member, damaged, target)
                name = "/".join(part for part in (path.name, member) if part)
                yield Damage(what=f"{name} {what}", request=other, hopeless=False, folder=target)


def tried(tool: Any, request: ConvertRequest, folder: Path) -> dict[str, str]:
    """What a converter makes of a source: `converted`, `refused`, or `wrong` with the reason."""
    from sdkpack.model.facts import describe
    from sdkpack.model.load import load_model

    (folder / "work").mkdir(parents=True)
    try:
        result = tool.convert(request, PlainContext(folder / "work"))
        if request.writes == "application/vnd.onnx":
            describe(load_model(result.model))
    except (ModelError, StepError) as error:
        if "Traceback" in str(error) or not error.message.strip():
            return {"outcome": "wrong", "text": f"the error says {str(error)!r}"}
        return {"outcome": "refused", "text": error.message}
    except SdkpackError as error:
        return {"outcome": "wrong", "text": str(error)}
    except Exception as error:
        return {"outcome": "wrong", "text": f"{type(error).__name__}: {error}"}
    return {"outcome": "converted", "text": ""}


def _foreign(request: ConvertRequest, folder: Path, what: str, content: bytes) -> Iterator[Damage]:
    folder.mkdir(parents=True)
    source = folder / request.source.name
    if request.source.is_dir():
        # A folder with nothing of the format in it.
        source.mkdir()
        (source / "unknown").write_bytes(content)
    else:
        source.write_bytes(content)
    yield Damage(what=what, request=dataclasses.replace(request, source=source), hopeless=True, folder=folder)


def _members(path: Path) -> list[str]:
    """The files of a folder, or the file itself as an empty name."""
    if path.is_file():
        return [""]
    return [str(one.relative_to(path)) for one in sorted(path.rglob("*")) if one.is_file()][:_MOST_MEMBERS]


def _changes(content: bytes, flips: int) -> Iterator[tuple[str, bytes]]:
    size = len(content)
    for length in sorted({size // 4, size // 2, max(size - 1, 0)}):
        yield f"cut to {length} of {size} bytes", content[:length]
    choose = random.Random(size)  # noqa: S311 - the same damage each time
    for number in range(flips if size else 0):
        # Headers are where structure is: half of the changes go into the first 64 bytes.
        place = choose.randrange(min(size, 64) if number % 2 else size)
        bit = choose.randrange(8)
        damaged = bytearray(content)
        damaged[place] ^= 1 << bit
        yield f"with bit {bit} of byte {place} changed", bytes(damaged)


def _copied(request: ConvertRequest, role: str, member: str, content: bytes, folder: Path) -> ConvertRequest:
    path = request.files[role] if role else request.source
    folder.mkdir(parents=True)
    other = folder / path.name
    if member:
        shutil.copytree(path, other)
        (other / member).write_bytes(content)
    else:
        other.write_bytes(content)
    if role:
        return dataclasses.replace(request, files={**request.files, role: other})
    return dataclasses.replace(request, source=other)

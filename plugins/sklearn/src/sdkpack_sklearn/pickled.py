"""Pickles, joblib's among them: programs that make a model. They run only where the author allows it."""

from __future__ import annotations

import bz2
import gzip
import lzma
import pickletools
import zlib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from sdkpack.errors import ModelError
from sdkpack.plugin import (
    ConvertRequest,
    ConvertResult,
    EvaluateRequest,
    EvaluateResult,
    Probe,
    SniffRequest,
    SniffResult,
    StepContext,
)
from sdkpack_sklearn.model import Loaded, convert_model, evaluate_model, params_of
from sdkpack_sklearn.nesting import unwrapped
from sdkpack_sklearn.versions import checked_version, watched

__all__ = ["PickleConverter", "imports_of"]

_SCAN_BYTES: Final = 64 << 20
_SHOWN: Final = 8
_LIBRARIES: Final = ("sklearn", "xgboost", "lightgbm")
_HARMLESS: Final = frozenset({*_LIBRARIES, "numpy", "joblib", "scipy"})
"""What every such file names; not worth telling."""


class PickleConverter:
    """A pickled model to ONNX."""

    def probe(self) -> Probe:
        names = ("scikit-learn", "skl2onnx", "xgboost-cpu", "lightgbm", "joblib", "numpy", "onnx")
        return Probe(ok=True, fingerprint=", ".join(f"{name} {version(name)}" for name in names))

    def sniff(self, request: SniffRequest) -> SniffResult:
        """Reads names; nothing is unpickled."""
        found = {name.partition(".")[0] for name in imports_of(request.source)}
        known = sorted(found & set(_LIBRARIES))
        if known:
            return SniffResult(score=0.9, reason=f"a pickle of {', '.join(known)}")
        named = request.source.suffix.lower() == ".joblib"
        return SniffResult(score=0.4 if named else 0.1, reason="a pickle" if found else "")

    def convert(self, request: ConvertRequest, context: StepContext) -> ConvertResult:
        context.progress(0.1, f"loading {request.source.name}")
        return convert_model(_load(request), request, context)

    def evaluate(self, request: EvaluateRequest, context: StepContext) -> EvaluateResult:
        """Runs scikit-learn on each sample."""
        return evaluate_model(_load(request.conversion), request, context)


def _load(request: ConvertRequest) -> Loaded:
    """
    Raises:
        ModelError: the author does not allow it, or it fails.
    """
    if not request.allow_code:
        raise ModelError(_what_would_run(request.source), hint=_how_to_allow(request))
    import joblib

    with watched() as versions:
        try:
            model = joblib.load(request.source)
        # What a pickle raises is the choice of whoever wrote it; an exit too.
        except (Exception, SystemExit) as error:
            raise ModelError(
                f"{request.source.name!r} cannot be unpickled: {type(error).__name__}: {str(error)[:300]}",
                hint=f"this environment holds {_held()} and no code of your own; "
                "save the model with these versions, or with skops",
            ) from error
    notes = checked_version(versions, params_of(request), request)
    return Loaded(model=unwrapped(model), notes=notes)


def _held() -> str:
    return ", ".join(f"{name} {version(name)}" for name in ("scikit-learn", "xgboost-cpu", "lightgbm", "numpy"))


def _what_would_run(source: Path) -> str:
    names = [name for name in imports_of(source) if name.partition(".")[0] not in _HARMLESS]
    if not names:
        return f"{source.name!r} is a pickle: loading it runs what it says"
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    return f"{source.name!r} is a pickle: loading it runs what it says, and it names {shown}"


def _how_to_allow(request: ConvertRequest) -> str:
    return (
        f"if you trust its origin: models.{request.name}.convert.allow_code = true in the recipe, --allow-code on the "
        "command line; a model saved by skops, or in XGBoost's or LightGBM's own format, needs no such trust"
    )


def imports_of(source: Path) -> list[str]:
    """What a pickle names for import, as far as it can be read without running it: `module.name`, in its order.

    joblib writes arrays between the opcodes, where this reading ends; so what is missing may still be there.
    """
    strings: list[str] = []
    memo: list[str] = []
    found: dict[str, None] = {}
    try:
        for opcode, argument, _ in pickletools.genops(_content(source)):
            if opcode.name == "GLOBAL":
                found[str(argument).replace(" ", ".")] = None
            elif opcode.name == "STACK_GLOBAL" and len(strings) >= 2:
                found[f"{strings[-2]}.{strings[-1]}"] = None
            elif "UNICODE" in opcode.name:
                strings.append(str(argument))
            elif opcode.name == "MEMOIZE":
                # Only names matter, and a name is memoised right after it was read; the rest keeps the count.
                memo.append(strings[-1] if strings else "")
            elif opcode.name in ("BINGET", "LONG_BINGET") and isinstance(argument, int) and argument < len(memo):
                strings.append(memo[argument])
    except (ValueError, EOFError, IndexError, OSError, zlib.error, lzma.LZMAError, UnicodeDecodeError):
        pass
    return list(found)


def _content(source: Path) -> Any:
    """The first bytes of the pickle, unpacked where joblib packed it."""
    with source.open("rb") as file:
        head = file.read(6)
    openers: Iterator[tuple[bytes, Any]] = iter(
        ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ", lzma.open), (b"]\0", lzma.open))
    )
    for magic, opener in openers:
        if head.startswith(magic):
            with opener(source, "rb") as packed:
                return packed.read(_SCAN_BYTES)
    with source.open("rb") as file:
        content = file.read(_SCAN_BYTES)
    return zlib.decompressobj().decompress(content, _SCAN_BYTES) if head[:1] == b"x" else content

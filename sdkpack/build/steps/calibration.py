"""Samples of a model: real inputs that a compiler calibrates with. They never enter a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sdkpack.build.digests import PREFIX, FileStamp
from sdkpack.build.sources import SourceFile
from sdkpack.errors import FileError, InputError, SdkpackError
from sdkpack.types import TensorSpec

__all__ = ["ModelSample", "lay_out"]

ModelSample = tuple[SourceFile, FileStamp]

_LARGEST_BYTES: Final = 1 << 30


def lay_out(samples: Sequence[ModelSample], inputs: Sequence[TensorSpec], folder: Path) -> tuple[Path, ...]:
    """Copies of the samples, named by their digests.

    Raises:
        InputError: a sample has no array, or a wrong one, for an input.
    """
    return tuple(_copy(source, stamp, inputs, folder) for source, stamp in samples)


def _copy(source: SourceFile, stamp: FileStamp, inputs: Sequence[TensorSpec], folder: Path) -> Path:
    from sdkpack.session.npz import read_npz
    from sdkpack.session.tensors import check_inputs

    if stamp.size_bytes > _LARGEST_BYTES:
        raise FileError(f"sample {source.reference!r} is larger than {_LARGEST_BYTES >> 20} MiB")
    content = source.path.read_bytes()
    stamp.check_unchanged(source.path)
    try:
        check_inputs(inputs, read_npz(content, where=source.reference), what="the model")
    except SdkpackError as error:
        raise InputError(
            f"sample {source.reference!r} is none for this model: {error.message}",
            hint="write it with numpy.savez(path, INPUT=array, ...)",
            problems=error.problems,
        ) from error
    path = folder / f"{stamp.digest.removeprefix(PREFIX)}.npz"
    path.write_bytes(content)
    return path

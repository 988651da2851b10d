"""Samples in, answers out: npz files without objects."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from sdkpack.errors import ModelError
from sdkpack.plugin import EvaluateRequest, StepContext

__all__ = ["evaluated"]


def evaluated(
    request: EvaluateRequest,
    context: StepContext,
    run: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    wanted: Collection[str],
) -> tuple[Path, ...]:
    """Runs every sample and writes those answers that are `wanted`.

    Raises:
        ModelError: the source does not take a sample.
    """
    import numpy as np

    paths = []
    for number, sample in enumerate(request.samples):
        context.progress(number / len(request.samples), f"sample {number + 1} of {len(request.samples)}")
        with np.load(sample, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        try:
            answers = run(arrays)
        except KeyError as error:
            raise ModelError(f"sample {sample.name!r} lacks the input {error}") from error
        except (ValueError, TypeError) as error:
            raise ModelError(
                f"the source does not take the sample {sample.name!r}: {_first_line(error)}",
                hint="compare with inputs of your own: --sample FILE.npz, samples in the recipe",
            ) from error
        path = context.work / f"answer-{number}.npz"
        np.savez(path, **{name: array for name, array in answers.items() if name in wanted})
        paths.append(path)
    return tuple(paths)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__

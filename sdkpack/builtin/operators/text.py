"""Operators that read text off a recogniser's output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sdkpack.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from sdkpack.builtin.operators.params import CtcGreedyParams
    from sdkpack.types import ValueType

__all__ = ["CtcGreedy"]


class CtcGreedy:
    """Reads text off the best path: the best class at each position, repeats joined, blanks dropped.

    `scores` is [1, positions, classes]; the classes are the blank and the alphabet, then a space where `add_space`
    says so. The text's score is the mean score of the positions that gave a character, 0 for an empty text. Source:
    Graves et al., Connectionist Temporal Classification, ICML 2006, section 3.2.
    """

    def __init__(self, params: CtcGreedyParams) -> None:
        characters = (*params.alphabet, " ") if params.add_space else params.alphabet
        first = params.blank == "first"
        self._characters = ("", *characters) if first else (*characters, "")
        self._blank = 0 if first else len(characters)

    def infer(self, inputs: Mapping[str, ValueType]) -> Mapping[str, ValueType]:
        shape = inputs["scores"].shape if "scores" in inputs else None
        if shape and isinstance(shape[-1], int) and shape[-1] != len(self._characters):
            raise ValueError(self._wrong_count(shape[-1]))
        return {}

    def run(self, scores: NDArray[Any]) -> tuple[str, float]:
        import numpy as np

        if scores.ndim != 3 or scores.shape[0] != 1:
            raise InputError(f"expected the scores of one text, [1, positions, classes], got {list(scores.shape)}")
        if scores.shape[2] != len(self._characters):
            raise InputError(self._wrong_count(scores.shape[2]))
        path = scores[0].argmax(axis=1)
        chosen = path != self._blank
        chosen[1:] &= path[1:] != path[:-1]
        places = np.flatnonzero(chosen)
        if not len(places):
            return "", 0.0
        text = "".join(self._characters[index] for index in path[places].tolist())
        return text, float(scores[0, places, path[places]].mean(dtype=np.float64))

    def _wrong_count(self, got: int) -> str:
        return f"expected {len(self._characters)} classes (blank and alphabet), got {got}: set add_space or alphabet"

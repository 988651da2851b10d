"""What became of one case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

__all__ = ["OUTCOMES", "Outcome"]

OUTCOMES: Final[Mapping[str, str]] = {
    "pass": "every output is as the suite says",
    "unsupported": "the compiler refused the model, and said so",
    "wrong value": "it ran, and an output is another one",
    "error": "it crashed, hung, or failed after the compiler had accepted the model",
    "out of window": "it failed, and the case is of an opset that the runtime does not claim",
    "adaptor gap": "sdkpack itself cannot express the case: sequences, optionals, maps",
    "environment": "the case or the runtime could not be tried here at all",
}
"""Every class that a case can fall into; there is no other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One case and its class."""

    case: str
    result: str
    operators: tuple[str, ...]
    """Operators of the case's model, `Conv`, `ai.onnx.ml.Scaler`; a function's body where it was expanded."""
    opset: int
    reason: str = ""

    def __post_init__(self) -> None:
        if self.result not in OUTCOMES:
            raise ValueError(f"no such class: {self.result!r}")

    @property
    def operator(self) -> str:
        """The operator that the case is about; empty where it is about several."""
        return self.operators[0] if len(self.operators) == 1 else ""

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "operators": list(self.operators)}

    @staticmethod
    def of_json(facts: Mapping[str, Any]) -> Outcome:
        return Outcome(**{**facts, "operators": tuple(facts["operators"])})

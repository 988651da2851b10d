"""Trust: which publishers a user believes, and how new a bundle must be."""

from __future__ import annotations

from datetime import date
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from sdkpack.documents.base import Document, Part
from sdkpack.documents.findings import several
from sdkpack.documents.manifest import BundleName
from sdkpack.errors import Problem

__all__ = ["Trust", "TrustedKey"]


class TrustedKey(Part):
    """A publisher's public key, and when it is valid."""

    key: str
    """The public key in key-file text form, or the name of a key file beside this document."""
    name: str | None = None
    not_before: date | None = None
    """The first day on which it counts."""
    not_after: date | None = None
    """The last day on which it counts."""

    @model_validator(mode="after")
    def _ever_valid(self) -> TrustedKey:
        if self.not_before and self.not_after and self.not_before > self.not_after:
            raise ValueError(f"valid never: not_before {self.not_before} is after not_after {self.not_after}")
        return self


class Trust(Document):
    """Whom a user believes: `trust.toml`."""

    kind: ClassVar[str] = "trust"

    trust: Literal[1]
    keys: Annotated[tuple[TrustedKey, ...], Field(min_length=1)]
    threshold: Annotated[int, Field(ge=1)] = 1
    """How many of the keys must have signed."""
    minimum_sequence: dict[BundleName, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _reachable(self) -> Trust:
        # One key listed twice must not count as two signers.
        problems = [
            Problem(path=f"keys[{number}].key", message="listed twice")
            for number, key in enumerate(self.keys)
            if key.key in {other.key for other in self.keys[:number]}
        ]
        if self.threshold > len(self.keys):
            message = f"above the number of keys, {len(self.keys)}"
            problems.append(Problem(path="threshold", message=message, got=str(self.threshold)))
        if problems:
            raise several(problems)
        return self

"""Trust: which publishers a user believes, and how new a bundle must be."""

from __future__ import annotations

from datetime import date
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from sdkpack.documents.base import Document, Part
from sdkpack.documents.manifest import BundleName

__all__ = ["Trust", "TrustedKey"]


class TrustedKey(Part):
    key: str
    """The public key in key-file text form, or the name of a key file beside this document."""
    name: str | None = None
    not_before: date | None = None
    not_after: date | None = None


class Trust(Document):
    """`trust.toml`."""

    kind: ClassVar[str] = "trust"

    trust: Literal[1]
    keys: Annotated[tuple[TrustedKey, ...], Field(min_length=1)]
    threshold: Annotated[int, Field(ge=1)] = 1
    """How many of the keys must have signed."""
    minimum_sequence: dict[BundleName, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _reachable(self) -> Trust:
        if self.threshold > len(self.keys):
            raise ValueError(f"threshold {self.threshold} is above the number of keys, {len(self.keys)}")
        return self

"""Config: what a user allows on this machine."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from sdkpack.documents.base import Document, Part
from sdkpack.documents.findings import several
from sdkpack.errors import Problem

__all__ = ["Config", "NetworkSection", "PluginsSection"]

PluginName = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")]


class NetworkSection(Part):
    """Which toolchains that run apart may use a network."""

    allow: tuple[PluginName, ...] = ()
    """Names that descriptors have, such as `acme.npu2`; only those count that ask for it."""


class PluginsSection(Part):
    """Which plugins are imported."""

    allow: tuple[PluginName, ...] | None = None
    """Distributions: no others than these, and sdkpack's own; absent: every one that is installed."""
    block: tuple[PluginName, ...] = ()
    """Distributions or entry points: none of these, whatever else says so."""
    network: NetworkSection = NetworkSection()

    @model_validator(mode="after")
    def _either_or(self) -> PluginsSection:
        both = sorted(set(self.allow or ()) & set(self.block))
        if both:
            raise several([Problem(path="block", message="allowed and blocked", got=name) for name in both])
        return self


class Config(Document):
    """A user's settings: `config.toml`."""

    kind: ClassVar[str] = "config"

    config: Literal[1]
    plugins: PluginsSection = PluginsSection()

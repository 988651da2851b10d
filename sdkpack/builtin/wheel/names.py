"""The names that one release goes by."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sdkpack.builtin.wheel.params import WheelParams
from sdkpack.errors import UsageError

__all__ = ["ReleaseNames"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseNames:
    """Distribution, package and command, with the version inside where releases live side by side."""

    distribution: str
    package: str
    command: str
    version: str
    pipeline: str
    bundle_file: str
    key_variable: str
    """The environment variable in which a customer may give his key file."""

    @staticmethod
    def of(manifest: Mapping[str, Any], params: WheelParams) -> ReleaseNames:
        """Works the names out.

        Raises:
            UsageError: the pipeline is unknown, or left open where there are several.
        """
        version = str(manifest["version"])
        product = params.name or str(manifest["name"])
        suffix = "-" + re.sub(r"[^0-9a-z]+", "-", version) if params.side_by_side else ""
        package = re.sub(r"[^0-9A-Za-z]+", "_", product + suffix).lower()
        if package[0].isdigit():
            package = f"_{package}"
        return ReleaseNames(
            distribution=product + suffix,
            package=package,
            command=(params.command or product) + (f"-{version}" if params.side_by_side else ""),
            version=version,
            pipeline=_pipeline(manifest, params),
            bundle_file=f"{manifest['name']}-{version}.sdkpack",
            key_variable=re.sub(r"[^0-9A-Z]+", "_", product.upper()) + "_KEY",
        )

    @property
    def stem(self) -> str:
        """Distribution and version as they stand in file names (binary distribution format, escaped)."""
        return f"{re.sub(r'[-_.]+', '_', self.distribution).lower()}-{self.version}"


def _pipeline(manifest: Mapping[str, Any], params: WheelParams) -> str:
    pipelines = list(manifest.get("pipelines", {}))
    have = ", ".join(pipelines) or "none"
    if params.pipeline:
        if params.pipeline not in pipelines:
            raise UsageError(f"release.wheel.pipeline: no pipeline {params.pipeline!r}, the bundle has {have}")
        return params.pipeline
    if len(pipelines) == 1:
        return str(pipelines[0])
    if not pipelines:
        return ""
    raise UsageError(
        f"the bundle has several pipelines ({have})", hint="say which one the command runs: release.wheel.pipeline"
    )

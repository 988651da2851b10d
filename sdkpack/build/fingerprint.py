"""What does a step, told so exactly that another version of it gives another key.

An installed distribution is told by name and version. One installed editable changes without a new version, so the
digest of its source is added; the same goes for a plugin that belongs to no distribution.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sdkpack.host.registry import PluginState, Registered
from sdkpack.plugin.info import PluginInfo

__all__ = ["Fingerprints", "needed_distributions"]

_CORE = "sdkpack"


@dataclass(slots=True)
class Fingerprints:
    """Fingerprints of one build; each source tree is read once."""

    _known: dict[tuple[str, str], str] = field(default_factory=dict)

    def core(self, *others: str) -> str:
        """sdkpack itself, and the versions of other distributions that it uses for a step."""
        return "; ".join([self._of(_CORE, _CORE), *(f"{name} {_version(name)}" for name in others)])

    def plugin(self, plugin: PluginState) -> str:
        return self._of(plugin.distribution, plugin.module.partition(".")[0])

    def _of(self, distribution: str, package: str) -> str:
        key = (distribution, package)
        if key not in self._known:
            name = f"{distribution} {_version(distribution)}" if distribution else package
            changing = not distribution or _editable(distribution)
            self._known[key] = f"{name} source {_source_digest(package)}" if changing else name
        return self._known[key]


def needed_distributions(rows: Iterable[Registered[Any]]) -> dict[str, str]:
    """Distributions, with their versions, that descriptors come from or say that they need; sdkpack is one of them."""
    names = {_CORE}
    for row in rows:
        info: PluginInfo = row.info
        names |= {row.plugin.distribution} if row.plugin.distribution else set()
        names |= {_requirement_name(text) for text in info.requires}
    return {name: version for name in sorted(names) if (version := _version(name)) != ""}


def _requirement_name(text: str) -> str:
    name = text
    for stop in "<>=!~;[( @":
        name = name.split(stop)[0]
    return name.strip()


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _editable(distribution: str) -> bool:
    """As PEP 660 installers record it (PEP 610)."""
    try:
        text = importlib.metadata.distribution(distribution).read_text("direct_url.json")
        return bool(text and json.loads(text).get("dir_info", {}).get("editable"))
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return True


def _source_digest(package: str) -> str:
    digest = hashlib.sha256()
    for name, path in sorted(_source_files(package)):
        digest.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return "sha256:" + digest.hexdigest()


def _source_files(package: str) -> Iterable[tuple[str, Path]]:
    spec = importlib.util.find_spec(package)
    if spec is None:
        return
    for location in spec.submodule_search_locations or ():
        folder = Path(location)
        for path in folder.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(folder).as_posix(), path
    if not spec.submodule_search_locations and spec.origin:
        yield Path(spec.origin).name, Path(spec.origin)

"""Which plugins the user lets in, and what they may do: variables of the environment, and a configuration file.

| setting | in the file | variable, which stands in the place of the file's |
| --- | --- | --- |
| plugins to import, no others | `plugins.allow` | `SDKPACK_PLUGINS` |
| plugins never to import | `plugins.block` | |
| toolchains that may use a network | `plugins.network.allow` | `SDKPACK_NETWORK` |

What is blocked stays blocked: a variable that somebody's script sets does not undo it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sdkpack.errors import FileError

if TYPE_CHECKING:
    from sdkpack.documents.config import Config

__all__ = [
    "CONFIG",
    "NETWORK",
    "PLUGINS",
    "Choices",
    "choices",
    "config_file",
    "network_allowed",
    "normal",
    "read_config",
]

CONFIG: Final = "SDKPACK_CONFIG"
PLUGINS: Final = "SDKPACK_PLUGINS"
NETWORK: Final = "SDKPACK_NETWORK"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the user chose of plugins. Names are as an index compares them."""

    allow: frozenset[str] | None = None
    """None: every one."""
    allowed_by: str = ""
    """What says so, for messages."""
    entry_points_count: bool = True
    """Whether `allow` may name entry points too, which every distribution chooses for itself."""
    block: frozenset[str] = frozenset()
    blocked_by: str = ""

    def left_out(self, entry_point: str, distribution: str) -> str:
        """Why a plugin is not to be imported; empty where it is."""
        either = {normal(entry_point), normal(distribution)}
        if either & self.block:
            return f"in {self.blocked_by}"
        if self.allow is not None and not (either if self.entry_points_count else {normal(distribution)}) & self.allow:
            return f"not in {self.allowed_by}"
        return ""


def choices(environ: Mapping[str, str]) -> Choices:
    """What `environ` and the configuration file that it leads to say.

    Raises:
        DocumentError: the file is not valid; all findings at once.
        FileError: it cannot be read.
    """
    path = config_file(environ)
    plugins = read_config(path).plugins if path is not None else None
    allow, allowed_by = None, ""
    if PLUGINS in environ:
        allow, allowed_by = _names(environ[PLUGINS]), PLUGINS
    elif plugins is not None and plugins.allow is not None:
        allow, allowed_by = frozenset(map(normal, plugins.allow)), f"plugins.allow of {path}"
    return Choices(
        allow=allow, allowed_by=allowed_by, block=frozenset(map(normal, plugins.block if plugins else ())),
        blocked_by=f"plugins.block of {path}", entry_points_count=PLUGINS in environ,
    )  # fmt: skip


def network_allowed(environ: Mapping[str, str]) -> frozenset[str]:
    """Names of descriptors whose toolchains may use a network.

    Raises:
        DocumentError: the configuration file is not valid.
        FileError: it cannot be read.
    """
    if NETWORK in environ:
        return frozenset(name.strip() for name in environ[NETWORK].split(",") if name.strip())
    path = config_file(environ)
    return frozenset(read_config(path).plugins.network.allow) if path is not None else frozenset()


def config_file(environ: Mapping[str, str]) -> Path | None:
    """`SDKPACK_CONFIG`, which must be there, else `sdkpack/config.toml` in the user's configuration folder, if it is
    there."""
    if environ.get(CONFIG):
        return Path(environ[CONFIG])
    home = environ.get("XDG_CONFIG_HOME", "")
    base = Path(home) if home.startswith("/") else Path(environ.get("HOME") or Path.home()) / ".config"
    path = base / "sdkpack" / "config.toml"
    return path if path.exists() else None


def read_config(path: Path) -> Config:
    """
    Raises:
        DocumentError: the file is not valid.
        FileError: it cannot be read.
    """
    # Loaded where there is a file to read: pydantic takes longer than most of what is done without one.
    from sdkpack.documents.config import Config

    try:
        text = path.read_bytes()
    except OSError as error:
        raise FileError(
            f"cannot read the configuration {path}: {(error.strerror or str(error)).lower()}",
            hint=f"mend it, or the variable {CONFIG}",
        ) from error
    return Config.from_toml(text, where=str(path))


def normal(name: str) -> str:
    """A distribution's name as an index compares it."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _names(text: str) -> frozenset[str]:
    return frozenset(normal(name) for name in text.split(",") if name.strip())

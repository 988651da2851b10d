"""The user's package index settings, as both installers understand them.

pip reads its own. uv does not read pip's, and a user who set an index for pip means it: what the default
index hands out instead may be a build for other hardware, of several gigabytes.
"""

from __future__ import annotations

import configparser
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

__all__ = ["uv_environment"]

_PAIRS: Final = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "constraint": "UV_CONSTRAINT",
    "cert": "SSL_CERT_FILE",
    "no-index": "UV_NO_INDEX",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
}
"""pip's option -> uv's variable. Variables, not arguments: a URL may hold a password, and everybody reads arguments."""
_OWN: Final = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX")


def uv_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` with pip's settings added as uv's, unless uv has an index of its own."""
    made = dict(environ)
    if any(environ.get(name) for name in _OWN) or _uv_is_configured(environ):
        return made
    settings = _pip_settings(environ)
    for option, variable in _PAIRS.items():
        if (value := settings.get(option)) and not environ.get(variable):
            parts = value.split()
            made[variable] = ",".join(parts) if variable == "UV_FIND_LINKS" else " ".join(parts)
    if "UV_NO_INDEX" in made and made["UV_NO_INDEX"].lower() not in ("1", "true", "yes", "on"):
        del made["UV_NO_INDEX"]
    if "extra-index-url" in settings:
        # pip takes the best version of all indexes; uv by default only looks into the first that has the name.
        made.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return made


def _uv_is_configured(environ: Mapping[str, str]) -> bool:
    files = [path / "uv/uv.toml" for path in (_config_home(environ), Path("/etc"))]
    if environ.get("UV_CONFIG_FILE"):
        files.append(Path(environ["UV_CONFIG_FILE"]))
    words = ("index", "find-links")
    return any(any(word in path.read_text(encoding="utf-8") for word in words) for path in files if path.is_file())


def _pip_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Of configuration files, the later ones stronger, then of the environment, the strongest."""
    found: dict[str, str] = {}
    for path in _pip_files(environ):
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError):
            continue  # pip itself will say so
        for section in ("global", "install"):
            if parser.has_section(section):
                found |= {key.replace("_", "-"): value for key, value in parser.items(section)}
    prefix = "PIP_"
    found |= {
        name.removeprefix(prefix).lower().replace("_", "-"): value
        for name, value in environ.items()
        if name.startswith(prefix) and value
    }
    return found


def _pip_files(environ: Mapping[str, str]) -> Iterator[Path]:
    yield Path("/etc/pip.conf")
    yield Path("/etc/xdg/pip/pip.conf")
    home = Path(environ.get("HOME") or Path.home())
    yield home / ".pip/pip.conf"
    yield _config_home(environ) / "pip/pip.conf"
    if environ.get("PIP_CONFIG_FILE"):
        yield Path(environ["PIP_CONFIG_FILE"])


def _config_home(environ: Mapping[str, str]) -> Path:
    home = Path(environ.get("HOME") or Path.home())
    return Path(environ.get("XDG_CONFIG_HOME") or home / ".config")

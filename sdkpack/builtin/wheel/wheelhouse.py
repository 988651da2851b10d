"""Collects every wheel that a release needs, in the versions that it was checked with."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import sys
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sdkpack.errors import StepError
from sdkpack.plugin import StepContext

__all__ = ["collect_wheelhouse"]

_TIME_LIMIT_S: Final = 1800.0
_PROXIES: Final = frozenset({"http_proxy", "https_proxy", "all_proxy", "no_proxy"})


def collect_wheelhouse(wheel: Path, folder: Path, distributions: Mapping[str, str], context: StepContext) -> None:
    """Fills `folder` with `wheel` and all that it needs, through pip.

    What is installed from a source folder is built from there; everything else comes from where pip gets it, pinned to
    the versions installed here.

    Raises:
        StepError: pip is not there, or could not get something.
    """
    if importlib.util.find_spec("pip") is None:
        raise StepError(
            "a wheelhouse is collected by pip, and this Python has none",
            hint=f"{sys.executable} -m ensurepip, or release without wheelhouse",
        )
    pins = context.work / "pins.txt"
    pins.write_text("".join(_pins(distributions)), encoding="utf-8")
    sources = [str(source) for name in distributions if (source := _source_folder(name)) is not None]
    context.progress(None, "collecting the wheels that it needs")
    folder.mkdir()
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    command += ["--wheel-dir", str(folder), "--constraint", str(pins), str(wheel), *sources]
    context.run(command, timeout_s=_TIME_LIMIT_S, env=_pip_environment(os.environ))
    pins.unlink()


def _pip_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The user's own way to packages: index settings, proxies, certificates, pip's configuration and cache."""
    names = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "NETRC", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    prefixes = ("PIP_", "SSL_CERT_")
    return {
        name: value
        for name, value in environment.items()
        if name in names or name.startswith(prefixes) or name.lower() in _PROXIES
    }


def _pins(distributions: Mapping[str, str]) -> list[str]:
    installed = importlib.metadata.distributions()
    names = {str(one.metadata["Name"]): one.version for one in installed if one.metadata["Name"]}
    local = {name for name in distributions if _source_folder(name) is not None}
    return [f"{name}=={version}\n" for name, version in sorted(names.items()) if name not in local]


def _source_folder(name: str) -> Path | None:
    """Where an editable installation lives (PEP 610), else None."""
    try:
        text = importlib.metadata.distribution(name).read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return None
    record = json.loads(text) if text else {}
    url = urllib.parse.urlsplit(record.get("url", ""))
    if not record.get("dir_info", {}).get("editable") or url.scheme != "file":
        return None
    return Path(urllib.request.url2pathname(url.path))

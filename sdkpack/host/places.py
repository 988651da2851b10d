"""Where a half works outside of this process: what it is started with, may read and finds on its PATH."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdkpack.errors import PluginBrokenError, PluginError
from sdkpack.host.environments import Environment
from sdkpack.host.registry import Registered
from sdkpack.host.sandbox import job_package
from sdkpack.plugin.info import Half

__all__ = ["Place"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The place of one half: an environment, or a program that the user installed."""

    half: Half
    environment: Environment | None
    command: tuple[str, ...]
    """Found by its path; empty for a class."""
    home: Path
    """The user's, which stays shut."""

    @staticmethod
    def of(row: Registered[Any], half: Half, environment: Environment | None, environ: Mapping[str, str]) -> Place:
        """
        Raises:
            PluginError: its program is missing.
        """
        home = Path(environ.get("HOME") or Path.home()).resolve()
        return Place(half=half, environment=environment, command=_command(row, half, environment, environ), home=home)

    @property
    def python(self) -> Path | None:
        return self.environment.python if self.environment else None

    def argv(self, folder: Path) -> list[str]:
        """Starts it on a job folder."""
        if self.command:
            return [*self.command, str(folder)]
        return [str(self.python or sys.executable), "-I", "-B", str(job_package()), str(folder)]

    @property
    def packages(self) -> Mapping[str, Path]:
        """The class's own top-level package and what the plugin API consists of, each by the folder that holds it.

        Hooks need pluggy; a small plugin has its class in the module of its hooks.
        """
        if not self.half.load:
            return {}
        names = (self.half.load.partition(":")[0].partition(".")[0], "sdkpack", "sdkpack_job", "pluggy")
        return {name: _folder_of(name) for name in names}

    @property
    def search(self) -> tuple[Path, ...]:
        """Folders for its PATH."""
        if self.environment is not None:
            return (self.environment.folder / "bin",)
        # What a user installed may be a script, with the machine's programs in it.
        return (Path(self.command[0]).parent, Path("/usr/bin"), Path("/bin"))

    @property
    def readable(self) -> tuple[Path, ...]:
        """What it has to read beside its request."""
        if self.environment is not None:
            return self.environment.readable
        program = Path(self.command[0]).resolve()
        # .../bin/tool comes with .../lib and .../share; a tool that lies in a home comes alone.
        prefix = program.parent.parent if program.parent.name == "bin" else program.parent
        return (program,) if self.home.is_relative_to(prefix) or len(prefix.parts) < 3 else (prefix, program)

    @property
    def readable_packages(self) -> tuple[Path, ...]:
        packages = [base / name for name, base in self.packages.items()]
        return (*packages, *(path.with_suffix(".py") for path in packages), job_package())

    @property
    def fingerprint(self) -> str:
        """Changes with what is installed in the environment, or with the program."""
        if self.environment is not None:
            return self.environment.fingerprint
        with Path(self.command[0]).open("rb") as file:
            return f"{Path(self.command[0]).name} sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _command(
    row: Registered[Any], half: Half, environment: Environment | None, environ: Mapping[str, str]
) -> tuple[str, ...]:
    if not half.command:
        return ()
    path = str(environment.folder / "bin") if environment else environ.get("PATH", os.defpath)
    program = shutil.which(half.command[0], path=path)
    if program is None:
        place = f"environment {environment.name!r}" if environment else "the PATH"
        hint = "it is not part of the plugin's requirements" if environment else "install it, as its vendor says"
        raise PluginError(f"{row.info.name!r} needs the program {half.command[0]!r}, not found in {place}", hint=hint)
    return (program, *half.command[1:])


def _folder_of(name: str) -> Path:
    loaded = sys.modules.get(name)
    # Finding a top-level name imports nothing.
    spec = loaded.__spec__ if loaded is not None else importlib.util.find_spec(name)
    locations = list(spec.submodule_search_locations or ()) if spec is not None else []
    if locations:
        return Path(locations[0]).parent
    if spec is not None and spec.origin:
        return Path(spec.origin).parent
    raise PluginBrokenError(f"package {name!r} of a plugin cannot be found", hint="reinstall the plugin")

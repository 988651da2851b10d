"""One environment of a toolchain, and the marker that says that it may be used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sdkpack.bundle.files import atomic_file
from sdkpack.host.installing import python_of

__all__ = ["MARKER", "Environment", "distributions_in", "read_environment", "size_of", "write_environment"]

MARKER: Final = "complete.json"

_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A complete environment."""

    folder: Path
    requirements: tuple[str, ...]
    python_version: tuple[int, int, int]
    base_prefix: Path
    """Where its interpreter's own library is."""
    distributions: Mapping[str, str]
    """What was installed: name -> version."""
    smoked: tuple[str, ...]
    """Digests of the smoke tests that it passed."""
    size_bytes: int
    """On the disk; what it shares with an installer's cache by hard links counts too."""

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def python(self) -> Path:
        return python_of(self.folder)

    @property
    def fingerprint(self) -> str:
        """Changes with anything installed in it."""
        version = ".".join(map(str, self.python_version))
        text = "\n".join(f"{name}=={version}" for name, version in sorted(self.distributions.items()))
        return f"python {version} environment {hashlib.sha256(text.encode()).hexdigest()[:16]}"

    @property
    def readable(self) -> tuple[Path, ...]:
        """What a job in it has to read."""
        return (self.folder, self.base_prefix)


def read_environment(folder: Path) -> Environment | None:
    """The environment at `folder`; None where its marker is missing, damaged or of another version."""
    try:
        facts = json.loads((folder / MARKER).read_bytes())
        if facts["v"] != _VERSION:
            return None
        major, minor, micro = facts["python"]
        return Environment(
            folder=folder,
            requirements=tuple(facts["requirements"]),
            python_version=(major, minor, micro),
            base_prefix=Path(facts["base_prefix"]),
            distributions=facts["distributions"],
            smoked=tuple(facts["smoked"]),
            size_bytes=facts["size_bytes"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_environment(environment: Environment) -> None:
    """Marks an environment as complete, in one step."""
    facts = {
        "v": _VERSION,
        "requirements": list(environment.requirements),
        "python": list(environment.python_version),
        "base_prefix": str(environment.base_prefix),
        "distributions": dict(environment.distributions),
        "smoked": list(environment.smoked),
        "size_bytes": environment.size_bytes,
    }
    with atomic_file(environment.folder / MARKER, overwrite=True) as out:
        out.write(json.dumps(facts, indent=1).encode())


def distributions_in(folder: Path) -> dict[str, str]:
    """Name and version of what is installed, from the names of its metadata folders."""
    found: dict[str, str] = {}
    for path in folder.glob("lib/python*/site-packages/*.dist-info"):
        name, _, version = path.name.removesuffix(".dist-info").partition("-")
        found[name.replace("_", "-").lower()] = version
    return found


def size_of(folder: Path) -> int:
    sizes: dict[tuple[int, int], int] = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        sizes[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(sizes.values())

"""A plugin's tool in this process and out of it: the same class, the same Protocol, by either way."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from sdkpack.errors import PluginError
from sdkpack.host.environments import Environment
from sdkpack.host.places import Place
from sdkpack.host.registry import Registered
from sdkpack.host.tools import RemoteTool, ToolHost
from sdkpack.plugin.info import Half

__all__ = ["WAYS", "open_declared", "open_tool"]

WAYS: Final = ("in-process", "job")


@dataclass(frozen=True, slots=True, kw_only=True)
class _ThisPython(Environment):
    """The environment that the tests run in, for classes that ask for none of their own."""

    @property
    def python(self) -> Path:
        return Path(sys.executable)

    @property
    def readable(self) -> tuple[Path, ...]:
        # An editable installation has its packages elsewhere.
        elsewhere = {Path(entry).resolve() for entry in sys.path if entry and Path(entry).exists()}
        return (Path(sys.prefix), self.base_prefix, *sorted(elsewhere))


def open_declared(row: Registered[Any], half: Half) -> Any:
    """The tool where its descriptor says that it works; the test is skipped where its environment cannot be had."""
    try:
        return ToolHost(environ=dict(os.environ)).open(row, half)
    except PluginError as error:
        pytest.skip(f"its toolchain is not here: {error.message}")


def open_tool(row: Registered[Any], half: Half, way: str, folder: Path) -> Any:
    """The tool by one of `WAYS`.

    A half that works in this process is run as a job too, by this Python: what holds there holds in any environment. A
    half that asks for isolation is never loaded into this process.

    Args:
        row: the descriptor.
        half: one of its halves.
        way: how.
        folder: an empty one, for what the host keeps.
    """
    if half.isolation != "in-process":
        if way == "in-process":
            pytest.skip(f"it works apart from this process: isolation {half.isolation!r}")
        return open_declared(row, half)
    host = ToolHost(environ={**os.environ, "SDKPACK_ENVIRONMENTS": str(folder / "environments")})
    if way == "in-process":
        return host.open(row, half)
    major, minor, micro = sys.version_info[:3]
    # `using` keeps its locks beside an environment's folder; nothing is written into the folder itself.
    (folder / "environments").mkdir(parents=True, exist_ok=True)
    here = _ThisPython(
        folder=folder / "environments" / "this-python", requirements=(), python_version=(major, minor, micro),
        base_prefix=Path(sys.base_prefix), distributions={"sdkpack": importlib.metadata.version("sdkpack")},
        smoked=(), size_bytes=0,
    )  # fmt: skip
    place = Place(half=half, environment=here, command=(), home=Path.home().resolve())
    return RemoteTool(row=row, place=place, host=host)

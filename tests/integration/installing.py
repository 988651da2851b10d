"""Installs a copy of a plugin's distribution for tests, into a folder beside the checkout's own packages."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

__all__ = ["environment_with", "install_copy"]


def install_copy(source: Path, folder: Path) -> Path:
    """pip installs a copy of `source`; gives the folder for PYTHONPATH."""
    copy, target = folder / "copy", folder / "site"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "dist", "build"))
    command = [*_pip(), "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target", str(target)]
    if importlib.util.find_spec("hatchling"):
        command.append("--no-build-isolation")  # nothing is downloaded then
    result = subprocess.run([*command, str(copy)], capture_output=True, text=True, check=False)
    if result.returncode and "hatchling" in result.stderr:
        pytest.skip("the build backend cannot be downloaded here")
    assert result.returncode == 0, result.stderr
    shutil.rmtree(copy)  # what is installed must not need its source
    return target


def environment_with(target: Path, **more: str) -> dict[str, str]:
    """This process's environment with the installed plugin on the path."""
    return {**os.environ, "PYTHONPATH": str(target), **more}


def _pip() -> list[str]:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    found = shutil.which("pip") or shutil.which("pip3")
    if found is None:
        pytest.skip("there is no pip")
    return [found, "--python", sys.executable]

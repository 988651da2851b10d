"""Fills an environment: with uv where it is, else with venv and pip. Both leave no pip behind."""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from sdkpack.errors import OutputError, PluginError, SdkpackError
from sdkpack.host.indexes import uv_environment
from sdkpack.host.process import outcome, supervise
from sdkpack.host.pythons import Python

__all__ = ["Installer", "python_of"]

_TIME_LIMIT_S: Final = 3600.0
_LITTLE_BYTES: Final = 8 << 20
_TAIL_BYTES: Final = 1 << 16
_LINE_BYTES: Final = 500
_WORDS: Final = 12
_TELL_EVERY_S: Final = 0.5
_NO_SPACE: Final = tuple(os.strerror(code).lower() for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_REASONS: Final = (
    re.compile(r"no solution found.*", re.IGNORECASE),
    re.compile(r"^error:? .*(?:requirement|distribution|resolv|conflict|index|invalid|failed|wheel).*", re.IGNORECASE),
    re.compile(r"^\s*(?:\u00d7|\u2570\u2500\u25b6|cause[ds] by:).*", re.IGNORECASE),
    re.compile(r"^error:? .*", re.IGNORECASE),
)
"""What of an installer's output says why, the best first."""


def python_of(folder: Path) -> Path:
    return folder / "bin" / "python"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installer:
    """One build of one environment.

    Args:
        environ: the user's, whose index settings, proxies and certificates count.
        output: gets what the tools print.
        log: where that is, for messages.
        cancelled: asked while tools run.
        progress: told now and then what an installer is at.
    """

    environ: Mapping[str, str]
    output: IO[bytes]
    log: Path
    cancelled: Callable[[], bool]
    progress: Callable[[str], None] = lambda _: None

    def build(self, folder: Path, python: Python, requirements: Sequence[str]) -> None:
        """Makes an environment at `folder` and installs `requirements` into it.

        Raises:
            PluginError: they cannot be installed.
            OutputError: the disk is full.
            InterruptedRunError: `cancelled` became true.
        """
        folder.mkdir(mode=0o700)
        wanted = folder / "requirements.txt"
        wanted.write_text("".join(f"{text}\n" for text in requirements), encoding="utf-8")
        uv = self.environ.get("SDKPACK_UV") or shutil.which("uv", path=self.environ.get("PATH", os.defpath))
        if uv and Path(uv).exists():
            self._with_uv(uv, folder, python, wanted if requirements else None)
        else:
            self._with_pip(folder, python, wanted if requirements else None)

    def _with_uv(self, uv: str, folder: Path, python: Python, wanted: Path | None) -> None:
        environ = uv_environment(self.environ)
        venv = [uv, "venv", "--quiet", "--no-project", "--allow-existing", "--python", str(python.executable)]
        self._run([*venv, str(folder)], environ, folder)
        if wanted is not None:
            # The project folder that the user happens to stand in has nothing to say about it.
            argv = [uv, "pip", "install", "--compile-bytecode", "--no-progress", "--python", str(python_of(folder))]
            no_index = ["--no-index"] if environ.get("UV_NO_INDEX") else []
            self._run([*argv, *no_index, "-r", str(wanted)], environ, folder)

    def _with_pip(self, folder: Path, python: Python, wanted: Path | None) -> None:
        options = ["--disable-pip-version-check", "--no-input"]
        venv = [str(python.executable), "-I", "-m", "venv"]
        pip_python = _python_with_pip(python)
        if wanted is None or pip_python is not None:
            self._run([*venv, "--without-pip", str(folder)], self.environ, folder)
            if wanted is not None:
                pip = [str(pip_python), "-m", "pip", *options, "--python", str(python_of(folder))]
                self._run([*pip, "install", "-r", str(wanted)], self.environ, folder)
            return
        self._run([*venv, str(folder)], self.environ, folder)
        pip = [str(python_of(folder)), "-m", "pip", *options]
        self._run([*pip, "install", "--no-warn-script-location", "-r", str(wanted)], self.environ, folder)
        # A toolchain that installs things at run time would change what the environment was tested as.
        self._run([*pip, "uninstall", "--yes", "pip"], self.environ, folder)

    def _run(self, argv: Sequence[str], environ: Mapping[str, str], folder: Path) -> None:
        environ = {name: value for name, value in environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        code = supervise(
            argv, folder=folder, output=self.output, environment=environ, timeout_s=_TIME_LIMIT_S,
            cancelled=self.cancelled, where="environment", watch=_Watch(self.log, self.progress),
        )  # fmt: skip
        if code != 0:
            raise self._failure(argv[0], code)

    def _failure(self, tool: str, code: int) -> SdkpackError:
        text = self._tail()
        see = f"its log is {self.log}"
        # The log may stand on the same disk, and be empty for that reason.
        full = shutil.disk_usage(self.log.parent).free < _LITTLE_BYTES
        if full or any(words in text.lower() for words in (*_NO_SPACE, "no space left")):
            return OutputError(
                "the disk is full: an environment was being built",
                hint=f"free some space (sdkpack plugins env list shows what environments take); {see}",
            )
        reason = next((found for pattern in _REASONS if (found := _first(pattern, text))), "")
        name = Path(tool).name
        return PluginError(
            f"{name} {outcome(code)}" + (f": {reason}" if reason else ""),
            hint=f"check the requirements and your package index settings; {see}",
        )

    def _tail(self) -> str:
        self.output.flush()
        data = self.log.read_bytes()[-_TAIL_BYTES:]
        return re.sub(r"\x1b\[[0-9;]*m", "", data.decode(errors="replace"))


class _Watch:
    """Passes on the last line that an installer wrote, and for how long it has been at it."""

    def __init__(self, log: Path, progress: Callable[[str], None]) -> None:
        self._log = log
        self._progress = progress
        self._begin_s = self._next_s = time.monotonic()

    def __call__(self, _: int) -> None:
        now = time.monotonic()
        if now < self._next_s:
            return
        self._next_s = now + _TELL_EVERY_S
        with self._log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LINE_BYTES))
            words = _plain(file.read()).split()[:_WORDS]
        self._progress(f"{now - self._begin_s:.0f} s {' '.join(words)}".strip())


def _plain(data: bytes) -> str:
    """Its last line that is no warning, without what moves a terminal's cursor."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", data.decode(errors="replace"))
    lines = [line.strip() for line in re.split(r"[\r\n]", text)]
    told = [line for line in lines if line and not line.lower().startswith("warning")]
    return "".join(char for char in told[-1] if char.isprintable()) if told else ""


def _python_with_pip(python: Python) -> Path | None:
    """An interpreter whose pip can install for `python`, which saves making one in the environment: pip runs itself on
    that Python (`--python`, since 22.3), so only the same version of it is certain to work."""
    if python.version[:2] != sys.version_info[:2]:
        return None
    if importlib.util.find_spec("pip") is not None:
        return Path(sys.executable)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    base = Path(sys.base_prefix)
    found = [*base.glob(f"lib/{version}/site-packages/pip-*.dist-info"), *base.glob("lib/python3/dist-packages/pip-*")]
    for path in found:
        numbers = re.findall(r"\d+", path.name)
        if tuple(map(int, numbers[:2])) >= (22, 3) and (base / "bin" / version).exists():
            return base / "bin" / version
    return None


def _first(pattern: re.Pattern[str], text: str) -> str:
    for line in text.splitlines():
        if pattern.search(line.strip()):
            return line.strip()[:300]
    return ""

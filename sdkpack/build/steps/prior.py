"""What a compiler keeps from one compile to the next: a parsed network, a timing cache.

It saves time and must not change the result; so it is no part of a step's key.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sdkpack.build.context import BuildContext
from sdkpack.build.digests import digest_json
from sdkpack.build.store import Store, StoredResult
from sdkpack.errors import PluginBrokenError
from sdkpack.types import Digest

__all__ = ["Prior"]

_MEDIA_TYPE: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Prior:
    """The place of one compile's keepsakes in the store."""

    runtime: str
    target: str
    models: tuple[Digest, ...]
    """Keys of the models' import steps."""
    store: Store

    @property
    def key(self) -> Digest:
        return digest_json({"kind": "prior", "runtime": self.runtime, "target": self.target, "models": self.models})

    def laid_out(self, context: BuildContext) -> Path | None:
        """A folder with what an earlier compile of the same models kept; None where there was none."""
        known = self.store.get(self.key)
        if known is None:
            return None
        folder = context.aside("prior")
        for name, file in known.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.store.read(file))
        return folder

    def keep(self, folder: Path | None, context: BuildContext) -> None:
        """Remembers what this compile kept.

        Raises:
            PluginBrokenError: it is no folder of the work folder.
        """
        if folder is None:
            return
        if not folder.is_dir() or not folder.resolve().is_relative_to(context.work.resolve()):
            raise PluginBrokenError(f"runtime {self.runtime!r} returned a prior outside of its work folder: {folder}")
        names = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        files = {name: self.store.adopt(path, _MEDIA_TYPE) for name, path in names.items()}
        self.store.put(self.key, StoredResult(files=files))

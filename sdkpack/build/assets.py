"""Files that operators read: labels, alphabets. Each gets one name in the bundle, the same in every build."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from sdkpack.build.digests import stamp_file
from sdkpack.build.sources import Sources, metadata_reference
from sdkpack.build.store import Store, StoredFile
from sdkpack.documents.plan import PlanInput
from sdkpack.errors import FileError, ModelError
from sdkpack.plugin.info import AssetMarker

__all__ = ["FOLDER", "Assets"]

FOLDER: Final = "assets"

_MAX_BYTES: Final = 256 << 20
"""Labels are kilobytes; a reference to a model's weights by mistake should not be read into memory."""
_FORBIDDEN: Final = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(slots=True)
class Assets:
    """The assets of one build, gathered while its pipelines are resolved; an `AssetResolver`.

    The names follow the order in which a recipe mentions its files, so they do not depend on the machine.
    """

    sources: Sources
    store: Store
    metadata: Mapping[str, Mapping[str, str]]
    """Per model, the metadata that `model-metadata://MODEL/KEY` reads."""
    files: dict[str, StoredFile] = field(default_factory=dict)
    """By name in the bundle."""
    inputs: dict[str, PlanInput] = field(default_factory=dict)
    """By reference."""

    def __call__(self, reference: str, marker: AssetMarker) -> str:
        """The bundle's name for what `reference` means; its content is in the store from now on.

        Raises:
            FileError: there is no such file, or it is too large.
            ModelError: the model has no such metadata.
            UsageError: the reference is malformed.
        """
        named = metadata_reference(reference)
        if named is not None:
            content, name = self._metadata(*named, reference), f"{named[0]}.{named[1]}.txt"
        else:
            content, name = self._file(reference)
        stored = self.store.put_bytes(content, marker.media_type)
        self.inputs[reference] = PlanInput(reference=reference, digest=stored.digest, size_bytes=stored.size_bytes)
        return self._place(stored, name)

    def read(self, path: str) -> bytes:
        """The content of an asset by its name in the bundle.

        Raises:
            FileError: there is none.
        """
        if path not in self.files:
            raise FileError(f"there is no asset {path!r}")
        return self.store.read(self.files[path])

    def _file(self, reference: str) -> tuple[bytes, str]:
        source = self.sources.find(reference)
        if source.path.stat().st_size > _MAX_BYTES:
            raise FileError(f"an asset may have {_MAX_BYTES} bytes, got {source.path.stat().st_size}", where=reference)
        stamp = stamp_file(source.path)
        content = source.path.read_bytes()
        stamp.check_unchanged(source.path)
        return content, PurePosixPath(reference).name

    def _metadata(self, model: str, key: str, reference: str) -> bytes:
        if model not in self.metadata:
            raise ModelError(f"{reference!r} names the model {model!r}, expected one of {', '.join(self.metadata)}")
        values = self.metadata[model]
        if key not in values:
            have = ", ".join(repr(name) for name in sorted(values)) or "none"
            raise ModelError(f"model {model!r} has no metadata {key!r}", hint=f"it has {have}")
        return values[key].encode()

    def _place(self, stored: StoredFile, name: str) -> str:
        plain = PurePosixPath(_FORBIDDEN.sub("-", name).strip(".-") or "file")
        for number in range(1, len(self.files) + 2):
            ending = f"-{number}" if number > 1 else ""
            path = f"{FOLDER}/{plain.stem}{ending}{plain.suffix}"
            there = {known.lower(): file for known, file in self.files.items()}.get(path.lower())
            if there is None or (there == stored and path in self.files):
                self.files[path] = stored
                return path
        raise AssertionError("as many names as files were tried, and one more")

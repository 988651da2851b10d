"""The content-addressed store: what build steps made, so that they need not make it again.

    objects/HEX        one immutable blob, mode 0400, named by its SHA-256
    results/HEX.json   what one step gave, named by the step's key: its files by role, its data, a digest over all of it
    work/              folders of running steps, each beside a lock file that the kernel frees when its owner dies
    logs/              logs of failed steps

The root has mode 0700: it holds the author's models in plain form. Each file appears whole or not at all, so any number
of packers may share a store; two that make the same thing write the same bytes, and the last one's name stays.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from sdkpack.build.digests import PREFIX, canonical_json, digest_bytes, digest_json
from sdkpack.build.stamps import StampMemory
from sdkpack.build.workspace import Workspaces
from sdkpack.bundle.files import FileSystem, atomic_file_in, clean_leftovers, output_error
from sdkpack.errors import FileError
from sdkpack.types import Digest, MediaType

__all__ = ["Store", "StoreSize", "StoredFile", "StoredResult", "default_root"]

_RECORD_VERSION: Final = 1
_REHASH_BELOW_BYTES: Final = 32 << 20
"""Smaller objects are hashed at each use (16 ms at most). Larger ones where their time of change is not the one that
the result noted; damage by the disk itself is for `verify` to find."""
_BLOCK: Final = 1 << 20
# The signature that backup tools look for, to leave caches out: bford.info/cachedir.
_CACHE_TAG: Final = b"Signature: 8a477f597d28d172789f06886806bc55\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file that a step made."""

    digest: Digest
    size_bytes: int
    media_type: MediaType


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResult:
    """What a step gave: files by role, and facts as JSON."""

    files: Mapping[str, StoredFile] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSize:
    objects: int
    results: int
    size_bytes: int


def default_root(environment: Mapping[str, str]) -> Path:
    """`SDKPACK_STORE`, else `sdkpack/store` in the user's cache folder (XDG base directory specification)."""
    if environment.get("SDKPACK_STORE"):
        return Path(environment["SDKPACK_STORE"])
    cache = environment.get("XDG_CACHE_HOME", "")
    # The specification says to ignore a relative path.
    base = Path(cache) if cache.startswith("/") else Path(environment.get("HOME") or Path.home()) / ".cache"
    return base / "sdkpack" / "store"


class Store:
    """A store at a folder, made where it is absent; a context manager. Safe for several threads and processes.

    Raises:
        OutputError: the folder cannot be made or used.
    """

    def __init__(self, root: Path | None = None, *, files: FileSystem | None = None) -> None:
        self.root = (root or default_root(os.environ)).absolute()
        self._fs = files or FileSystem()
        try:
            self._objects, self._results, self._logs = (self._folder(name) for name in ("objects", "results", "logs"))
            self.workspaces = Workspaces(self._folder("work"), self._fs)
            self.stamps = StampMemory(self._folder("stamps"), self._fs)
            self._clean_leftovers()
        except OSError as error:
            raise output_error(error, self.root) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Removes this process's work folders; may be called again."""
        self.workspaces.close()

    # Objects ------------------------------------------------------------------------------------------------------
    def path(self, digest: Digest) -> Path:
        """Where an object is, whether it is there or not."""
        return self._objects / digest.removeprefix(PREFIX)

    def put_bytes(self, data: bytes | memoryview, media_type: MediaType) -> StoredFile:
        stored = StoredFile(digest=digest_bytes(data), size_bytes=len(data), media_type=media_type)
        if not self.intact(stored, rehash=True):
            with self._writing(self._objects) as folder, self._atomic(folder, self.path(stored.digest).name) as out:
                out.write(data)
        return stored

    def adopt(self, path: Path, media_type: MediaType) -> StoredFile:
        """Takes a file of a work folder into the store: hashed, made durable, moved; `path` is gone afterwards.

        Raises:
            FileError: it is no regular file of a work folder.
            OutputError: the file system refuses.
        """
        inside = path.resolve()
        if not inside.is_relative_to(self.workspaces.folder.resolve()) or path.is_symlink() or not path.is_file():
            raise FileError("not a regular file of a work folder", where=str(path))
        with self._writing(self._objects) as folder:
            fd = self._fs.open(inside, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                with open(fd, "rb", closefd=False) as file:
                    digest = PREFIX + hashlib.file_digest(file, "sha256").hexdigest()
                # A hard link kept elsewhere could change the object later.
                if os.fstat(fd).st_nlink != 1:
                    raise FileError("the file has other hard links", where=str(path))
                os.fchmod(fd, 0o400)
                self._fs.fsync(fd)
                size = os.fstat(fd).st_size
            finally:
                self._fs.close(fd)
            self._fs.rename(os.path.relpath(inside, self._objects.resolve()), self.path(digest).name, dir_fd=folder)
            self._fs.fsync(folder)
        return StoredFile(digest=digest, size_bytes=size, media_type=media_type)

    def intact(self, file: StoredFile, *, rehash: bool = False) -> bool:
        """Whether an object is there and has its size; small ones are hashed too, all of them with `rehash`."""
        path = self.path(file.digest)
        try:
            if path.stat().st_size != file.size_bytes:
                return False
            return not (rehash or file.size_bytes < _REHASH_BELOW_BYTES) or self._digest(path) == file.digest
        except OSError:
            return False

    def read(self, file: StoredFile) -> bytes:
        """An object's content, checked.

        Raises:
            FileError: it is missing or damaged.
        """
        try:
            data = self.path(file.digest).read_bytes()
        except OSError as error:
            raise self._damaged(file.digest, (error.strerror or str(error)).lower()) from error
        if digest_bytes(data) != file.digest:
            raise self._damaged(file.digest, "its content is not what its name says")
        return data

    # Results ------------------------------------------------------------------------------------------------------
    def get(self, key: Digest) -> StoredResult | None:
        """What the step of this key gave; None where it is not known, or any part of it is missing or damaged."""
        path = self._record(key)
        try:
            result, changed = _parse_record(path.read_bytes(), key)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        for role, file in result.files.items():
            if not self.intact(file, rehash=self._changed_ns(file) != changed.get(role)):
                return None
        with suppress(OSError):
            os.utime(path)  # the time of the last use, for `clean`
        return result

    def known(self, key: Digest) -> bool:
        """Whether there is a record for the key, damaged or not."""
        return self._record(key).exists()

    def put(self, key: Digest, result: StoredResult) -> None:
        """Remembers what a step gave; its files must be in the store already.

        Raises:
            OutputError: the file system refuses.
        """
        with self._writing(self._results) as folder, self._atomic(folder, self._record(key).name) as out:
            changed = {role: self._changed_ns(file) for role, file in result.files.items()}
            out.write(_record_bytes(key, result, changed))

    # Housekeeping -------------------------------------------------------------------------------------------------
    def size(self) -> StoreSize:
        objects = _sizes(path for path in self._objects.iterdir() if not path.name.startswith("."))
        records = _sizes(self._results.glob("*.json"))
        return StoreSize(objects=len(objects), results=len(records), size_bytes=sum(objects) + sum(records))

    def clean(self, *, older_than_s: float | None = None) -> int:
        """Removes results, with all objects that no remaining result needs; how many bytes that freed.

        Args:
            older_than_s: removes what was last used longer ago; None removes everything.

        Raises:
            OutputError: another process builds with this store.
        """
        before = self.size().size_bytes
        with self.workspaces.alone():
            limit = time.time() - older_than_s if older_than_s is not None else None
            if limit is None:
                self.stamps.forget()
            needed: set[str] = set()
            dropped: set[str] = set()
            for path in self._results.glob("*.json"):
                record = self._result_at(path)
                names = {file.digest.removeprefix(PREFIX) for file in record.files.values()} if record else set()
                if limit is None or path.stat().st_mtime < limit or record is None:
                    path.unlink()
                    dropped |= names
                else:
                    needed |= names
            for path in (*self._objects.iterdir(), *(self._logs.iterdir() if limit is None else ())):
                # What belongs to no result, such as an asset, goes by its own age.
                old = limit is None or path.name in dropped or path.stat().st_mtime < limit
                if old and path.name not in needed:
                    path.unlink()
        return before - self.size().size_bytes

    def verify(self) -> tuple[Digest, ...]:
        """Hashes every object; the names of damaged ones, which are removed so that they are made again.

        Raises:
            OutputError: a damaged one cannot be removed.
        """
        # Names with a dot are files that another process is writing just now.
        objects = [path for path in sorted(self._objects.iterdir()) if not path.name.startswith(".")]
        damaged = [path for path in objects if self._digest(path) != PREFIX + path.name]
        for path in damaged:
            try:
                path.unlink()
            except OSError as error:
                raise output_error(error, path) from error
        return tuple(PREFIX + path.name for path in damaged)

    def keep_log(self, log: Path, name: str) -> Path:
        """Keeps the log of a failed step beyond its work folder."""
        kept = self._logs / f"{name}.log"
        shutil.copyfile(log, kept)
        return kept

    # Inner --------------------------------------------------------------------------------------------------------
    def _folder(self, name: str) -> Path:
        if not self.root.is_dir():
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.root / "CACHEDIR.TAG").write_bytes(_CACHE_TAG)
        if self.root.stat().st_mode & 0o077:
            # Whoever made it: models in plain form are not for other users of the machine.
            self.root.chmod(0o700)
        path = self.root / name
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def _clean_leftovers(self) -> None:
        for path in (self._objects, self._results):
            folder = self._fs.open_folder(path)
            try:
                clean_leftovers(folder, self._fs)
            finally:
                self._fs.close(folder)
        self.workspaces.clean_leftovers()

    @contextmanager
    def _writing(self, path: Path) -> Iterator[int]:
        try:
            folder = self._fs.open_folder(path)
            try:
                yield folder
            finally:
                self._fs.close(folder)
        except OSError as error:
            raise output_error(error, path) from error

    def _atomic(self, folder: int, name: str) -> Any:
        return atomic_file_in(folder, name, overwrite=True, mode=0o400, files=self._fs)

    def _record(self, key: Digest) -> Path:
        return self._results / f"{key.removeprefix(PREFIX)}.json"

    def _result_at(self, path: Path) -> StoredResult | None:
        try:
            return _parse_record(path.read_bytes(), PREFIX + path.stem)[0]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _changed_ns(self, file: StoredFile) -> int:
        """When an object's content last changed; 0 where it is missing."""
        try:
            return self.path(file.digest).stat().st_mtime_ns
        except OSError:
            return 0

    def _digest(self, path: Path) -> Digest:
        with path.open("rb") as file:
            return PREFIX + hashlib.file_digest(file, "sha256").hexdigest()

    def _damaged(self, digest: Digest, reason: str) -> FileError:
        return FileError(
            f"object {digest} of the store is damaged: {reason}", hint="sdkpack store clean, then pack again"
        )


def _sizes(paths: Iterable[Path]) -> list[int]:
    sizes = []
    for path in paths:
        with suppress(FileNotFoundError):  # another process cleans
            sizes.append(path.stat().st_size)
    return sizes


def _record_bytes(key: Digest, result: StoredResult, changed: Mapping[str, int]) -> bytes:
    files = {
        role: [file.digest, file.size_bytes, file.media_type, changed[role]] for role, file in result.files.items()
    }
    record = {"data": dict(result.data), "files": files, "key": key, "v": _RECORD_VERSION}
    return canonical_json({"record": record, "sha256": digest_json(record)}) + b"\n"


def _parse_record(data: bytes, key: Digest) -> tuple[StoredResult, dict[str, int]]:
    document = json.loads(data)
    record = document["record"]
    if document["sha256"] != digest_json(record) or record["v"] != _RECORD_VERSION or record["key"] != key:
        raise ValueError("damaged record")
    files = {
        role: StoredFile(digest=digest, size_bytes=size, media_type=media_type)
        for role, (digest, size, media_type, _) in record["files"].items()
    }
    changed = {role: row[3] for role, row in record["files"].items()}
    return StoredResult(files=files, data=record["data"]), changed

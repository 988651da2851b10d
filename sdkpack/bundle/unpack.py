"""Writes a bundle's files to a folder: beneath it and nowhere else, each whole and verified or not at all."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from sdkpack.bundle.files import FileSystem, atomic_file_in, clean_leftovers, output_error
from sdkpack.bundle.paths import check_path
from sdkpack.errors import LimitError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sdkpack.bundle.verified import VerifiedBundle

__all__ = ["default_quota", "unpack"]

_QUOTA_FACTOR: Final = 4
_QUOTA_BASE: Final = 1 << 30


def default_quota(bundle_size: int) -> int:
    """Many names on one blob are a bomb: what comes out is bounded by what went in."""
    return _QUOTA_FACTOR * bundle_size + _QUOTA_BASE


def unpack(
    bundle: VerifiedBundle, folder: Path, *, quota_bytes: int | None = None, files: FileSystem | None = None
) -> None:
    """Writes all files beneath `folder`, which is made where it does not exist.

    Symbolic links in the folder are not followed, names are opened one component at a time, and no file gets its name
    before its last byte is verified and on disk.

    Args:
        bundle: what to unpack.
        folder: where to.
        quota_bytes: the most that may be written; by default four times the bundle and 1 GiB.
        files: the file system.

    Raises:
        LimitError: the files are larger than the quota; nothing was written.
        OutputError: a name exists already, or the file system refuses.
        PayloadError: a blob was changed; files that were verified before it stay.
    """
    files = files or FileSystem()
    quota = default_quota(bundle.size_bytes) if quota_bytes is None else quota_bytes
    total = sum(info.size_bytes for info in bundle.files.values())
    if total > quota:
        raise LimitError(f"the files take {total} bytes, more than the quota of {quota}", hint="raise the quota")
    root = _open_root(folder.absolute(), files)
    try:
        cleaned: set[str] = set()
        for path in bundle.files:
            check_path(path)
            _unpack_file(bundle, path, folder, root, files, cleaned)
    finally:
        files.close(root)


def _open_root(folder: Path, files: FileSystem) -> int:
    """Opens the folder, making it where it does not exist; the user's own path may go through links."""
    try:
        parent = files.open_folder(folder.parent)
        try:
            _make_folder(folder.name, parent, files)
        finally:
            files.close(parent)
        return files.open_folder(folder)
    except OSError as error:
        raise output_error(error, folder) from error


def _make_folder(name: str, parent: int, files: FileSystem) -> None:
    with suppress(FileExistsError):
        files.make_folder(name, dir_fd=parent)
        files.fsync(parent)


def _unpack_file(
    bundle: VerifiedBundle, path: str, folder: Path, root: int, files: FileSystem, cleaned: set[str]
) -> None:
    *parents, name = path.split("/")
    try:
        with _descend(root, parents, files) as fd:
            if (place := "/".join(parents)) not in cleaned:
                clean_leftovers(fd, files)
                cleaned.add(place)
            with atomic_file_in(fd, name, overwrite=False, files=files) as out:
                bundle.stream(path, out.write)
    except OSError as error:
        raise output_error(error, folder / path) from error


@contextmanager
def _descend(root: int, parents: list[str], files: FileSystem) -> Iterator[int]:
    """Opens the folder of a file, making what is missing; a symbolic link on the way is an error."""
    fd = files.open_folder(".", dir_fd=root)
    try:
        for part in parents:
            _make_folder(part, fd, files)
            below = files.open_folder(part, dir_fd=fd, follow=False)
            files.close(fd)
            fd = below
        yield fd
    finally:
        files.close(fd)

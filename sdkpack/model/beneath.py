"""Opens a file below a folder in a way that nobody can lead outside, also while it happens.

One open file descriptor is checked and then used for everything, so there is no moment between check and use. The
kernel does the walk (openat2, Linux 5.6) or, where it cannot, we do it component by component, following no links.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import sys

__all__ = ["NotBeneathError", "Openat2Missing", "open_beneath", "open_beneath_stepwise", "openat2"]

# O_NONBLOCK: opening a fifo without a writer would hang. O_NOCTTY: opening a terminal must not adopt it.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

# linux/openat2.h; the number is the same on every architecture (system calls added since Linux 5.1).
_OPENAT2_NUMBER = 437
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 0x02, 0x04, 0x08


class NotBeneathError(Exception):
    """The name does not lead to a plain file below the folder; `reason` says why, in words for a message."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Openat2Missing(Exception):  # noqa: N818 - a fact about the kernel, not an error of the caller
    """This kernel, or its sandbox, has no openat2."""


def open_beneath(folder_fd: int, name: str) -> int:
    """Opens `name` for reading below `folder_fd`; the caller closes the descriptor.

    `name` is relative, of components joined by `/`, none of them `..`. The file is regular and has one link.

    Raises:
        NotBeneathError: anything else is the case.
    """
    parts = _components(name)
    try:
        try:
            fd = openat2(folder_fd, "/".join(parts))
        except Openat2Missing:
            fd = open_beneath_stepwise(folder_fd, parts)
    except OSError as error:
        raise NotBeneathError(_reason(error)) from None
    try:
        _check(os.fstat(fd))
    except BaseException:
        os.close(fd)
        raise
    return fd


def openat2(folder_fd: int, name: str) -> int:
    """The system call, confined to `folder_fd`, with no link followed on the way.

    Raises:
        Openat2Missing: the kernel, or a sandbox around us, does not have it.
        OSError: the kernel refused.
    """
    if not sys.platform.startswith("linux"):
        raise Openat2Missing
    resolve = _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS
    how = struct.pack("=QQQ", _FLAGS, 0, resolve)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    fd: int = libc.syscall(
        ctypes.c_long(_OPENAT2_NUMBER),
        ctypes.c_int(folder_fd),
        ctypes.c_char_p(os.fsencode(name)),
        ctypes.c_char_p(how),
        ctypes.c_size_t(len(how)),
    )
    if fd >= 0:
        return fd
    code = ctypes.get_errno()
    # EPERM is what older container sandboxes answer for system calls they do not know; the kernel's own openat2 gives
    # it for nothing that a read-only open could meet, and the step-wise walk is just as strict.
    if code in (errno.ENOSYS, errno.EPERM):
        raise Openat2Missing
    raise OSError(code, os.strerror(code), name)


def open_beneath_stepwise(folder_fd: int, parts: list[str]) -> int:
    """The same by hand: each folder opened relative to its parent, no link followed at any component."""
    at = os.dup(folder_fd)
    try:
        for part in parts[:-1]:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
            os.close(at)
            at = below
        return os.open(parts[-1], _FLAGS | os.O_NOFOLLOW, dir_fd=at)
    finally:
        os.close(at)


def _components(name: str) -> list[str]:
    if not name:
        raise NotBeneathError("the location is empty")
    if "\0" in name:
        raise NotBeneathError("the location contains a NUL character")
    if name.startswith("/"):
        raise NotBeneathError("the location is an absolute path")
    if "\\" in name:
        raise NotBeneathError("the location contains a backslash")
    parts = name.split("/")
    if ".." in parts:
        raise NotBeneathError("the location contains '..'")
    if parts[0] == "." and len(parts) > 1:  # './weights.bin' is a common and harmless way to write it
        parts = parts[1:]
    if any(part in ("", ".") for part in parts):
        raise NotBeneathError("the location has an empty or '.' component")
    return parts


def _check(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise NotBeneathError(f"it is {_kind(status.st_mode)}, expected a regular file")
    # A hard link is how an attacker who may write to the model's folder names a file that he may not read but we may
    # (the class of CVE-2026-34446); it cannot be told from the original, so a second name is refused.
    if status.st_nlink != 1:
        raise NotBeneathError(f"the file has {status.st_nlink} hard links, expected 1")


def _kind(mode: int) -> str:
    names = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a fifo", stat.S_IFSOCK: "a socket"}
    return names.get(stat.S_IFMT(mode), "a device")


def _reason(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "it is, or leads through, a symbolic link"
    if error.errno == errno.EXDEV:
        return "it leads outside the model's folder"
    if error.errno == errno.ENXIO:
        return "it is a socket or a device, expected a regular file"
    if error.errno == errno.ENOENT:
        return "there is no such file"
    return os.strerror(error.errno or 0).lower()

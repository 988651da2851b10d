"""Carries unchanged bytes from one bundle to another, without passing them through this process where possible."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from sdkpack.bundle.source import ByteSource, FileSource

if TYPE_CHECKING:
    from sdkpack.bundle.files import AtomicFile

__all__ = ["copy_range"]

_BUFFER: Final = 1 << 20
# Not on this kernel, not between these file systems, not for this kind of file: then copy by hand.
_UNSUPPORTED: Final = frozenset({errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF})


def copy_range(source: ByteSource, out: AtomicFile, offset: int, size: int) -> None:
    """Appends `size` bytes of `source` from `offset` to `out`; extents are shared where the file system can.

    Raises:
        PayloadError: the source became shorter.
        OSError: as the file system says.
    """
    done = _by_kernel(source, out, offset, size) if isinstance(source, FileSource) else 0
    buffer = memoryview(bytearray(min(_BUFFER, max(1, size - done))))
    while done < size:
        part = buffer[: min(len(buffer), size - done)]
        source.read_into(offset + done, part)
        out.write(part)
        done += len(part)


def _by_kernel(source: FileSource, out: AtomicFile, offset: int, size: int) -> int:
    """Returns how many bytes the kernel copied; fewer than asked where it cannot go on."""
    done = 0
    while done < size:
        try:
            count = out.copy_from(source.fd, offset + done, size - done)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            return done
        if count == 0:
            return done
        done += count
    return done

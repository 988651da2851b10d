"""Serves a runner: one process for one loaded part, which answers until it is told to close."""

import dataclasses
import importlib
import mmap
import os
import sys
from pathlib import Path

from sdkpack_job import frames
from sdkpack_job.codec import decode, plain, told

_LONGEST_HEAD = 1 << 30


def serve(job):
    """Answers messages on the descriptor `job["channel"]`, in order, until `close` or until nobody asks any more."""
    channel = _Channel(job["channel"])
    served = _Served(job)
    while True:
        try:
            head, arrays = frames.receive(channel.read, _LONGEST_HEAD)
        except EOFError:
            return 0
        for buffer in _answered(served, head, arrays):
            channel.write(buffer)
        if head["call"] == "close":
            return 0


def _answered(served, head, arrays):
    try:
        result, given = getattr(served, head["call"])(head, arrays)
        return frames.message({"ok": True, "result": plain(result)}, given)
    except Exception as error:
        sys.excepthook(*sys.exc_info())
        return frames.message({"ok": False, "error": told(error)}, {})


class _Served:
    """One runner, and the session that it opened. Each method takes a message and gives a result and arrays."""

    def __init__(self, job):
        self._job = job
        self._made = None
        self._session = None

    def devices(self, head, arrays):
        return self._runner().devices(), {}

    def check(self, head, arrays):
        return self._runner().check(decode(head["needs"]), head["token"]), {}

    def open(self, head, arrays):
        request = decode(head["request"])
        files = {role: Blob(**facts) for role, facts in head["files"].items()}
        if dataclasses.is_dataclass(request):
            request = dataclasses.replace(request, files=files)
        else:
            request.files = files
        self._session = self._runner().open(request)
        return None, {}

    def run(self, head, arrays):
        return None, self._session.run(arrays)

    def close(self, head, arrays):
        if self._session is not None:
            self._session.close()
        return None, {}

    def _runner(self):
        if self._made is None:
            module, _, name = self._job["load"].partition(":")
            self._made = getattr(importlib.import_module(module), name)()
        return self._made


class Blob:
    """A file of a bundle, behind a descriptor that came with this process; the plugin API's `Blob`."""

    def __init__(self, fd, path, size_bytes, media_type):
        self.size_bytes = size_bytes
        self.media_type = media_type
        self._fd = fd
        self._path = path
        self._view = None

    def memory(self):
        """Writable, and nobody else sees what is written: the pages are shared until then."""
        if self._view is None:
            if self.size_bytes:
                self._view = memoryview(mmap.mmap(self._fd, self.size_bytes, flags=mmap.MAP_PRIVATE))
            else:
                self._view = memoryview(bytearray())
        return self._view

    def release(self):
        self._view = None

    def file_range(self):
        """None: the files of the other side's disk are not to be seen here."""

    def path(self):
        return Path(self._path)


class _Channel:
    def __init__(self, fd):
        self._fd = fd

    def read(self, buffer):
        at = 0
        while at < len(buffer):
            count = os.readv(self._fd, [buffer[at:]])
            if not count:
                raise EOFError
            at += count

    def write(self, buffer):
        at, view = 0, memoryview(buffer)
        while at < len(view):
            at += os.write(self._fd, view[at:])

"""A converter for the tests of this folder: it runs outside of the tests' process, and misbehaves where it is told to.

Formats do not matter here: what it writes is text, and whether that is a model is somebody else's question.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from sdkpack.errors import ModelError, StepError
from sdkpack.plugin import (
    ConverterInfo,
    ConvertRequest,
    ConvertResult,
    EnvironmentSpec,
    Half,
    Probe,
    SniffRequest,
    SniffResult,
    StepContext,
)

EMPTY = EnvironmentSpec(requirements=(), smoke_test="import json")


@dataclass(frozen=True)
class Params:
    fault: str = ""
    target: str = ""


def info(isolation: str = "environment", **changes: object) -> ConverterInfo:
    half = Half(
        load=f"{__name__}:Converter",
        isolation=isolation,  # type: ignore[arg-type]
        environment=EMPTY if isolation == "environment" else None,
        memory_limit_bytes=1 << 30,
        disk_limit_bytes=16 << 20,
    )
    facts: dict[str, object] = {
        "name": "test.text", "summary": "For tests.", "reads": ("text/x-test",), "params": Params, "half": half,
        "time_limit_s": 20.0, **changes,
    }  # fmt: skip
    return ConverterInfo(**facts)  # type: ignore[arg-type]


class Converter:
    def probe(self) -> Probe:
        return Probe(ok=True, fingerprint="text 1")

    def sniff(self, request: SniffRequest) -> SniffResult:
        mine = request.source.read_bytes().startswith(b"mine")
        return SniffResult(score=0.9 if mine else 0.0, reason="it says so")

    def convert(self, request: ConvertRequest, context: StepContext) -> ConvertResult:
        assert isinstance(request.source, Path)
        assert request.name == "net"
        context.progress(0.0, "begin")
        os.write(1, b"garbage on stdout {\n")
        model = context.work / "model.onnx"
        fault = getattr(Faults, request.params.fault, None)
        if fault is not None:
            found = fault(request, context)
            if found is not None:
                return found  # type: ignore[no-any-return]
        model.write_bytes(b"converted " + request.source.read_bytes() + f" {context.seed}".encode())
        context.progress(1.0, "done")
        return ConvertResult(model=model, notes=(f"pid {os.getpid()}",), tools={"text": "1"})


class Faults:
    """Each is one way of going wrong, by name."""

    @staticmethod
    def segfault(request: ConvertRequest, context: StepContext) -> None:
        ctypes.string_at(0)

    @staticmethod
    def abort(request: ConvertRequest, context: StepContext) -> None:
        os.abort()

    @staticmethod
    def exit(request: ConvertRequest, context: StepContext) -> None:
        os._exit(7)

    @staticmethod
    def leave(request: ConvertRequest, context: StepContext) -> None:
        os._exit(0)

    @staticmethod
    def sys_exit(request: ConvertRequest, context: StepContext) -> None:
        sys.exit(0)

    @staticmethod
    def killed(request: ConvertRequest, context: StepContext) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    @staticmethod
    def hang(request: ConvertRequest, context: StepContext) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)

    @staticmethod
    def bug(request: ConvertRequest, context: StepContext) -> None:
        raise ZeroDivisionError("no luck")

    @staticmethod
    def refuse(request: ConvertRequest, context: StepContext) -> None:
        raise ModelError("layer 'Swish' is not supported", hint="export without it")

    @staticmethod
    def fail(request: ConvertRequest, context: StepContext) -> None:
        raise StepError("the tool found no memory layout")

    @staticmethod
    def lacking(request: ConvertRequest, context: StepContext) -> None:
        import numpy as np

        context.log.info("%s", np)

    @staticmethod
    def memory(request: ConvertRequest, context: StepContext) -> None:
        bytearray(4 << 30)

    @staticmethod
    def one_file(request: ConvertRequest, context: StepContext) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        with (context.work / "big").open("wb") as out:
            while True:
                out.write(bytes(1 << 20))
                out.flush()

    @staticmethod
    def many_files(request: ConvertRequest, context: StepContext) -> None:
        for number in range(10_000):
            (context.work / f"{number}").write_bytes(bytes(1 << 20))
            time.sleep(0.01)

    @staticmethod
    def talk(request: ConvertRequest, context: StepContext) -> None:
        while True:
            os.write(1, b"x" * 65536)
            time.sleep(0.001)

    @staticmethod
    def fork(request: ConvertRequest, context: StepContext) -> None:
        while True:
            if not os.fork():
                time.sleep(600)

    @staticmethod
    def no_fork(request: ConvertRequest, context: StepContext) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    @staticmethod
    def daemon(request: ConvertRequest, context: StepContext) -> None:
        # A double fork with a session of its own: out of the process group that is ended with the job.
        if not os.fork():
            os.setsid()
            if not os.fork():
                Path(context.work / "alive").write_text("yes")
                time.sleep(600)
            os._exit(0)
        while not (context.work / "alive").exists():
            time.sleep(0.01)

    @staticmethod
    def missing(request: ConvertRequest, context: StepContext) -> ConvertResult:
        return ConvertResult(model=context.work / "nothing.onnx")

    @staticmethod
    def outside(request: ConvertRequest, context: StepContext) -> ConvertResult:
        return ConvertResult(model=Path("/usr/bin/env"))

    @staticmethod
    def above(request: ConvertRequest, context: StepContext) -> ConvertResult:
        return ConvertResult(model=Path("../../../log"))

    @staticmethod
    def link(request: ConvertRequest, context: StepContext) -> ConvertResult:
        (context.work / "link").symlink_to("/etc/passwd")
        return ConvertResult(model=context.work / "link")

    @staticmethod
    def empty(request: ConvertRequest, context: StepContext) -> ConvertResult:
        (context.work / "empty").touch()
        return ConvertResult(model=context.work / "empty")

    @staticmethod
    def wrong_type(request: ConvertRequest, context: StepContext) -> object:
        return {"model": 5}

    @staticmethod
    def no_result(request: ConvertRequest, context: StepContext) -> object:
        return []

    @staticmethod
    def fake_answer(request: ConvertRequest, context: StepContext) -> None:
        (context.work.parent / "answer" / "result.json").write_bytes(b'{"ok": true, "result": NaN')
        os._exit(0)

    @staticmethod
    def long_answer(request: ConvertRequest, context: StepContext) -> None:
        (context.work.parent / "answer" / "result.json").write_bytes(b"[" * (5 << 20))
        os._exit(0)

    @staticmethod
    def linked_answer(request: ConvertRequest, context: StepContext) -> None:
        (context.work.parent / "answer" / "result.json").symlink_to("/etc/passwd")
        os._exit(0)

    @staticmethod
    def fifo_answer(request: ConvertRequest, context: StepContext) -> None:
        os.mkfifo(context.work.parent / "answer" / "result.json")
        os._exit(0)

    @staticmethod
    def odd_progress(request: ConvertRequest, context: StepContext) -> None:
        with (context.work.parent / "progress.ndjson").open("ab") as out:
            out.write(b'\xff\xfe\n[1,2]\n{"fraction": "half"}\n{"fraction": 1e999, "text": "\\u001b[2Jx"}\n')

    # What a job should not be able to do: each writes down how far it came. ------------------------------------------
    @staticmethod
    def environment(request: ConvertRequest, context: StepContext) -> None:
        import json

        (context.work / "found").write_text(json.dumps(dict(os.environ)))

    @staticmethod
    def parent_environment(request: ConvertRequest, context: StepContext) -> None:
        _write_down(context, lambda: Path(f"/proc/{request.params.target}/environ").read_text())

    @staticmethod
    def read(request: ConvertRequest, context: StepContext) -> None:
        _write_down(context, lambda: Path(request.params.target).read_text())

    @staticmethod
    def write(request: ConvertRequest, context: StepContext) -> None:
        _write_down(context, lambda: str(Path(request.params.target).write_text("was here")))

    @staticmethod
    def network(request: ConvertRequest, context: StepContext) -> None:
        def connect() -> str:
            host, port = request.params.target.split(":")
            with socket.create_connection((host, int(port)), timeout=5) as found:
                return found.recv(100).decode()

        _write_down(context, connect)

    @staticmethod
    def local_socket(request: ConvertRequest, context: StepContext) -> None:
        def connect() -> str:
            with socket.socket(socket.AF_UNIX) as made:
                made.settimeout(5)
                made.connect(request.params.target)
                return made.recv(100).decode()

        _write_down(context, connect)

    @staticmethod
    def kill(request: ConvertRequest, context: StepContext) -> None:
        _write_down(context, lambda: str(os.kill(int(request.params.target), signal.SIGTERM)))

    @staticmethod
    def pip(request: ConvertRequest, context: StepContext) -> None:
        def look() -> str:
            import shutil

            in_python = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False)
            assert shutil.which("pip") or in_python.returncode == 0, "there is no pip"
            return "pip"

        _write_down(context, look)

    @staticmethod
    def home(request: ConvertRequest, context: StepContext) -> None:
        (Path.home() / ".config").mkdir()
        (context.work / "found").write_text(str(Path.home()))


def _write_down(context: StepContext, attempt: object) -> None:
    assert callable(attempt)
    try:
        text = "got " + str(attempt())
    except (OSError, AssertionError) as error:
        text = f"refused {error}"
    (context.work / "found").write_text(text)

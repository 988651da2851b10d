"""A runtime whose runner works in an environment of its own, and in every wrong way that its options name."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sdkpack.errors import RunError
from sdkpack.plugin import DeviceInfo, EnvironmentSpec, Fit, Half, OpenRequest, RuntimeInfo, hookimpl

SDKPACK_API = (1, 0)
ENVIRONMENT = EnvironmentSpec(requirements=("numpy==2.3.5",), smoke_test="import numpy", size_bytes=80 << 20)


class Runner:
    """Adds the file `weights` to its input, both float32."""

    def devices(self) -> Sequence[DeviceInfo]:
        return (DeviceInfo(name="apart", kind="simulator", facts={"pid": str(os.getpid())}),)

    def check(self, needs: Mapping[str, Any], token: str) -> Fit:
        if needs.get("crash"):
            os.abort()
        return Fit(verdict="no", reason="another chip") if token == "foreign" else Fit(verdict="best")

    def open(self, request: OpenRequest) -> Session:
        import numpy as np

        if request.options.get("refuse"):
            raise RunError("the driver refused the program", hint="pack it again")
        if request.options.get("crash_at_open"):
            os.kill(os.getpid(), 11)
        weights = request.files.get("weights")
        bias = np.zeros(1, np.float32) if weights is None else np.frombuffer(weights.memory(), np.float32)
        return Session(request, bias)


class Session:
    def __init__(self, request: OpenRequest, bias: Any) -> None:
        self._request, self._bias = request, bias

    def run(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        options = self._request.options
        # Once only, where a marker says so: the file outlives the process.
        fault = options.get("fault") if any(float(array.flat[0]) < 0 for array in inputs.values()) else ""
        if fault:
            return FAULTS[fault](self._request, inputs)
        sys.stdout.write(f"computing {options}\n")
        return {spec.name: sum(inputs.values()) + self._bias for spec in self._request.outputs}

    def close(self) -> None: ...


def _segfault(request: Any, inputs: Any) -> Any:
    import ctypes

    sys.stderr.write("about to read nothing\n")
    ctypes.string_at(0)


def _hang(request: Any, inputs: Any) -> Any:
    time.sleep(600)


def _channel() -> int:
    import json

    return int(json.loads((Path.cwd().parent / "job.json").read_text())["channel"])


def _garbage(request: Any, inputs: Any) -> Any:
    os.write(_channel(), b"{'y': 1}, as a vendor's demo prints it")
    time.sleep(600)


def _huge(request: Any, inputs: Any) -> Any:
    head = b'{"ok": true, "result": null, "arrays": [["y", "float32", [1099511627776, 1048576]]]}'
    os.write(_channel(), b"SDK1" + len(head).to_bytes(8, "little") + head)
    time.sleep(600)


def _objects(request: Any, inputs: Any) -> Any:
    import numpy as np

    return {"y": np.array([object()])}


def _raise(request: Any, inputs: Any) -> Any:
    raise ArithmeticError("the device is on fire")


def _quit(request: Any, inputs: Any) -> Any:
    os._exit(0)


def _talk(request: Any, inputs: Any) -> Any:
    for number in range(40_000):
        sys.stdout.write(f"line {number} of a driver that talks\n")
    return dict.fromkeys((spec.name for spec in request.outputs), sum(inputs.values()))


def _look_around(request: Any, inputs: Any) -> Any:
    """What it can read and write, and what it is told, as strings."""
    import numpy as np

    told = [f"{name}={value}" for name, value in os.environ.items()]
    for path in (Path.home() / "x", Path(os.environ["TMPDIR"]) / "x", Path.cwd() / "x"):
        try:
            path.write_bytes(b"plaintext")
            told.append(f"wrote {path}")
        except OSError as error:
            told.append(f"could not write: {type(error).__name__}")
    with request.files["weights"].path().open("rb") as file:
        told.append(f"weights {len(file.read())} {Path(file.name).suffix}")
        try:
            os.write(os.open(file.name, os.O_RDWR), b"changed")
            told.append("changed the weights")
        except OSError as error:
            told.append(f"weights {type(error).__name__}")
    return {"y": np.array(told)}


FAULTS = {
    "segfault": _segfault, "hang": _hang, "garbage": _garbage, "huge": _huge, "objects": _objects, "raise": _raise,
    "quit": _quit, "talk": _talk, "look": _look_around,
}  # fmt: skip


def info(**more: Any) -> RuntimeInfo:
    half = Half(load=f"{__name__}:Runner", isolation="environment", environment=ENVIRONMENT)
    return RuntimeInfo(name="test.apart", summary="For tests.", **{"runner": half, "time_limit_s": 60.0, **more})


@hookimpl
def sdkpack_runtimes() -> list[RuntimeInfo]:
    return [info()]

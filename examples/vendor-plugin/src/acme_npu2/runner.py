"""The runner half: the driver loads programs by path only, like many."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from acme_npu2.plugin import TOKEN
from sdkpack.errors import RunError
from sdkpack.plugin import DeviceInfo, Fit, OpenRequest

BOARD = "ACME_NPU2_BOARD"
_MEMORY_BYTES = 4096 * 1024


class Npu2Runner:
    """Runs programs on the board where one is plugged in, else on the simulator."""

    def devices(self) -> Sequence[DeviceInfo]:
        if os.environ.get(BOARD):
            return [DeviceInfo(name="npu2", kind="device", facts={"driver": "2.4", "firmware": "2.4.1"})]
        return [DeviceInfo(name="npu2-simulator", kind="simulator", facts={"driver": "sim 5.1"})]

    def check(self, needs: Mapping[str, Any], token: str) -> Fit:
        if token != TOKEN:
            return Fit(verdict="no", reason=f"compiled for {token!r}, this driver runs {TOKEN!r}")
        if needs.get("memory_bytes", 0) > _MEMORY_BYTES:
            return Fit(verdict="no", reason=f"needs {needs['memory_bytes']} bytes, the device has {_MEMORY_BYTES}")
        return Fit(verdict="best" if os.environ.get(BOARD) else "works")

    def open(self, request: OpenRequest) -> Npu2Session:
        """
        Raises:
            RunError: the file is no program, has no such model, or does not fit.
        """
        from acme_npu2.toolchain.program import load

        limit = request.memory_limit_bytes
        try:
            model, memory_bytes = load(str(request.files["program"].path()), request.entry)
        except (OSError, ValueError, KeyError) as error:
            raise RunError(f"the driver refused the program: {error}", hint="pack the bundle again") from error
        if limit is not None and memory_bytes > limit:
            raise RunError(f"the program needs {memory_bytes} bytes, the session's limit leaves {limit}")
        return Npu2Session(model, board=self.devices()[0].kind == "device")


class Npu2Session:
    """A loaded model. The device runs one at a time."""

    def __init__(self, model: Any, *, board: bool) -> None:
        self._model, self._board = model, board
        self._lock = threading.Lock()

    def run(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        with self._lock:
            if self._model is None:
                raise RunError("the session is closed", hint="open it again")
            outputs: Mapping[str, Any] = self._model.run(inputs, board=self._board)
            return outputs

    def close(self) -> None:
        with self._lock:
            self._model = None

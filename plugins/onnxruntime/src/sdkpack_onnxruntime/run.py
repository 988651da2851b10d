"""The runner: opens a part from memory, or from the bundle file itself, and runs it. Imports no `onnx`."""

from __future__ import annotations

import gc
import logging
import os
from typing import TYPE_CHECKING, Any, Final

from sdkpack.errors import InputError, RunError
from sdkpack.plugin import DeviceInfo, Fit
from sdkpack_onnxruntime.elements import array_of, element_name, is_foreign, value_of
from sdkpack_onnxruntime.library import available_devices, load_library, provider_of
from sdkpack_onnxruntime.needs import TOKEN, meets
from sdkpack_onnxruntime.options import Options
from sdkpack_onnxruntime.weights import IN_MEMORY, graph_with, ort_values, read_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from sdkpack.plugin import Blob, OpenRequest
    from sdkpack.types import TensorSpec
    from sdkpack_onnxruntime.weights import Tensor

__all__ = ["OnnxRuntimeRunner", "OnnxRuntimeSession"]

_log = logging.getLogger("sdkpack.onnxruntime")

_FOLDER_KEY: Final = "session.model_external_initializers_file_folder_path"


class OnnxRuntimeRunner:
    """Runs models with the installed onnxruntime."""

    def devices(self) -> Sequence[DeviceInfo]:
        library = load_library()
        return [
            DeviceInfo(name=name, summary=provider, facts={"onnxruntime": library.__version__})
            for name, provider in available_devices(library).items()
        ]

    def check(self, needs: Mapping[str, Any], token: str) -> Fit:
        """Whether a variant with these needs would run here."""
        if token != TOKEN:
            return Fit(verdict="no", reason=f"made for another generation of the plugin: got {token!r}, have {TOKEN!r}")
        library = load_library()
        version = str(needs.get("version", ""))
        if not meets(library.__version__, version):
            return Fit(verdict="no", reason=f"onnxruntime {version} is needed, {library.__version__} is installed")
        device = str(needs.get("device", "cpu"))
        if provider_of(library, device) is None:
            have = ", ".join(available_devices(library))
            return Fit(verdict="no", reason=f"device {device!r} is needed, this onnxruntime has {have}")
        return Fit(verdict="works" if device == "cpu" else "best")

    def open(self, request: OpenRequest) -> OnnxRuntimeSession:
        """Makes a part ready: files `graph`, and `weights` with `tensors` where the model has large weights.

        Encrypted: weights are used from the memory that they were decrypted to. Plain: onnxruntime maps them from the
        bundle file. Nothing is written anywhere.

        Raises:
            RunError: onnxruntime refused the model, or would run it elsewhere than on the stated device.
        """
        options = Options.read({**request.options, **({"device": request.device} if request.device else {})})
        library = load_library()
        provider = provider_of(library, options.device)
        if provider is None:
            raise RunError(
                f"device {options.device!r} is not available, got {', '.join(available_devices(library))}",
                hint="install the build of onnxruntime for it",
            )
        opening = _Opening(library, request, options, provider)
        session, kept = opening.open()
        used = session.get_providers()
        if used[0] != provider:
            raise RunError(f"onnxruntime fell back from {provider} to {used[0]}", hint="check the device's drivers")
        return OnnxRuntimeSession(session, request.inputs, kept)


class OnnxRuntimeSession:
    """A loaded part; `run` may be called by several threads at once."""

    def __init__(self, session: Any, inputs: Sequence[TensorSpec], kept: tuple[Any, ...]) -> None:
        # One tuple, so that a run in another thread keeps both alive over a close: memory of shared weights that is
        # freed under a running session gives other numbers, not an error.
        self._state: tuple[Any, tuple[Any, ...]] | None = session, kept
        self._weights = "shared" if kept else "packed"
        self._specs = {spec.name: spec for spec in inputs}
        self._names = [output.name for output in session.get_outputs()]
        self._types = [output.type for output in session.get_outputs()]
        self._foreign = any(map(is_foreign, [*self._types, *(value.type for value in session.get_inputs())]))

    def run(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Computes all outputs, NumPy arrays by name.

        Raises:
            InputError: an array is missing, unknown, or of another type or shape than its spec.
            RunError: onnxruntime failed, or the session is closed.
        """
        state = self._state
        if state is None:
            raise RunError("the session is closed", hint="open the bundle again")
        for name in inputs.keys() ^ self._specs.keys():
            what = "missing" if name in self._specs else "unknown"
            raise InputError(f"input {name!r} is {what}, expected {', '.join(map(str, self._specs.values()))}")
        for name, spec in self._specs.items():
            _check_input(inputs[name], spec)
        try:
            values = self._foreign_run(state[0], inputs) if self._foreign else state[0].run(self._names, dict(inputs))
        except Exception as error:  # the library's own exceptions share no base but this
            raise RunError(f"onnxruntime failed: {_first_line(error)}") from None
        return dict(zip(self._names, values, strict=True))

    def _foreign_run(self, session: Any, inputs: Mapping[str, Any]) -> list[Any]:
        """A run with element types that NumPy lacks."""
        library = load_library()
        fed = {name: value_of(library, array) for name, array in inputs.items()}
        values = session.run_with_ort_values(self._names, fed)
        return [array_of(value, text) for value, text in zip(values, self._types, strict=True)]

    @property
    def weights(self) -> str:
        """How large weights are held: `shared` with the memory they were decrypted to, or `packed`."""
        return self._weights

    def names(self) -> tuple[list[str], list[str]]:
        """Inputs and outputs as onnxruntime sees them, in its order."""
        if self._state is None:
            return [], []
        session = self._state[0]
        return [value.name for value in session.get_inputs()], [value.name for value in session.get_outputs()]

    def close(self) -> None:
        """Frees the session and the weights that it used, when the last run in another thread has ended."""
        self._state = None


class _Opening:
    """One attempt to make a session, and a second one where sharing weights turns out impossible."""

    def __init__(self, library: Any, request: OpenRequest, options: Options, provider: str) -> None:
        self._library = library
        self._request = request
        self._options = options
        self._provider = provider
        self._graph = self._read("graph")
        weights = request.files.get("weights")
        self._weights = weights if weights is not None and weights.size_bytes else None
        self._tensors: tuple[Tensor, ...] = ()
        if self._weights is not None:
            self._tensors = read_tensors(self._read("tensors"), self._weights.size_bytes)
            self._check_budget(self._weights.size_bytes)

    def open(self) -> tuple[Any, tuple[Any, ...]]:
        """The session, and what must live as long as it does."""
        if self._weights is None:
            return self._session(self._graph, self._session_options(self._options)), ()
        place = None if self._request.encrypted else self._weights.file_range()
        if place is not None:
            return self._from_file(*place), ()
        if self._options.weights == "shared":
            try:
                return self._sharing(self._weights)
            except RunError as error:
                # Graph optimisation that needs a weight's value cannot see shared ones and fails: nothing is wrong with
                # the model, and packed weights give the same results, later and with more memory at the peak.
                _log.info("weights cannot be shared, they are packed instead: %s", error.message)
        return self._packing(self._weights), ()

    def _from_file(self, path: Path, offset: int, length: int) -> Any:
        """The weights stay in the bundle; onnxruntime maps them, and reads what it must rearrange."""
        # Resolved: onnxruntime refuses external data that is a symbolic link, which a bundle's own path may well be.
        folder, name = os.path.split(os.path.realpath(path))
        settings = self._session_options(self._options)
        settings.add_session_config_entry(_FOLDER_KEY, folder)
        return self._session(graph_with(self._graph, self._tensors, name, offset), settings)

    def _sharing(self, weights: Blob) -> tuple[Any, tuple[Any, ...]]:
        memory = weights.memory()
        values = ort_values(self._library, self._tensors, memory)
        settings = self._session_options(self._options)
        for tensor, value in zip(self._tensors, values, strict=True):
            settings.add_initializer(tensor.name, value)
        session = self._session(graph_with(self._graph, self._tensors, IN_MEMORY, 0), settings)
        return session, (values, memory)

    def _packing(self, weights: Blob) -> Any:
        options = Options(**{**self._options.as_json(), "weights": "packed"})
        settings = self._session_options(options)
        values = ort_values(self._library, self._tensors, weights.memory())
        settings.add_external_initializers([tensor.name for tensor in self._tensors], values)
        session = self._session(graph_with(self._graph, self._tensors, IN_MEMORY, 0), settings)
        # The session has copied what it needs; the decrypted weights are given back before anybody counts memory.
        del settings, values
        gc.collect()
        weights.release()
        return session

    def _session_options(self, options: Options) -> Any:
        return options.session_options(self._library, self._request.threads)

    def _session(self, model: bytes, settings: Any) -> Any:
        try:
            # enable_fallback=0: else the Python wrapper prints a line and tries another device.
            return self._library.InferenceSession(model, settings, providers=[self._provider], enable_fallback=0)
        except Exception as error:  # the library's own exceptions share no base but this
            raise RunError(
                f"onnxruntime {self._library.__version__} refused the model: {_first_line(error)}",
                hint="the bundle names the versions that it was made with: sdkpack inspect",
            ) from None

    def _read(self, role: str) -> bytes:
        blob = self._request.files.get(role)
        if blob is None:
            raise RunError(f"the part has no file {role!r}", hint="pack the bundle again")
        content = blob.memory().tobytes()
        blob.release()
        return content

    def _check_budget(self, size_bytes: int) -> None:
        limit = self._request.memory_limit_bytes
        if limit is not None and size_bytes > limit:
            raise RunError(f"the weights need {size_bytes} bytes, the session's memory limit leaves {limit}")


def _check_input(value: Any, spec: TensorSpec) -> None:
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    if dtype is None or shape is None:
        raise InputError(f"input {spec.name!r} is a {type(value).__name__}, expected a NumPy array for {spec}")
    if element_name(value) != spec.dtype and not (spec.dtype == "string" and dtype.kind in "OUS"):
        raise InputError(
            f"input {spec.name!r} has a wrong element type, got {dtype}, expected {spec.dtype}",
            hint=f"convert it: array.astype({spec.dtype!r})",
        )
    fits = len(shape) == len(spec.shape) and all(
        isinstance(want, str) or want == have for want, have in zip(spec.shape, shape, strict=True)
    )
    if not fits:
        raise InputError(f"input {spec.name!r} has a wrong shape, got {list(shape)}, expected {list(spec.shape)}")


def _first_line(error: Exception) -> str:
    """The library's message without its source paths after the first line."""
    return " ".join(str(error).split())[:500]

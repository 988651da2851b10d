"""What stands in the description of a Keras network that is not Keras' own data, found before Keras sees it.

Keras builds a network by importing what its description names. Here only names of Keras itself are let through, since
Keras' own `safe_mode` has been passed by more than once: by HDF5 files, which did not know it, by modules and
functions that a description named freely (CVE-2024-3660, CVE-2025-1550, CVE-2025-8747), by a layer that unpickles.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sdkpack.errors import ModelError

__all__ = ["Description", "Finding", "called_in_training", "findings", "read_hdf", "read_keras"]

_MAX_BYTES: Final = 64 << 20
_MAX_DEPTH: Final = 200
_CODE_CLASSES: Final = frozenset({"Lambda", "__lambda__", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "TFSMLayer"})
"""Hold Python bytecode, pickles, or a graph from elsewhere on the disk."""
_PLAIN_CLASSES: Final = frozenset({"__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__",
                                   "__tuple__", "__slice__", "CompileConfig", "TensorShape", "TypeSpec"})  # fmt: skip
_FUNCTION_MODULES: Final = frozenset(
    {"keras.activations", "keras.initializers", "keras.regularizers", "keras.constraints", "builtins", ""}
)
"""Functions that a description may name; `keras.utils.get_file` fetches what it is told to."""
_MODULES: Final = (
    "keras.layers", "keras.models", "keras.initializers", "keras.regularizers", "keras.constraints",
    "keras.activations", "keras.ops", "keras.quantizers", "keras.dtype_policies", "keras.random",
    "keras.src.layers", "keras.src.models", "keras.src.ops", "keras.src.initializers", "keras.src.dtype_policies",
    "keras.src.random",
)  # fmt: skip
_OF_AUTHOR: Final = "is a class of the author's"
_TOO_DEEP: Final = "the description of the network is nested too deeply"
_SKIPPED: Final = frozenset({"compile_config", "loss_config", "optimizer_config", "training_config"})
"""Of training, and never built: models are loaded with `compile=False`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A network as its file describes it."""

    config: dict[str, Any]
    version: str
    """Of the Keras that saved it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing in a description that is not Keras' own data."""

    layer: str
    kind: str
    reason: str
    of_author: bool = False
    """A class or function that has to be given beside the file."""


def read_keras(path: Path) -> Description:
    """The description in a `.keras` archive.

    Raises:
        ModelError: no such archive, a member missing, damaged.
    """
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            missing = [name for name in ("config.json", "metadata.json", "model.weights.h5") if name not in names]
            if missing:
                raise ModelError(
                    f"{path.name!r} is no Keras model: {', '.join(missing)} missing",
                    hint="save it with model.save('net.keras')",
                )
            config = _json(_member(archive, "config.json"), f"{path.name}/config.json")
            metadata = _json(_member(archive, "metadata.json"), f"{path.name}/metadata.json")
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError, ValueError) as error:
        raise ModelError(f"{path.name!r} is damaged: {error}", hint="copy it anew, or save the model again") from error
    return Description(config=config, version=str(metadata.get("keras_version", "")))


def _member(archive: Any, name: str) -> bytes:
    with archive.open(name) as file:
        content: bytes = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ModelError(f"{name} is larger than {_MAX_BYTES >> 20} MiB")
    return content


def read_hdf(path: Path) -> Description:
    """The description in an HDF5 file.

    Raises:
        ModelError: no HDF5, damaged, weights without a network, some other HDF5 file.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            found = {name: _text(file.attrs[name]) for name in ("model_config", "keras_version") if name in file.attrs}
            weights = "layer_names" in file.attrs or "layers" in file or "_layer_checkpoint_dependencies" in file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise ModelError(f"{path.name!r} is damaged: {error}", hint="copy it anew, or save the model again") from error
    if "model_config" not in found:
        what = "holds weights and no network" if weights else "is an HDF5 file, and not of Keras"
        raise ModelError(f"{path.name!r} {what}", hint="save the whole model: model.save('net.keras')")
    return Description(
        config=_json(found["model_config"].encode(), f"{path.name}: model_config"),
        version=found.get("keras_version", ""),
    )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _json(content: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{where} is no JSON: {error}", hint="save the model again") from error
    if not isinstance(value, dict):
        raise ModelError(f"{where} is no description of a network", hint="save the model again")
    return value


def called_in_training(description: Description) -> list[str]:
    """Layers that the network calls with `training=True`; a call in inference mode overrides that in Keras 3."""
    found: list[str] = []
    _look_for_training(description.config, "", 0, found)
    return list(dict.fromkeys(found))


def _look_for_training(value: Any, layer: str, depth: int, found: list[str]) -> None:
    if depth > _MAX_DEPTH:
        raise ModelError(_TOO_DEEP)
    if isinstance(value, dict):
        if "inbound_nodes" in value:
            layer = str(value.get("name", layer))
        if value.get("training") is True:
            found.append(layer)
        items: list[Any] = [item for key, item in value.items() if key not in _SKIPPED]
    else:
        items = value if isinstance(value, list) else []
    for item in items:
        _look_for_training(item, layer, depth + 1, found)


def findings(description: Description, known: Callable[[str], bool]) -> list[Finding]:
    """Everything in a description that is code, or a class or function that is not of Keras.

    Args:
        description: of a network.
        known: whether Keras has a class or function of that name; files of Keras 1 and 2 say no module.
    """
    found: dict[tuple[str, str, str], Finding] = {}
    for finding in _walk(description.config, "", 0):
        found[(finding.layer, finding.kind, finding.reason)] = finding
    for layer, kind in _without_module(description.config, "", 0):
        if not known(kind):
            found.setdefault(
                (layer, kind, _OF_AUTHOR), Finding(layer=layer, kind=kind, reason=_OF_AUTHOR, of_author=True)
            )
    return list(found.values())


def _without_module(value: Any, layer: str, depth: int) -> Iterator[tuple[str, str]]:
    """Layers that are named by their class alone."""
    if depth > _MAX_DEPTH:
        raise ModelError(_TOO_DEEP)
    if isinstance(value, list):
        for item in value:
            yield from _without_module(item, layer, depth + 1)
    if not isinstance(value, dict):
        return
    inner = value.get("config")
    kind = value.get("class_name")
    if isinstance(kind, str) and "module" not in value and isinstance(inner, dict | list):
        name = value.get("name") or (inner.get("name") if isinstance(inner, dict) else "")
        layer = name if isinstance(name, str) else layer
        if kind not in _PLAIN_CLASSES | _CODE_CLASSES | {"function"} and ">" not in kind:
            yield layer, kind
    for key, item in value.items():
        if key not in _SKIPPED:
            yield from _without_module(item, layer, depth + 1)


def _walk(value: Any, layer: str, depth: int) -> Iterator[Finding]:
    if depth > _MAX_DEPTH:
        raise ModelError(_TOO_DEEP)
    if isinstance(value, list):
        for item in value:
            yield from _walk(item, layer, depth + 1)
    if not isinstance(value, dict):
        return
    if isinstance(value.get("class_name"), str):
        inner = value.get("config")
        if "inbound_nodes" in value or "registered_name" in value or isinstance(inner, dict):
            name = value.get("name") or (inner.get("name") if isinstance(inner, dict) else None)
            layer = str(name) if isinstance(name, str) and name != "float32" else layer
        yield from _of_class(value, layer)
    for key, item in value.items():
        if key not in _SKIPPED:
            yield from _walk(item, layer, depth + 1)


def _of_class(value: dict[str, Any], layer: str) -> Iterator[Finding]:
    kind = value["class_name"]
    module = value.get("module")
    registered = value.get("registered_name")
    if kind in _CODE_CLASSES:
        yield Finding(layer=layer, kind=kind, reason="holds code")
    elif kind == "function":
        if not _known_function(value):
            name = f"{module or ''}.{value.get('config')}".strip(".")
            yield Finding(layer=layer, kind=name, reason="is a function to be called", of_author=not _of_keras(module))
    elif kind in _PLAIN_CLASSES:
        return
    elif ">" in kind or (isinstance(registered, str) and registered not in ("", kind)):
        yield Finding(layer=layer, kind=registered or kind, reason=_OF_AUTHOR, of_author=True)
    elif isinstance(module, str) and not _of_keras(module):
        yield Finding(layer=layer, kind=f"{module}.{kind}", reason=_OF_AUTHOR, of_author=True)


def _of_keras(module: object) -> bool:
    return module in ("keras", "builtins", "", None) or any(
        module == known or str(module).startswith(f"{known}.") for known in _MODULES
    )


def _known_function(value: dict[str, Any]) -> bool:
    return (value.get("module") or "") in _FUNCTION_MODULES and isinstance(value.get("config"), str)

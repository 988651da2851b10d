"""State dicts: read without running anything, and put into a module."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251 - the exception alone
from typing import Any, Final

import torch

from sdkpack.errors import ModelError
from sdkpack_torch.archive import expect_kind, kind_of
from sdkpack_torch.faults import ANY_FAULT, brief, listed, telling

__all__ = ["describe", "load_into", "read_file", "state_dict_of"]

_WRAPPED: Final = "module."
"""Before every name where torch.nn.DataParallel wrote the file."""
_MAX_DEPTH: Final = 4
_AGAIN: Final = "copy or download it again"


def read_file(path: Path, *, allow_code: bool) -> Any:
    """What a file holds: tensors by name for safetensors, else what was given to torch.save.

    Raises:
        ModelError: it is damaged, of another kind, or a pickle of more than tensors that nobody allowed to run.
    """
    if kind_of(path) == "safetensors":
        return _read_safetensors(path)
    expect_kind(path, "weights", "legacy", "safetensors")
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        asked = _asked_for(error)
        if not asked:
            raise ModelError(f"{path.name!r} is damaged: {brief(error)}", hint=_AGAIN) from error
        if not allow_code:
            raise ModelError(
                f"{path.name!r} is a pickle of more than tensors, which runs code when it is read: it asks for {asked}",
                hint="save model.state_dict() instead; or, where you trust the file, allow it: "
                "convert.allow_code = true in the recipe, or --allow-code",
            ) from error
    except ANY_FAULT as error:
        raise ModelError(f"{path.name!r} is damaged: {brief(error)}", hint=_AGAIN) from error
    os.environ.pop("TORCH_FORCE_WEIGHTS_ONLY_LOAD", None)
    return _unpickle(path)


def _unpickle(path: Path) -> Any:
    """Runs what the file brings, as its author allowed; this process is a cage, and ends with the job."""
    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # the file's own code may raise anything
        raise ModelError(
            f"{path.name!r} cannot be unpickled: {type(error).__name__}: {brief(error)}",
            hint="give the modules that it was made with as convert.files.code",
        ) from error


def _asked_for(error: BaseException) -> str:
    """The class or function that a pickle asks for, from torch's refusal; empty where it is a damaged one."""
    match = re.search(r"(?:GLOBAL|Unsupported class|Trying to instantiate|function) ([\w.]+)", str(error))
    return match[1] if match else ""


def _read_safetensors(path: Path) -> Any:
    import safetensors
    import safetensors.torch

    try:
        with telling(f"{path.name!r} cannot be read as safetensors", hint=_AGAIN):
            return safetensors.torch.load_file(path, device="cpu")
    except safetensors.SafetensorError as error:
        raise ModelError(f"{path.name!r} cannot be read as safetensors: {brief(error)}", hint=_AGAIN) from error


def state_dict_of(content: Any, key: str, name: str) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The tensors by name among what a file holds, and notes.

    Args:
        content: what the file holds.
        key: where they stand, dotted; empty: the only place that holds tensors.
        name: the file's, for messages.

    Raises:
        ModelError: there are none there, or in several places.
    """
    places = dict(_places(content, ""))
    if key:
        if key not in places:
            raise ModelError(
                f"{name!r} holds no tensors at {key!r}, only at {listed(sorted(map(repr, places))) or 'no place'}",
                hint="correct convert.with.key",
            )
        return _unwrapped(places[key], [])
    if not places:
        raise ModelError(
            f"{name!r} holds no tensors by name, but a {type(content).__name__}", hint="save model.state_dict()"
        )
    if len(places) > 1 and "" not in places:
        raise ModelError(
            f"{name!r} holds tensors in several places: {listed(sorted(places))}",
            hint=f"choose one: convert.with.key = {min(places)!r}",
        )
    chosen = "" if "" in places else next(iter(places))
    return _unwrapped(places[chosen], [f"the weights stand at {chosen!r} of the file"] if chosen else [])


def _places(content: Any, path: str, depth: int = 0) -> list[tuple[str, Mapping[str, torch.Tensor]]]:
    if not isinstance(content, Mapping) or depth > _MAX_DEPTH:
        return []
    tensors = [key for key, value in content.items() if isinstance(key, str) and isinstance(value, torch.Tensor)]
    if tensors and len(tensors) == len(content):
        return [(path, content)]
    found = []
    for key, value in content.items():
        if isinstance(key, str):
            found += _places(value, f"{path}.{key}".lstrip("."), depth + 1)
    return found


def _unwrapped(tensors: Mapping[str, torch.Tensor], notes: list[str]) -> tuple[dict[str, torch.Tensor], list[str]]:
    if tensors and all(name.startswith(_WRAPPED) for name in tensors):
        notes.append(f"the names of the weights begin with {_WRAPPED!r}, as DataParallel writes them: taken off")
        return {name.removeprefix(_WRAPPED): value for name, value in tensors.items()}, notes
    return dict(tensors), notes


def describe(tensors: Mapping[str, torch.Tensor]) -> str:
    """How many there are, and the first of them."""
    first = [f"{name} {list(value.shape)}" for name, value in list(tensors.items())[:5]]
    more = ", ..." if len(tensors) > len(first) else ""
    return f"{len(tensors)} tensors ({', '.join(first)}{more})"


def load_into(module: Any, tensors: Mapping[str, torch.Tensor], name: str) -> None:
    """
    Raises:
        ModelError: the weights are not the module's; all that are missing, too many, or of another shape are named.
    """
    own = module.state_dict()
    missing = [key for key in own if key not in tensors]
    extra = [key for key in tensors if key not in own]
    shapes = [
        f"{key} {list(tensors[key].shape)}, expected {list(own[key].shape)}"
        for key in own
        if key in tensors and isinstance(own[key], torch.Tensor) and tensors[key].shape != own[key].shape
    ]
    faults = [
        f"{len(keys)} {text}: {listed(keys)}"
        for text, keys in (("missing", missing), ("too many", extra), ("of another shape", shapes))
        if keys
    ]
    if faults:
        raise ModelError(
            f"the weights of {name!r} are not those of {type(module).__name__}: {'; '.join(faults)}",
            hint="give the factory the settings of the training: convert.with.arguments",
        )
    with telling(f"the weights of {name!r} cannot be put into {type(module).__name__}"):
        module.load_state_dict(dict(tensors), strict=True)

"""Code that comes with a Keras model: refused, unless the author of the recipe allows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from sdkpack.errors import ModelError, Problem
from sdkpack.plugin import ConvertRequest
from sdkpack_tensorflow.keras_config import Description, findings
from sdkpack_tensorflow.toolchain import read_safely

__all__ = ["allowed_objects"]

_CODE_FILE: Final = "code"
_PLACES: Final = ("layers", "models", "initializers", "regularizers", "constraints", "dtype_policies", "activations")


def allowed_objects(description: Description, request: ConvertRequest) -> dict[str, Any]:
    """Refuses what is not Keras' own, unless the author allows it.

    Returns:
        The author's classes and functions by name, out of the file `code` of the request.

    Raises:
        ModelError: code that is not allowed, or that is not there; everything at once.
    """
    found = findings(description, _known)
    code = request.files.get(_CODE_FILE)
    if not request.allow_code and (found or code is not None):
        problems = [Problem(path=finding.layer, message=f"{finding.kind} {finding.reason}") for finding in found]
        if code is not None:
            problems.append(Problem(path="files.code", message=f"{code.name} is a Python file"))
        named = sorted({finding.kind for finding in found}) or ["files.code"]
        raise ModelError(
            f"{request.source.name!r} brings code, which does not run unless you allow it: {', '.join(named)}",
            hint="if you trust its author: convert.allow_code = true in the recipe, or --allow-code; it then runs in "
            "the toolchain's own process. Better: replace it by layers of Keras",
            problems=problems,
        )
    if code is not None:
        return _author_code(code)
    absent = [finding for finding in found if finding.of_author]
    if absent:
        raise ModelError(
            f"{request.source.name!r} uses classes that are not in it: {', '.join(sorted({f.kind for f in absent}))}",
            hint=f'name the Python file that defines them: models.{request.name}.convert.files.code = "layers.py"',
            problems=[Problem(path=finding.layer, message=f"{finding.kind} {finding.reason}") for finding in absent],
        )
    return {}


def _known(name: str) -> bool:
    import keras
    import tf_keras

    return any(
        hasattr(getattr(library, place, None), name) for library in (keras, tf_keras) for place in _PLACES
    ) or name in ("Functional", "Model", "Sequential")


def _author_code(path: Path) -> dict[str, Any]:
    """Runs the author's file. Only reached where the author allowed it, and only in a process of the toolchain's."""
    import importlib.util
    import sys

    spec = importlib.util.spec_from_file_location(path.stem, path)
    with read_safely(f"{path.name} cannot be imported"):
        if spec is None or spec.loader is None:
            raise ImportError("not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
    return {name: value for name, value in vars(module).items() if callable(value) and not name.startswith("_")}

"""The author's function: loaded from its file, called on arrays, its outputs named."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sdkpack.errors import ModelError
from sdkpack.plugin import ConvertRequest
from sdkpack_jax.params import JaxParams
from sdkpack_jax.weights import read_weights

__all__ = ["Function", "load"]

_WEIGHTS: Final = "params"
_DTYPES: Final = ("float32", "float16", "bfloat16", "int32", "int16", "int8", "uint8", "bool")
"""JAX's own; 64 bits are something else to it than to others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """What to convert: the weights, where there are any, are its first argument and become constants."""

    call: Callable[..., Any]
    name: str

    def names(self, examples: Sequence[Any]) -> tuple[str, ...]:
        """Names of the outputs: keys of a dict, places of a tuple, else `output`.

        Raises:
            ModelError: the function fails, or returns what is no array.
        """
        import jax

        found = self.run(lambda *inputs: jax.eval_shape(self.call, *inputs), examples)
        paths = jax.tree_util.tree_flatten_with_path(found)[0]
        if not paths:
            raise ModelError(f"function {self.name!r} returns nothing", hint="return an array, or a dict of arrays")
        return tuple(_name(path) for path, _ in paths)

    def run(self, call: Callable[..., Any], inputs: Sequence[Any]) -> Any:
        """
        Raises:
            ModelError: whatever the author's code raises.
        """
        try:
            return call(*inputs)
        # The code is the author's, and so is what it raises.
        except Exception as error:
            text = str(error).strip().splitlines()
            shapes = ", ".join(f"{one.dtype}{list(one.shape)}" for one in inputs)
            raise ModelError(
                f"function {self.name!r} fails on {shapes}: {type(error).__name__}: {text[0][:300] if text else ''}",
                hint="check the declared inputs; with convert.files.params the weights are the first argument",
            ) from error


def _name(path: Sequence[Any]) -> str:
    parts = [str(getattr(entry, "key", getattr(entry, "name", getattr(entry, "idx", "")))) for entry in path]
    text = ".".join(parts)
    return "output" if not text else f"output_{text}" if text[0].isdigit() else text


def load(request: ConvertRequest, work: Path) -> Function:
    """Loads the function; from here on the author's code runs.

    Raises:
        ModelError: the author does not allow it, inputs are not declared, or there is no such function.
    """
    params = request.params
    assert isinstance(params, JaxParams)
    module, _, path = params.function.partition(":")
    if not request.allow_code:
        raise ModelError(
            f"{request.source.name!r} is a Python program: converting it runs it, and its function {path!r}",
            hint=f"if you trust its origin: models.{request.name}.convert.allow_code = true in the recipe, "
            "--allow-code on the command line",
        )
    _check_inputs(request)
    if module != request.source.stem:
        raise ModelError(
            f"the function is {params.function!r}, the source {request.source.name!r}",
            hint=f'with.function = "{request.source.stem}:{path}"',
        )
    found = _imported(request, module, path, work)
    if _WEIGHTS not in request.files:
        return Function(call=found, name=params.function)
    weights = read_weights(request.files[_WEIGHTS])
    return Function(call=lambda *inputs: found(weights, *inputs), name=params.function)


def _check_inputs(request: ConvertRequest) -> None:
    example = f'models.{request.name}.inputs.x = {{ dtype = "float32", shape = ["N", 3, 224, 224] }}'
    if not request.inputs:
        raise ModelError("a function does not say what it takes", hint=f"declare its arguments in order: {example}")
    problems = [
        f"{spec}: its type is none of {', '.join(_DTYPES)}" for spec in request.inputs if spec.dtype not in _DTYPES
    ]
    problems += [f"{spec}: each dimension needs a size or a name" for spec in request.inputs if "?" in spec.shape]
    if problems:
        raise ModelError(f"declared inputs cannot be used: {'; '.join(problems)}", hint=example)


def _imported(request: ConvertRequest, module: str, path: str, work: Path) -> Callable[..., Any]:
    folder = work / "code"
    folder.mkdir(exist_ok=True)
    for source in (request.source, *(file for role, file in request.files.items() if role != _WEIGHTS)):
        shutil.copyfile(source, folder / source.name)
    sys.path.insert(0, str(folder))
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    # The code is the author's, and so is what it raises; an exit too.
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"{request.source.name!r} cannot be loaded: {type(error).__name__}: {str(error)[:300]}",
            hint="name further modules in convert.files; this environment holds jax, flax, equinox and numpy",
        ) from error
    finally:
        sys.path.remove(str(folder))
    if not callable(found):
        raise ModelError(f"{module}:{path} is a {type(found).__name__}, expected a function", hint="name a function")
    return found  # type: ignore[no-any-return]

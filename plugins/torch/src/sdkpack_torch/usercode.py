"""Runs the author's own Python code: what `allow_code` allows. Only called in a toolchain's process."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sdkpack.errors import ModelError
from sdkpack_torch.faults import brief

__all__ = ["build_module", "make_importable"]


def make_importable(code: Path) -> None:
    """Lets a file `net.py`, a package, or a folder of modules be imported by name, and nothing beside it.

    Raises:
        ModelError: it is none of these.
    """
    if code.is_dir() and not (code / "__init__.py").is_file():
        sys.path.insert(0, str(code))
        return
    if code.is_file() and code.suffix != ".py":
        raise ModelError(
            f"the code {code.name!r} is neither a .py file nor a folder", hint="correct convert.files.code"
        )
    _import(code.stem if code.is_file() else code.name, code)


def _import(name: str, code: Path) -> None:
    if name in sys.modules:
        raise ModelError(f"the code is named {name!r}, which is a module already", hint="rename the file or folder")
    package = code.is_dir()
    spec = importlib.util.spec_from_file_location(
        name, code / "__init__.py" if package else code, submodule_search_locations=[str(code)] if package else None
    )
    if spec is None or spec.loader is None:
        raise ModelError(f"the code {code.name!r} cannot be imported", hint="correct convert.files.code")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with _telling(f"the code {code.name!r} cannot be imported"):
        spec.loader.exec_module(module)


def build_module(factory: str, arguments: Mapping[str, Any]) -> Any:
    """What the factory returns.

    Args:
        factory: `module:function`.
        arguments: by name.

    Raises:
        ModelError: it is missing, fails, or returns something else than a module.
    """
    import torch

    module_name, _, function_name = factory.partition(":")
    with _telling(f"the module {module_name!r} cannot be imported"):
        module = importlib.import_module(module_name)
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ModelError(
            f"the module {module_name!r} has no function {function_name!r}", hint="correct convert.with.factory"
        )
    with _telling(f"the factory {factory!r} failed"):
        made = function(**arguments)
    if not isinstance(made, torch.nn.Module):
        raise ModelError(
            f"the factory {factory!r} returned a {type(made).__name__}, expected a torch.nn.Module",
            hint="return the module itself",
        )
    return made


@contextmanager
def _telling(what: str) -> Iterator[None]:
    """The author's code may raise anything, and may end the interpreter too."""
    try:
        yield
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"{what}: {type(error).__name__}: {brief(error)}",
            hint="the log has the traceback; only torch and numpy can be imported beside convert.files.code",
        ) from error

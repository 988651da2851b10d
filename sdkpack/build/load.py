"""Reads a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sdkpack.documents.recipe import Recipe
from sdkpack.errors import FileError

__all__ = ["LoadedRecipe", "load_recipe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedRecipe:
    """A recipe and the folder that its references start from."""

    recipe: Recipe
    folder: Path
    name: str
    """For messages: the path as the user gave it."""


def load_recipe(path: Path) -> LoadedRecipe:
    """Reads `path`, or `recipe.toml` in it where it is a folder.

    Raises:
        FileError: it cannot be read.
        DocumentError: it is no valid recipe; all findings at once.
    """
    file = path / "recipe.toml" if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileError(f"there is no recipe '{file}'", hint="write one: sdkpack init MODEL.onnx") from None
    except UnicodeDecodeError as error:
        raise FileError(f"'{file}' is not UTF-8 text at byte {error.start}, so it is no recipe") from None
    except OSError as error:
        raise FileError(f"cannot read '{file}': {(error.strerror or str(error)).lower()}") from error
    return LoadedRecipe(recipe=Recipe.from_toml(text, where=str(file)), folder=file.parent.absolute(), name=str(file))

"""Names that the author chooses become folders of the bundle, so they must be fit for every file system."""

from __future__ import annotations

from collections.abc import Iterable

from sdkpack.build.findings import Findings
from sdkpack.bundle.paths import check_path
from sdkpack.documents.recipe import Recipe
from sdkpack.errors import DocumentError, PathNameError, Problem

__all__ = ["check_names"]


def check_names(recipe: Recipe, findings: Findings) -> None:
    """Finds names that some system could not use, or would take for another's."""
    _check("models", recipe.models, findings)
    _check("targets", recipe.targets, findings)
    _check("pipelines", recipe.pipelines, findings)


def _check(section: str, names: Iterable[str], findings: Findings) -> None:
    seen: dict[str, str] = {}
    for name in names:
        path = f"{section}.{name}"
        try:
            check_path(name)
        except PathNameError as error:
            _add(findings, path, f"{error.message.removeprefix('path ')}, and it becomes a folder of the bundle")
        other = seen.setdefault(name.lower(), name)
        if other != name:
            _add(findings, path, f"the name differs from {other!r} only in upper and lower case")


def _add(findings: Findings, path: str, message: str) -> None:
    findings.add(path, DocumentError("a problem with this recipe", problems=[Problem(path=path, message=message)]))

"""Models that another version of scikit-learn saved."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

from sdkpack.errors import ModelError
from sdkpack.plugin import ConvertRequest
from sdkpack_sklearn.params import SklearnParams

__all__ = ["checked_version", "watched"]


@contextmanager
def watched() -> Iterator[list[str]]:
    """Collects `Estimator: version` for whatever is loaded meanwhile and was saved by another scikit-learn."""
    from sklearn.exceptions import InconsistentVersionWarning

    found: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield found
    for entry in caught:
        warning = entry.message
        if isinstance(warning, InconsistentVersionWarning):
            text = f"{warning.estimator_name} by {warning.original_sklearn_version}"
            if text not in found:
                found.append(text)


def checked_version(found: list[str], params: SklearnParams, request: ConvertRequest) -> tuple[str, ...]:
    """
    Returns:
        A note where another version is taken nevertheless.

    Raises:
        ModelError: it is not.
    """
    if not found:
        return ()
    here = version("scikit-learn")
    text = f"saved by another scikit-learn than {here}: {', '.join(found[:6])}{', ...' if len(found) > 6 else ''}"
    if not params.any_version:
        raise ModelError(
            f"{request.source.name!r} was {text}; it may compute something else here, and no comparison would show it",
            hint=f"save it with scikit-learn {here}, or take it as it is: "
            f"models.{request.name}.convert.with.any_version = true",
        )
    return (f"{text}; compare its answers with those of the version that trained it",)

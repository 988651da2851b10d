"""Turns trained models into one signed, encrypted file, and runs it.

    import sdkpack

    with sdkpack.open("shapes-1.0.0.sdkpack", trust="publisher.pub", keys=["env:SHAPES_KEY"]) as session:
        outputs = session.run("classify", image="cat.jpg")

Names are loaded at first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdkpack.errors import SdkpackError
    from sdkpack.session.opening import open_session as open  # noqa: A004
    from sdkpack.session.session import Session

_HOME = {
    "SdkpackError": ("sdkpack.errors", "SdkpackError"),
    "Session": ("sdkpack.session.session", "Session"),
    "open": ("sdkpack.session.opening", "open_session"),
}

__all__ = ["SdkpackError", "Session", "open"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("sdkpack")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOME[name]
    return getattr(import_module(module), attribute)

"""Sessions: a verified bundle whose models and pipelines run.

Names are loaded at first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdkpack.session.blobs import BundleBlob, FileBlob
    from sdkpack.session.choice import Choice, Preference, Refusal, choose_variant, this_platform
    from sdkpack.session.golden import GoldenOutput, GoldenResult, replay
    from sdkpack.session.keys import identities_of, load_keys, trust_policy
    from sdkpack.session.models import LoadedModel, Resources, open_variant
    from sdkpack.session.modelset import Options
    from sdkpack.session.opening import open_session, read_manifest, registry_for, verify_bundle
    from sdkpack.session.session import Session
    from sdkpack.session.values import input_from_file, json_value

_HOME = {
    "BundleBlob": "blobs",
    "Choice": "choice",
    "FileBlob": "blobs",
    "GoldenOutput": "golden",
    "GoldenResult": "golden",
    "LoadedModel": "models",
    "Options": "modelset",
    "Preference": "choice",
    "Refusal": "choice",
    "Resources": "models",
    "Session": "session",
    "choose_variant": "choice",
    "identities_of": "keys",
    "input_from_file": "values",
    "json_value": "values",
    "load_keys": "keys",
    "open_session": "opening",
    "open_variant": "models",
    "read_manifest": "opening",
    "registry_for": "opening",
    "replay": "golden",
    "this_platform": "choice",
    "trust_policy": "keys",
    "verify_bundle": "opening",
}

__all__ = [
    "BundleBlob",
    "Choice",
    "FileBlob",
    "GoldenOutput",
    "GoldenResult",
    "LoadedModel",
    "Options",
    "Preference",
    "Refusal",
    "Resources",
    "Session",
    "choose_variant",
    "identities_of",
    "input_from_file",
    "json_value",
    "load_keys",
    "open_session",
    "open_variant",
    "read_manifest",
    "registry_for",
    "replay",
    "this_platform",
    "trust_policy",
    "verify_bundle",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)

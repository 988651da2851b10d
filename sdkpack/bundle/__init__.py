"""The bundle: one file, written once, verified before anything of it is used. `FORMAT.md` beside this is the rule.

Names are loaded at first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdkpack.bundle.content import BlobSource, BundleContent, FileItem, Seal
    from sdkpack.bundle.files import AtomicFile, FileSystem, atomic_file
    from sdkpack.bundle.grant import Grant
    from sdkpack.bundle.reader import BundleInfo, UntrustedBundle, open_bundle
    from sdkpack.bundle.trust import Signature, TrustedKey, TrustPolicy
    from sdkpack.bundle.verified import FileInfo, VerifiedBundle
    from sdkpack.bundle.writer import BundleSummary, write_bundle

_HOME = {
    "AtomicFile": "files",
    "BlobSource": "content",
    "BundleContent": "content",
    "BundleInfo": "reader",
    "BundleSummary": "writer",
    "FileInfo": "verified",
    "FileItem": "content",
    "FileSystem": "files",
    "Grant": "grant",
    "Seal": "content",
    "Signature": "trust",
    "TrustPolicy": "trust",
    "TrustedKey": "trust",
    "UntrustedBundle": "reader",
    "VerifiedBundle": "verified",
    "atomic_file": "files",
    "open_bundle": "reader",
    "write_bundle": "writer",
}

__all__ = [
    "AtomicFile",
    "BlobSource",
    "BundleContent",
    "BundleInfo",
    "BundleSummary",
    "FileInfo",
    "FileItem",
    "FileSystem",
    "Grant",
    "Seal",
    "Signature",
    "TrustPolicy",
    "TrustedKey",
    "UntrustedBundle",
    "VerifiedBundle",
    "atomic_file",
    "open_bundle",
    "write_bundle",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)

"""From a file to a session: verify, validate, find plugins, check pipelines."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from sdkpack.documents.manifest import Manifest
from sdkpack.documents.trust import Trust
from sdkpack.errors import DocumentError, FormatVersionError, IndexDataError, TrustError, UsageError
from sdkpack.host.registry import Registry
from sdkpack.session.choice import Preference
from sdkpack.session.keys import BUILTIN, KeyReference, Plugins, identities_of, trust_policy
from sdkpack.session.modelset import Options
from sdkpack.session.session import Session

if TYPE_CHECKING:
    from sdkpack.bundle import BundleInfo, Grant, Signature, TrustedKey, TrustPolicy, VerifiedBundle
    from sdkpack.crypto.recipients import Identity

__all__ = ["open_session", "read_manifest", "registry_for", "verify_bundle", "verify_public"]


Source = str | os.PathLike[str] | bytes | BinaryIO


def open_session(
    source: Source,
    *,
    trust: Trust | TrustPolicy | KeyReference | Sequence[KeyReference] | None = None,
    allow_unsigned: bool = False,
    keys: Iterable[KeyReference | Identity] | None = None,
    plugins: Iterable[str] | None = None,
    prefer: Iterable[str] = (),
    targets: Iterable[str] = (),
    portable_fallback: bool = True,
    threads: int | None = None,
    instances: int = 1,
    memory_limit: int | None = None,
    device: str = "",
    eager: bool = False,
    verify_all: bool = False,
    grant: Grant | None = None,
    signatures: Sequence[Signature] = (),
) -> Session:
    """Verifies a bundle and makes it ready to run.

    Args:
        source: the bundle's file, an open file, or its bytes.
        trust: whose signature is believed: a public key (text, file or reference), several, or a trust file.
        allow_unsigned: opens a bundle that nobody trusted has signed. One of the two must be stated.
        keys: references to secret keys that may open an encrypted bundle: `PATH`, `env:NAME`, or a provider's own.
        plugins: modules of the plugins to use, beside the built-in ones; None: all that are installed.
        prefer: targets to take where they fit, the first first.
        targets: targets to take at all; none: every one.
        portable_fallback: whether portable ONNX may stand in where no variant for a device fits.
        threads: that the session's models may use together.
        instances: how many runs go on side by side.
        memory_limit: bytes that the session's models may use together.
        device: for the runners, where there are several of a kind.
        eager: opens all models now, not at their first use.
        verify_all: checks every byte of the bundle now, not each file when it is read.
        grant: opens the bundle for somebody whom its envelope does not know.
        signatures: signatures beside those in the file.

    Raises:
        FileError: the file cannot be read.
        UsageError: neither trust nor allow_unsigned was stated.
        BundleError: the bundle is malformed, was changed, is not trusted, or none of the keys opens it.
        PluginError: a plugin that the bundle needs is missing or broken.
        NoFittingVariantError: with `eager`, a model has no variant for this machine.
    """
    preference = Preference(prefer=tuple(prefer), only=tuple(targets), portable_fallback=portable_fallback)
    options = Options(
        preference=preference, threads=threads, instances=instances, memory_limit_bytes=memory_limit, device=device
    )
    registry = registry_for(plugins)
    bundle = verify_bundle(
        source,
        trust=trust,
        allow_unsigned=allow_unsigned,
        keys=keys,
        registry=registry,
        check_blobs=verify_all,
        grant=grant,
        signatures=signatures,
    )
    try:
        manifest: Any = bundle.document
        _check_targets(manifest, (*preference.prefer, *preference.only))
        session = Session(bundle, manifest, registry, options)
    except BaseException:
        bundle.close()
        raise
    if eager:
        try:
            session.load()
        except BaseException:
            session.close()
            raise
    return session


def registry_for(plugins: Iterable[str] | None) -> Registry:
    """All installed plugins, or the built-in ones and those of `plugins`, without a look at what is installed."""
    if plugins is None:
        return Registry.scan()
    if isinstance(plugins, str):
        plugins = (plugins,)
    return Registry.of_modules(dict.fromkeys((BUILTIN, *plugins)))


def verify_bundle(
    source: Source,
    *,
    trust: Trust | TrustPolicy | KeyReference | Sequence[KeyReference] | None,
    allow_unsigned: bool = False,
    keys: Iterable[KeyReference | Identity] | None = None,
    registry: Plugins,
    check_blobs: bool = True,
    grant: Grant | None = None,
    signatures: Sequence[Signature] = (),
) -> VerifiedBundle:
    """Verifies a bundle; its `document` is the `Manifest`.

    Args:
        source: the bundle's file, an open file, or its bytes.
        trust: whose signature is believed; see `open_session`.
        allow_unsigned: accepts a bundle that nobody trusted has signed.
        keys: references to secret keys that may open an encrypted bundle.
        registry: has the key providers.
        check_blobs: checks every byte now, not each file when it is read.
        grant: opens the bundle for somebody whom its envelope does not know.
        signatures: signatures beside those in the file.

    Raises:
        BundleError: it is malformed, was changed, is not trusted, or none of the keys opens it.
    """
    from sdkpack.bundle import open_bundle

    policy, document = trust_policy(trust, registry, allow_unsigned=allow_unsigned)
    secrets = identities_of(keys or (), registry)
    file: Any = os.fspath(source) if isinstance(source, os.PathLike) else source
    untrusted = open_bundle(file)
    try:
        bundle = untrusted.verify(
            policy=policy,
            identities=secrets,
            check_blobs=check_blobs,
            validate_manifest=_validator(document),
            grant=grant,
            detached_signatures=signatures,
        )
        manifest: Any = bundle.document
        missing = sorted(manifest.files() - set(bundle.files))
        if missing:
            raise IndexDataError(f"the manifest names files that the bundle does not have: {', '.join(missing[:5])}")
    except BaseException:
        untrusted.close()
        raise
    return bundle


def verify_public(
    source: Source,
    *,
    trust: Trust | TrustPolicy | KeyReference | Sequence[KeyReference] | None,
    allow_unsigned: bool = False,
    registry: Plugins,
    signatures: Sequence[Signature] = (),
) -> tuple[BundleInfo, tuple[TrustedKey, ...]]:
    """Verifies what can be without a content key: signatures, age, and every stored byte. Nothing is decrypted.

    Returns:
        The public facts, and the trusted keys that signed.

    Raises:
        BundleError: it is malformed, was changed, or is not trusted.
    """
    from sdkpack.bundle import open_bundle

    policy, document = trust_policy(trust, registry, allow_unsigned=allow_unsigned)
    file: Any = os.fspath(source) if isinstance(source, os.PathLike) else source
    with open_bundle(file) as untrusted:
        signed_by = untrusted.verify_public(policy=policy, detached_signatures=signatures)
        about = untrusted.info.about
        _check_age(document, str(about.get("name", "")), about.get("sequence"))
        return untrusted.info, signed_by


def read_manifest(raw: Mapping[str, Any]) -> Manifest:
    """The manifest as a document, where it is written exactly as its document is written.

    A bundle has one form: what a reader would read as the same (an absent default, `1` for `1.0`) is refused, so that
    two readers never see two things behind one signature.

    Raises:
        IndexDataError: it is not valid, or not in that form.
        FormatVersionError: it was written by a newer sdkpack.
    """
    try:
        manifest = Manifest.from_object(dict(raw))
    except FormatVersionError:
        raise
    except DocumentError as error:
        raise IndexDataError(f"the manifest is not valid: {error.message}", problems=error.problems) from error
    place = _difference(raw, manifest.to_object(), "manifest")
    if place:
        raise IndexDataError(f"the manifest is not written in its canonical form at {place}")
    return manifest


def _validator(trust: Trust | None) -> Callable[[dict[str, Any]], Manifest]:
    def validate(raw: dict[str, Any]) -> Manifest:
        manifest = read_manifest(raw)
        _check_age(trust, manifest.name, manifest.sequence)
        return manifest

    return validate


def _check_age(trust: Trust | None, name: str, sequence: object) -> None:
    """Stops a rollback: an older release is signed as well as the newest, and may have faults that became known."""
    minimum = (trust.minimum_sequence if trust else {}).get(name, 0)
    if minimum and (not isinstance(sequence, int) or sequence < minimum):
        raise TrustError(
            f"release {sequence} of {name!r} is older than the oldest accepted one, {minimum}",
            hint="get the newest release from its publisher",
        )


def _difference(raw: Any, canonical: Any, path: str) -> str:
    """The first place where two values differ, types included; empty where they are the same."""
    if type(raw) is not type(canonical):
        return path
    if isinstance(raw, dict):
        if raw.keys() != canonical.keys():
            return f"{path}.{min(raw.keys() ^ canonical.keys())}"
        return next((found for key in raw if (found := _difference(raw[key], canonical[key], f"{path}.{key}"))), "")
    if isinstance(raw, list):
        if len(raw) != len(canonical):
            return path
        places = (_difference(a, b, f"{path}[{at}]") for at, (a, b) in enumerate(zip(raw, canonical, strict=True)))
        return next((found for found in places if found), "")
    return "" if raw == canonical else path


def _check_targets(manifest: Manifest, asked: Sequence[str]) -> None:
    """A mistyped target would silently prefer nothing."""
    have = sorted({variant.target for entry in manifest.models.values() for variant in entry.variants})
    for target in asked:
        if target not in have and have:
            near = difflib.get_close_matches(target, have, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(have)}"
            raise UsageError(f"bundle {manifest.name!r} has no target {target!r}", hint=hint)

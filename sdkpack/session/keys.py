"""Key references: where a key is, never the key itself.

`PATH` and `file:PATH` are key files, `env:NAME` a variable with a key file's text; other schemes belong to plugins.
Public keys may be given as text, secret ones may not: what stands in a call ends in a log or a process list.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sdkpack.documents.trust import Trust
from sdkpack.errors import FileError, KeyFileError, UsageError
from sdkpack.host.registry import Registered, Registry, load_class

if TYPE_CHECKING:
    from sdkpack.bundle import TrustedKey, TrustPolicy
    from sdkpack.crypto.keyfile import Key
    from sdkpack.crypto.recipients import Identity
    from sdkpack.plugin import KeyProvider, KeyProviderInfo

__all__ = ["BUILTIN", "KeyReference", "Plugins", "identities_of", "load_keys", "trust_policy"]

KeyReference = str | os.PathLike[str]
BUILTIN: Final = "sdkpack.builtin.plugin"
"""The module of sdkpack's own plugins."""

Plugins = Registry | Callable[[], Registry]

# Two letters at least: one is a Windows drive.
_SCHEME: Final = re.compile(r"([a-z][a-z0-9_.-]+):(.*)", re.DOTALL)
_PUBLIC: Final = "sdkpack-public-"
_SECRET: Final = "sdkpack-secret-"
_MAX_TRUST_BYTES: Final = 1 << 20


def load_keys(reference: KeyReference, registry: Plugins) -> tuple[Key, ...]:
    """The keys that a reference names.

    Raises:
        KeyFileError: there are none, or they are unsafe to use.
        PluginMissingError: no key provider serves the scheme.
        UsageError: its key provider does not hand out keys.
    """
    from sdkpack.crypto.keyfile import parse_keys

    scheme, rest = parted(reference)
    provider = provider_of(scheme, registry)
    if "load" not in provider.capabilities:
        raise UsageError(f"keys of {scheme!r} do not leave their place, and cannot be loaded")
    return parse_keys(provider.instance.load(rest), where=f"{scheme}:{rest}")


def identities_of(references: Iterable[KeyReference | Identity], registry: Plugins) -> tuple[Identity, ...]:
    """What opens encrypted bundles, for `UntrustedBundle.verify`.

    Args:
        references: to secret keys; objects that can unwrap are taken as they are.
        registry: the plugins, or what finds them, which is called where a reference needs them.

    Raises:
        KeyFileError: a reference names no key that opens bundles.
    """
    found: list[Identity] = []
    for reference in references:
        if isinstance(reference, str | os.PathLike):
            found += _identities_of(reference, registry)
        else:
            found.append(reference)
    return tuple(found)


def trust_policy(
    trust: Trust | TrustPolicy | KeyReference | Sequence[KeyReference] | None,
    registry: Plugins,
    *,
    allow_unsigned: bool = False,
) -> tuple[TrustPolicy, Trust | None]:
    """The policy that a user states, and the trust document where he gave one.

    Args:
        trust: a document or its file (`*.toml`), a public key by reference or as text, or several of these.

    Raises:
        KeyFileError: a key is missing or no public one.
        DocumentError: a trust file is not valid.
        UsageError: nothing is trusted and unsigned bundles are not allowed.
    """
    from sdkpack.bundle import TrustPolicy

    if isinstance(trust, TrustPolicy):
        return trust, None
    folder = Path()
    if isinstance(trust, str | os.PathLike) and _is_trust_file(trust):
        folder = Path(os.fspath(trust)).parent
        trust = _trust_file(Path(os.fspath(trust)))
    if isinstance(trust, Trust):
        keys = [key for entry in trust.keys for key in _entry_keys(entry, folder, registry)]
        policy = TrustPolicy(keys=_distinct(keys), threshold=trust.threshold, allow_unsigned=allow_unsigned)
        return policy, trust
    references = [trust] if isinstance(trust, str | os.PathLike) else list(trust or ())
    keys = [key for reference in references for key in _trusted(reference, registry)]
    return TrustPolicy(keys=_distinct(keys), allow_unsigned=allow_unsigned), None


@dataclass(frozen=True, slots=True)
class Provider:
    """A key provider, ready."""

    name: str
    capabilities: tuple[str, ...]
    instance: KeyProvider


def provider_of(scheme: str, registry: Plugins) -> Provider:
    """The provider of a scheme. Where plugins are yet to be looked for, sdkpack's own providers come first.

    So that showing or verifying a bundle with a key from a file runs no other plugin's code.
    """
    registered = _own_provider(scheme) if not isinstance(registry, Registry) else None
    if registered is None:
        plugins = registry if isinstance(registry, Registry) else registry()
        registered = plugins.key_provider(scheme)
    return Provider(registered.info.name, registered.info.capabilities, load_class(registered, registered.info.load)())


def _own_provider(scheme: str) -> Registered[KeyProviderInfo] | None:
    rows = Registry.of_modules((BUILTIN,)).key_providers()
    return next((row for row in rows if scheme in row.info.schemes), None)


def has_scheme(reference: str) -> bool:
    """Whether a key provider is named, rather than a path."""
    return _SCHEME.fullmatch(reference) is not None


def parted(reference: KeyReference) -> tuple[str, str]:
    """Scheme and the rest; a path where there is no scheme."""
    text = os.fspath(reference)
    if text.lstrip().startswith(_SECRET):
        # Not shown: the message would carry the secret on.
        raise KeyFileError(
            "a secret key itself was given, expected where it is",
            hint="put it into a file of mode 600 or an environment variable, and give PATH or env:NAME",
        )
    match = None if isinstance(reference, os.PathLike) else _SCHEME.fullmatch(text)
    return (match[1], match[2]) if match else ("file", text)


def _identities_of(reference: KeyReference, registry: Plugins) -> list[Identity]:
    from sdkpack.crypto.recipients import HpkeIdentity, Kek, PluginIdentity

    scheme, rest = parted(reference)
    provider = provider_of(scheme, registry)
    if "load" not in provider.capabilities:
        return [PluginIdentity(provider.name, _unwrap(provider.instance, rest))]
    keys = load_keys(reference, registry)
    found: list[Identity] = [key for key in keys if isinstance(key, HpkeIdentity | Kek)]
    if not found:
        kinds = ", ".join(sorted({type(key).__name__ for key in keys}))
        raise KeyFileError(f"{scheme}:{rest} has no key that opens bundles, only {kinds}")
    return found


def _unwrap(provider: KeyProvider, reference: str) -> Callable[[Sequence[Any], bytes, bytes], bytes]:
    return lambda _, wrapped, context: provider.unwrap(reference, wrapped, context)


def _is_trust_file(reference: KeyReference) -> bool:
    text = os.fspath(reference)
    return "\n" not in text and text.endswith(".toml")


def _trust_file(path: Path) -> Trust:
    try:
        if path.stat().st_size > _MAX_TRUST_BYTES:
            raise FileError(f"trust file {path} is larger than {_MAX_TRUST_BYTES} bytes")
        return Trust.from_toml(path.read_text("utf-8"), where=str(path))
    except OSError as error:
        raise FileError(
            f"cannot read trust file {path}: {str(error.strerror).lower()}", hint="check the path"
        ) from error
    except UnicodeDecodeError as error:
        raise FileError(f"trust file {path} is not UTF-8 text") from error


def _entry_keys(entry: Any, folder: Path, registry: Plugins) -> list[TrustedKey]:
    import dataclasses

    text = entry.key
    reference = text if _PUBLIC in text or _SCHEME.fullmatch(text) else folder / text
    begins = _moment(entry.not_before, time.min)
    ends = _moment(entry.not_after, time.max)
    return [
        dataclasses.replace(key, name=entry.name or "", not_before=begins, not_after=ends)
        for key in _trusted(reference, registry)
    ]


def _moment(day: date | None, clock: time) -> datetime | None:
    """The first or last moment of a day, by UTC."""
    return None if day is None else datetime.combine(day, clock, UTC)


def _trusted(reference: KeyReference, registry: Plugins) -> list[TrustedKey]:
    from sdkpack.bundle import TrustedKey
    from sdkpack.crypto.keyfile import parse_keys, public_part
    from sdkpack.crypto.signature import VerifyingKey

    if isinstance(reference, str) and _PUBLIC in reference and _SECRET not in reference:
        keys, where = parse_keys(reference, where="the trusted key"), "the trusted key"
    else:
        keys, where = load_keys(reference, registry), os.fspath(reference)
    public = [part for key in keys if isinstance(part := public_part(key), VerifyingKey)]
    if not public:
        kinds = ", ".join(sorted({type(key).__name__ for key in keys}))
        raise KeyFileError(f"{where} has no signing key, only {kinds}", hint="give the publisher's public key")
    return [TrustedKey(key=key) for key in public]


def _distinct(keys: Iterable[TrustedKey]) -> tuple[TrustedKey, ...]:
    return tuple({trusted.key: trusted for trusted in keys}.values())

"""Conformance of key providers."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

import pytest
from cryptography.exceptions import InvalidSignature

from sdkpack.errors import SdkpackError
from sdkpack.host.registry import Registered, load_class
from sdkpack.plugin.info import KeyProviderInfo
from sdkpack.plugin.keys import KeyProvider
from sdkpack.testing.base import Conformance

__all__ = ["KeyProviderConformance"]

_WORDS = {"load", "wrap", "unwrap", "sign"}


class KeyProviderConformance(Conformance):
    """Subclass it, name a scheme, and override `stored`.

    Attributes:
        scheme: of the references that it serves: `env` for `env:ACME_KEY`.
        missing: a reference that names nothing.
    """

    scheme: ClassVar[str]
    missing: ClassVar[str] = "SDKPACK_CONFORMANCE_NO_SUCH_KEY"

    @contextmanager
    def stored(self, text: str) -> Iterator[str]:
        """Puts a key file's text where the provider finds it; gives its reference without the scheme.

        A provider that only works in place (a KMS) overrides `in_place` instead.
        """
        pytest.skip("override stored() to test the capability 'load'")
        yield text

    @contextmanager
    def in_place(self) -> Iterator[str]:
        """A reference to a key that wraps, unwraps or signs in place."""
        pytest.skip("override in_place() to test wrapping and signing")
        yield ""

    def row(self) -> Registered[KeyProviderInfo]:
        return self.registry.key_provider(self.scheme)

    def provider(self) -> KeyProvider:
        made: KeyProvider = load_class(self.row(), self.row().info.load)()
        return made

    def _needs(self, word: str) -> None:
        if word not in self.row().info.capabilities:
            pytest.skip(f"the descriptor does not say {word}")

    def test_it_keeps_its_contract(self) -> None:
        assert isinstance(self.provider(), KeyProvider)
        info = self.row().info
        assert set(info.capabilities) & _WORDS, f"capabilities say what it can do: {', '.join(sorted(_WORDS))}"
        assert all(re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme) for scheme in info.schemes)

    def test_it_hands_out_what_was_put_there(self) -> None:
        self._needs("load")
        from sdkpack.crypto.keyfile import format_key
        from sdkpack.crypto.signature import SigningKey

        text = format_key(SigningKey.generate("ed25519", os.urandom))
        with self.stored(text) as reference:
            assert self.provider().load(reference).strip() == text.strip()

    def test_a_missing_key_is_an_error_that_tells_no_secret(self) -> None:
        self._needs("load")
        with pytest.raises(SdkpackError) as caught:
            self.provider().load(self.missing)
        assert caught.value.hint, "say how to put it there"

    def test_what_it_cannot_do_is_an_error(self) -> None:
        words = set(self.row().info.capabilities)
        provider = self.provider()
        calls: dict[str, Callable[[], object]] = {
            "load": lambda: provider.load("x"),
            "wrap": lambda: provider.wrap("x", bytes(32), b"context"),
            "unwrap": lambda: provider.unwrap("x", bytes(40), b"context"),
            "sign": lambda: provider.sign("x", b"message"),
        }
        for word in sorted(set(calls) - words):
            with pytest.raises(SdkpackError):
                calls[word]()

    def test_wrapped_keys_come_back_under_their_context_only(self) -> None:
        self._needs("wrap")
        self._needs("unwrap")
        provider, key = self.provider(), os.urandom(32)
        with self.in_place() as reference:
            wrapped = provider.wrap(reference, key, b"context")
            assert key not in wrapped
            assert provider.unwrap(reference, wrapped, b"context") == key
            for other in (b"", b"contexT"):
                with pytest.raises(SdkpackError):
                    provider.unwrap(reference, wrapped, other)
            with pytest.raises(SdkpackError) as caught:
                provider.unwrap(reference, wrapped[:-1], b"context")
            assert key.hex() not in str(caught.value)

    def test_signatures_verify(self) -> None:
        self._needs("sign")
        from sdkpack.crypto.signature import VerifyingKey

        provider = self.provider()
        with self.in_place() as reference:
            alg, public = provider.public_key(reference)
            signature = provider.sign(reference, b"message")
            assert provider.public_key(reference) == (alg, public)
            VerifyingKey(alg, public).verify(b"message", signature)
            with pytest.raises(InvalidSignature):
                VerifyingKey(alg, public).verify(b"massage", signature)

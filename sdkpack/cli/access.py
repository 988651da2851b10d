"""The options that several verbs share: whom to trust, which keys open a bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sdkpack.errors import UsageError

if TYPE_CHECKING:
    from sdkpack.bundle import TrustPolicy
    from sdkpack.session.keys import Plugins

__all__ = ["bundle_argument", "key_options", "policy", "trust_options"]

R = TypeVar("R")


def bundle_argument(function: Callable[..., R]) -> Callable[..., R]:
    return click.argument("bundle", type=click.Path(path_type=Path))(function)


def key_options(function: Callable[..., R]) -> Callable[..., R]:
    return click.option(
        "--key", "keys", multiple=True, metavar="REFERENCE",
        help="What opens an encrypted bundle: a key file, env:NAME, or a key provider's reference. May be repeated.",
    )(function)  # fmt: skip


def trust_options(function: Callable[..., R]) -> Callable[..., R]:
    function = click.option("--allow-unsigned", is_flag=True, help="Accept a bundle that no trusted key signed.")(
        function
    )
    return click.option(
        "--trust", multiple=True, metavar="KEY_OR_FILE",
        help="Whose signature is believed: a public key file, or a trust file (*.toml). May be repeated for keys.",
    )(function)  # fmt: skip


def policy(trust: tuple[str, ...], allow_unsigned: bool, registry: Plugins) -> TrustPolicy:
    """The trust that was stated.

    Raises:
        UsageError: none was: whether an unknown maker is fine is for the user to say.
    """
    from sdkpack.session.keys import trust_policy

    return trust_policy(stated_trust(trust, allow_unsigned), registry, allow_unsigned=allow_unsigned)[0]


def stated_trust(trust: tuple[str, ...], allow_unsigned: bool) -> Any:
    """What `sdkpack.open` takes as `trust`."""
    if not trust and not allow_unsigned:
        raise UsageError(
            "nobody is trusted: say whose signature you believe",
            hint="--trust PUBLISHER.pub, or --allow-unsigned where the maker does not matter",
        )
    files = [one for one in trust if one.endswith(".toml")]
    if files and len(trust) > 1:
        raise UsageError("a trust file stands alone: it names all keys", hint="--trust FILE.toml, or only keys")
    return trust[0] if files else (list(trust) or None)

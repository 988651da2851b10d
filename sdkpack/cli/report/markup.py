"""HTML and SVG by construction: what is no `Markup` is text, and text cannot become markup."""

from __future__ import annotations

import unicodedata
from html import escape

__all__ = ["Markup", "element", "join", "text"]

_VOID = frozenset({"meta", "input", "br", "rect", "path", "circle"})
_KEPT = frozenset("\n\t")


class Markup(str):
    """Text that is markup already, made by `element` or written in this package; never from a model or a plugin."""

    __slots__ = ()


def text(value: str) -> Markup:
    """`value` as what it says.

    Besides the characters of markup, those are replaced that would change how the rest of the page reads: control
    characters, and the marks that turn the direction of writing (a name that shows another one than it is).
    """
    shown = "".join(
        char if char in _KEPT or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co") else "\ufffd"
        for char in value
    )
    return Markup(escape(shown, quote=True))


def element(name: str, /, *children: str, **attributes: str | float | bool | None) -> Markup:
    """One element. Attributes whose value is None or False are left out; `class_` is `class`, `data_n` is `data-n`."""
    head = "".join(
        f" {_attribute(key)}" if value is True else f' {_attribute(key)}="{text(str(value))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    inner = join(*children)
    if name in _VOID:
        return Markup(f"<{name}{head}/>")
    return Markup(f"<{name}{head}>{inner}</{name}>")


def join(*children: str) -> Markup:
    """One after the other; what is plain text is escaped."""
    return Markup("".join(child if isinstance(child, Markup) else text(child) for child in children))


def _attribute(key: str) -> str:
    return key.rstrip("_").replace("_", "-")

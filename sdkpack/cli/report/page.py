"""The report of an optimisation as one HTML page that needs nothing else: no network, no other file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from sdkpack.cli.report.kinds import KINDS, TERMINAL, TEXT_COLOUR
from sdkpack.cli.report.markup import Markup, element
from sdkpack.cli.report.picture import picture
from sdkpack.cli.report.tables import by_category, by_operator, by_pass, cards, compared, count, idle, undone

if TYPE_CHECKING:
    from sdkpack.build.convert import Converted

__all__ = ["page"]

_NO_GRAPHS: Final = "No pass ran, so there is nothing to draw."


def page(name: str, made: Converted) -> str:
    """The page's text; the same for the same data, but for the seconds that passes took.

    A policy in its head lets only its own style and script take effect, whatever a name in a model contains.

    Args:
        name: of the source.
        made: what came of it.
    """
    from sdkpack import __version__

    # Of this package, and hashed below.
    style, script = Markup(_file("page.css") + _colours()), Markup(_file("page.js"))
    policy = (
        f"default-src 'none'; base-uri 'none'; form-action 'none'; style-src {_hash(style)}; script-src {_hash(script)}"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{name}, optimised"),
        element("style", style),
    )
    body = element("body", *_body(name, made), element("footer", f"sdkpack {__version__}"), element("script", script))
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _body(name: str, made: Converted) -> list[Markup]:
    passes: Sequence[Mapping[str, Any]] = made.passes
    parts = [element("h1", name), _verdict(passes, made.evidence), cards(passes, made)]
    parts += [element("h2", "Before and after"), picture(*made.graphs) if made.graphs else _none(_NO_GRAPHS)]
    if passes:
        parts += [element("h2", "Operators"), by_operator(passes)]
        parts += [element("h2", "Kinds of change"), by_category(passes)]
        parts += [element("h2", "Passes"), by_pass(passes), idle(passes)]
    parts += [element("h2", "What was undone, and why"), undone(passes)]
    parts += [element("h2", "What was compared"), compared(made.evidence)]
    if made.notes:
        parts += [element("h2", "Notes"), element("ul", *(element("li", note) for note in made.notes))]
    return parts


def _verdict(passes: Sequence[Mapping[str, Any]], evidence: Sequence[Mapping[str, Any]]) -> Markup:
    found = [one for one in evidence if one["check"] == "optimization"]
    if not found:
        return element("p", "Nothing was optimised.", class_="sub")
    if not found[-1]["passed"]:
        return element("p", element("span", "Not proven: ", class_="bad"), str(found[-1]["note"]))
    outputs, trials = count(len(found[-1]["tensors"]), "output"), count(len(found[-1]["samples"]), "set")
    if not any(one["verdict"] == "kept" for one in passes):
        return element("p", "No pass changed anything: the model is as it was.")
    says = f" {outputs} compared on {trials} of inputs with {found[-1]['reference']}: equal, or within the tolerance."
    return element("p", element("span", "Means the same:", class_="good"), says)


def _none(says: str) -> Markup:
    return element("p", says, class_="none")


def _file(name: str) -> str:
    return resources.files("sdkpack.cli.report").joinpath(name).read_text("utf-8")


def _colours() -> str:
    rules = [
        f".k-{kind.name} rect:not(.ring), rect.k-{kind.name} {{ fill: {kind.colour}; }}" for kind in (*KINDS, TERMINAL)
    ]
    return "\n".join([*rules, f".n text {{ fill: {TEXT_COLOUR}; }}", ""])


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"

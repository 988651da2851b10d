"""The report of an optimisation as one HTML page, without anything from elsewhere."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdkpack.build.convert import Converted

__all__ = ["page"]


def page(name: str, made: Converted) -> str:
    """The page's text."""
    rows = "".join(
        f"<tr><td>{escape(one['name'])}</td><td>{escape(one['category'])}</td><td>{one['round']}</td>"
        f"<td>{sum(one['before'].values())} to {sum(one['after'].values())}</td>"
        f"<td>{one['before_bytes']} to {one['after_bytes']}</td><td>{one['seconds']:.2f} s</td>"
        f"<td>{escape(one['verdict'])}</td><td>{escape(one['reason'])}</td></tr>"
        for one in made.passes
    )
    head = "<tr><th>pass<th>category<th>round<th>nodes<th>constants, bytes<th>time<th>verdict<th>why</tr>"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(name)}</title>"
        f"<h1>{escape(name)}</h1><table>{head}{rows}</table></html>"
    )

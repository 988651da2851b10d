"""Markup is made, never pasted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sdkpack.cli.report.markup import Markup, element, join, text
from tests.unit.cli.report.pages import Page


@given(st.text(), st.text())
def test_whatever_is_said_is_text(child: str, attribute: str) -> None:
    made = element("p", child, title=attribute)
    read = Page(made)
    assert [tag for tag, _ in read.elements] == ["p"]
    made.encode()
    seen = "".join(said for _, said in read.texts)
    assert len(seen) in (0, len(child)), "nothing is lost, unless it is blank"


def test_elements() -> None:
    assert element("br") == "<br/>"
    assert element("p", "a<b", element("b", "c"), class_="x", data_n=3, hidden=True, title=None, lang=False) == (
        '<p class="x" data-n="3" hidden>a&lt;b<b>c</b></p>'
    )
    assert join("<", Markup("<br/>")) == "&lt;<br/>"


def test_what_would_change_the_reading_is_replaced() -> None:
    assert text("a\x00b\u202ec\u2066d\ud800e\x1b\tf\n") == "a\ufffdb\ufffdc\ufffdd\ufffde\ufffd\tf\n"

"""The page: complete, closed, the same each time, and nothing but text where a model says something."""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from sdkpack.build.convert import Converted
from sdkpack.cli.report.kinds import KINDS, TERMINAL, kind_of
from sdkpack.cli.report.page import page
from tests.unit.cli.report.pages import HOSTILE, Page

SHOWN = HOSTILE.replace("\u202e", "\ufffd")


@pytest.fixture(scope="module")
def text(made: Converted) -> str:
    return page("net.onnx", made)


def test_all_parts_are_there(text: str, made: Converted) -> None:
    read = Page(text)
    assert read.text("h1") == "net.onnx"
    assert read.text("h2").split("\n") == [
        "Before and after", "Operators", "Kinds of change", "Passes", "What was undone, and why", "What was compared",
    ]  # fmt: skip
    said = read.text()
    for one in made.passes:
        assert one["name"] in said
    assert "output 'y' differs" in said
    assert "Means the same:" in read.text("span")
    figures = read.text("dd").split("\n")
    verdicts = Counter(one["verdict"] for one in made.passes)
    assert verdicts["kept"] == 2
    assert verdicts["undone"] >= 1
    assert figures[0] == "11 → 9"
    assert f"2 kept, {verdicts['undone']} undone" in read.text("small")
    assert text.count("<li><code>test.fault</code>") == 1, "one reason, told once"
    assert [tensor["name"] for one in made.evidence for tensor in one["tensors"]] == ["y"]
    for digest in made.evidence[-1]["samples"]:
        assert digest in said


def test_each_pass_says_nodes_by_operator_bytes_and_verdict(text: str, made: Converted) -> None:
    rows = re.findall(r"<tr>.*?</tr>", text)
    kept = [row for row in rows if "test.tidy" in row and ">kept<" in row]
    assert len(kept) == 2
    assert "Identity \N{MINUS SIGN}1" in kept[0]
    size = f"{made.passes[0]['before_bytes']:,}"
    assert f"{size} → {size} B" in kept[0]
    undone = [row for row in rows if "test.fault" in row]
    assert all(">undone<" in row and "output &#x27;y&#x27; differs" in row for row in undone)
    assert undone


def test_the_page_needs_nothing_else(text: str) -> None:
    read = Page(text)
    for tag, attributes in read.elements:
        assert not attributes.keys() & {"src", "href", "srcset", "action", "style"}, tag
        assert not [name for name in attributes if name.startswith("on")], tag
    assert not {tag for tag, _ in read.elements} & {"link", "img", "iframe", "object", "base", "form"}
    assert "url(" not in text
    assert "@import" not in text


def test_the_policy_lets_this_style_and_this_script_run_and_no_other(text: str) -> None:
    read = Page(text)
    (policy,) = [meta["content"] for meta in read.all("meta") if "http-equiv" in meta]
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in (policy or "")
    assert "default-src 'none'" in (policy or "")
    assert "unsafe" not in (policy or "")


def test_hostile_names_are_text(text: str, made: Converted) -> None:
    read = Page(text)
    assert len(read.all("script")) == 1
    assert any(SHOWN in said for where, said in read.texts if where == "title"), "the node's own name"
    rows = [dict(one, reason=HOSTILE, name=HOSTILE, category=HOSTILE, verdict=HOSTILE, notes=[HOSTILE],
                 before={HOSTILE: 1}, after={f"{HOSTILE}.a": 2}) for one in made.passes]  # fmt: skip
    evidence = [dict(one, note=HOSTILE, check=HOSTILE, reference=HOSTILE, tools={HOSTILE: HOSTILE}, samples=[HOSTILE],
                     tensors=[dict(tensor, name=HOSTILE) for tensor in one["tensors"]], where={HOSTILE: HOSTILE})
                for one in made.evidence]  # fmt: skip
    worst = Page(page(HOSTILE, replace(made, passes=tuple(rows), evidence=tuple(evidence), notes=(HOSTILE,))))
    assert len(worst.all("script")) == 1
    assert worst.text("h1") == SHOWN
    assert {tag for tag, _ in worst.elements} <= {tag for tag, _ in read.elements} | {"ul", "li"}


def test_the_same_data_gives_the_same_page(text: str, made: Converted) -> None:
    assert page("net.onnx", made) == text
    later = page("net.onnx", replace(made, passes=tuple(dict(one, seconds=9.5) for one in made.passes)))
    assert len(later.splitlines()) == len(text.splitlines())


def test_the_legend_has_each_kind_that_is_drawn_and_no_other(text: str) -> None:
    read = Page(text)
    drawn = {word for group in read.all("g", "n") for word in (group["class"] or "").split() if word.startswith("k-")}
    legend = [row["data-kind"] for row in read.all("li") if "data-kind" in row]
    assert drawn == set(legend) - {"gone", "new"}
    assert {"k-conv", "k-norm", "k-act", "k-arith", "k-flow", "k-end", "k-shape"} == drawn
    titles = read.text("li")
    assert all(kind.title in titles for kind in (*KINDS, TERMINAL) if f"k-{kind.name}" in drawn)
    assert all(f".k-{kind.name} rect" in text for kind in (*KINDS, TERMINAL)), "each has a colour"


def test_both_graphs_and_their_branches_are_drawn(text: str) -> None:
    read = Page(text)
    pictures = [svg for svg in read.all("svg") if svg.get("role") == "img" and svg.get("tabindex") == "0"]
    said = [svg["aria-label"] for svg in pictures]
    assert said[0] == "main graph before the optimisation: 8 nodes"
    assert "main graph after the optimisation: 6 nodes" in said
    assert sum("If choice" in (label or "") for label in said) == 4, "two branches, twice"
    assert [row["value"] for row in read.all("option")] == ["0", "1", "2"]
    (first, second) = [group for group in read.all("g", "k-flow") if "data-opens" in group]
    assert (first["data-opens"], second["data-opens"]) == ("1", "1")
    assert len([group for group in read.all("g", "gone") if "data-n" in group]) == 2, "the Identity nodes"
    assert "then 1, else 2" in read.text("text")


def test_lines_lead_to_nodes(text: str) -> None:
    for picture in re.findall(r"<svg[^>]*tabindex.*?</svg>", text):
        nodes = set(re.findall(r'data-n="(\d+)"', picture))
        lines = re.findall(r'data-a="(\d+)" data-b="(\d+)"', picture)
        assert lines
        assert {end for line in lines for end in line} <= nodes


def test_without_the_library_everything_but_the_picture_is_there(
    made: Converted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "graphlay", None)
    read = Page(page("net.onnx", made))
    assert "pip install 'sdkpack[report]'" in read.text("p")
    assert not read.all("g", "n")
    assert "What was compared" in read.text("h2")


def test_a_model_that_no_pass_ran_on(made: Converted) -> None:
    read = Page(page("net.onnx", replace(made, passes=(), graphs=None, evidence=())))
    assert "nothing to draw" in read.text("p")
    assert "Nothing was optimised." in read.text("p")


def test_what_was_not_compared_is_not_called_the_same(made: Converted) -> None:
    note = "not compared: its weights are larger than 2 GiB"
    evidence = [dict(one, passed=False, note=note, tensors=[]) for one in made.evidence]
    read = Page(page("net.onnx", replace(made, evidence=tuple(evidence))))
    assert "Means the same:" not in read.text()
    assert note in read.text("p")


def test_a_page_of_700_nodes_stays_below_two_megabytes(made: Converted) -> None:
    nodes = [helper.make_node("Conv" if place % 2 else "Relu", [f"v{place}", *(["w"] if place % 2 else [])],
                              [f"v{place + 1}"], name=f"/backbone/stage/block.{place}/conv/Conv_{place}")
             for place in range(700)]  # fmt: skip
    value = helper.make_tensor_value_info
    shape = ["batch", 64, 160, 160]
    graph = helper.make_graph(
        nodes, "g", [value("v0", TensorProto.FLOAT, shape)], [value("v700", TensorProto.FLOAT, shape)],
        [onnx.numpy_helper.from_array(np.zeros((64, 64, 1, 1), np.float32), "w")],
    )  # fmt: skip
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    text = page("net.onnx", replace(made, graphs=(whole, whole)))
    assert len(Page(text).all("g", "n")) == 2 * 702
    assert len(text.encode()) < 2_000_000


def test_names_of_any_length_leave_the_page_small(made: Converted) -> None:
    long = "n" * 1_000_000
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Relu", ["x"], [long], name=long), helper.make_node("Relu", [long], ["y"])]
    graph = helper.make_graph(nodes, long, [value("x", 1, [long])], [value("y", 1, [long])])
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    assert len(page("net.onnx", replace(made, graphs=(whole, whole)))) < 100_000


def test_the_swatch_of_an_operator_has_the_kind_of_its_nodes(text: str) -> None:
    swatches = re.findall(r'swatch k-(\w+)"/></svg>(\w+)</td>', text)
    assert {name: kind for kind, name in swatches} == {
        name: kind_of(name).name
        for name in ("BatchNormalization", "Constant", "Conv", "Greater", "Identity", "If", "Neg", "Relu")
    }

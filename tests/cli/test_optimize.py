"""`sdkpack optimize`: words in, a model and a page out."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--pass", "test.tidy=maybe"], 2, "--pass: got 'test.tidy=maybe', expected NAME or NAME=off"),
        (["--pass-set", "a"], 2, "--pass-set: got 'a', expected NAME.KEY=VALUE"),
        (["--pass", "no.such.pass"], 2, "there is no pass 'no.such.pass'"),
        (["--for", "acme.none"], 5, "acme.none"),
        (["--level", "extreme"], 2, "--level"),
    ],
)
def test_wrong_words(project: Path, sdkpack, words: list[str], code: int, said: str) -> None:  # type: ignore[no-untyped-def]
    ended = sdkpack("optimize", "net.onnx", "-o", "out.onnx", *words)
    assert ended.code == code, ended.err
    assert said in ended.err
    assert not (project / "out.onnx").exists()


def test_a_report_that_is_there_stays(project: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    (project / "page.html").write_text("mine")
    ended = sdkpack("optimize", "net.onnx", "--report", "page.html")
    assert (ended.code, "--force" in ended.err) == (1, True)
    assert (project / "page.html").read_text() == "mine"


def test_a_report_is_one_page_about_the_model(project: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    ended = sdkpack("optimize", "net.onnx", "-o", "out.onnx", "--report", "page.html", "--level", "safe")
    assert ended.code == 0, ended.err
    page = (project / "page.html").read_text("utf-8")
    assert page.startswith("<!doctype html>")
    assert page.rstrip().endswith("</html>")
    assert "<h1>net.onnx</h1>" in page
    assert "Gemm" in page
    assert "page.html" in ended.out

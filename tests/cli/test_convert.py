"""`sdkpack convert`: words in, files and a page out."""

from __future__ import annotations

from pathlib import Path

import pytest


def test_a_cut_is_written_and_told(project: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    ended = sdkpack("convert", "net.onnx", "--cut-output", "y", "-o", "part.onnx", "--json")
    assert ended.code == 0, ended.err
    assert [Path(file["path"]).name for file in ended.json["files"]] == ["part.onnx"]
    assert ended.json["steps"] == {"run": 2, "stored": 0}
    assert (project / "part.onnx").is_file()
    ended = sdkpack("convert", "net.onnx", "-o", "same.onnx")
    assert "converted net.onnx" in ended.out
    assert "Gemm 1" in ended.out
    assert "hint: sdkpack init same.onnx" in ended.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--input", "x=float32[1,3"],
            "--input x: got 'float32[1,3', expected a form such as float32[N,3,224,224]NCHW",
        ),
        (["--input", "x"], "--input: got 'x', expected NAME=SPEC"),
        (["--range", "x=0"], "--range x: got '0', expected a form such as 0:255"),
        (["--set", "k"], "--set: got 'k', expected KEY=VALUE"),
        (["--input", "x=[1,4]", "--range", "x=5:1"], "inputs.x.range: empty, expected the least number first"),
        (["--input", "q=[1,4]"], "the model has no input 'q', expected one of x"),
        (["--opset", "3"], "invalid value for '--opset'"),
    ],
)
def test_wrong_words_end_with_2(project: Path, sdkpack, words: list[str], said: str) -> None:  # type: ignore[no-untyped-def]
    ended = sdkpack("convert", "net.onnx", "-o", "out.onnx", *words)
    assert ended.code == 2, ended.err
    assert said in ended.err
    assert not (project / "out.onnx").exists()


def test_missing_files_end_with_1(project: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    for words in (["nothing.onnx"], ["net.onnx", "--file", "a=nothing.txt"], ["net.onnx", "--sample", "nothing.npz"]):
        ended = sdkpack("convert", *words, "-o", "out.onnx")
        assert ended.code == 1
        assert "there is no file 'nothing" in ended.err


def test_a_file_that_is_there_stays(project: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    (project / "mine.onnx").write_text("mine")
    ended = sdkpack("convert", "net.onnx", "-o", "mine.onnx")
    assert (ended.code, "--force" in ended.err) == (1, True)
    assert (project / "mine.onnx").read_text() == "mine"
    assert sdkpack("convert", "net.onnx", "-o", "mine.onnx", "--force").code == 0


def test_hints_say_what_the_command_line_has() -> None:
    from sdkpack.cli.sources import hints_as_options
    from sdkpack.errors import ModelError

    said = {
        'name it in the recipe: models.det1.convert.files.prototxt = "det1.prototxt"': (
            "name it: --file prototxt=det1.prototxt"
        ),
        "fix them in the recipe: models.net.convert.with.constants.rate = 16000": (
            "fix them: --set constants.rate=16000"
        ),
        "models.a-b.convert.allow_code = true": "--allow-code",
        "known: models.net.convert.max_error": "known: --max-error",
        "random: models.net.convert.compare = false": "random: --no-compare",
        "name one in the recipe, for its model: convert.converter = 'acme.net'": "name one --converter acme.net",
    }
    for hint, expected in said.items():
        with pytest.raises(ModelError) as error, hints_as_options():
            raise ModelError("no", hint=hint)
        assert error.value.hint == expected


def test_settings_with_dots_are_tables() -> None:
    import click

    from sdkpack.cli.sources import nested

    assert nested([("a.b", 1), ("a.c.d", 2), ("e", 3)]) == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    with pytest.raises(click.UsageError, match="'a' has a value already"):
        nested([("a", 1), ("a.b", 2)])

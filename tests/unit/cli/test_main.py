"""Every way in which a verb can end, with its exit code."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import click
import pytest

from sdkpack.cli.app import VERBS, app
from sdkpack.cli.main import main
from sdkpack.errors import BundleError, DocumentError, GateError, PluginMissingError, Problem, SdkpackError


def exit_code(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Makes the command line end with a given exception."""

    def fail_with(error: BaseException) -> None:
        def run(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(app, "main", run)

    return fail_with


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SdkpackError("a"), 1),
        (DocumentError("a"), 2),
        (BundleError("a"), 4),
        (PluginMissingError("a"), 5),
        (GateError("a"), 6),
        (click.UsageError("A."), 2),
        (click.Abort(), 130),
        (KeyboardInterrupt(), 130),
        (FileNotFoundError(errno.ENOENT, "No such file", "x.onnx"), 1),
        (OSError(errno.ENOSPC, "No space left on device", "x"), 1),
        (ZeroDivisionError("division by zero"), 3),
    ],
)
def test_exit_codes(failing, error: BaseException, code: int) -> None:  # type: ignore[no-untyped-def]
    failing(error)
    assert exit_code(["pack"]) == code


def test_a_failure_names_code_message_problems_and_hint(failing, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    problem = Problem(path="models.det.sorce", message="unknown key", expected="one of source", hint="did you mean?")
    failing(DocumentError("a problem in this recipe", where="recipe.toml", hint="look", problems=[problem]))
    exit_code(["pack"])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "error E102: recipe.toml: a problem in this recipe\n"
        "  models.det.sorce: unknown key, expected one of source (did you mean?)\n"
        "hint: look\n"
    )


def test_json_prints_one_document_for_a_failure(failing, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    failing(BundleError("changed", hint="get it again"))
    exit_code(["verify", "--json"])
    captured = capsys.readouterr()
    assert captured.err == ""
    assert json.loads(captured.out) == {
        "ok": False,
        "error": {"code": "E400", "exit_code": 4, "message": "changed", "hint": "get it again"},
    }


def test_a_bug_leaves_a_log_without_values(
    failing,  # type: ignore[no-untyped-def]
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    secret = "c2VjcmV0"
    try:
        key = secret
        assert not key, "boom"
    except AssertionError as error:
        failing(RuntimeError("boom").with_traceback(error.__traceback__))
    assert exit_code(["pack"]) == 3
    (log,) = tmp_path.iterdir()
    assert str(log) in capsys.readouterr().err
    text = log.read_text()
    assert "RuntimeError: boom" in text
    assert secret not in text


def test_a_misspelt_verb_gets_a_near_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["inspct"]) == 2
    assert (
        capsys.readouterr().err
        == "error E101: no such command 'inspct'; did you mean 'inspect'?\nhint: see: sdkpack --help\n"
    )


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["--help"]) == 0
    text = capsys.readouterr().out
    assert [verb for verb in VERBS if f"  {verb} " not in text] == []


def test_working_folder_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = Path.cwd()
    try:
        assert exit_code(["-C", str(tmp_path / "none"), "doctor"]) == 2
        assert "-C" in capsys.readouterr().err
        assert exit_code(["-C", str(tmp_path), "--version"]) == 0
    finally:
        os.chdir(here)

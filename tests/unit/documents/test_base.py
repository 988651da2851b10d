"""Every finding is told at once, with path, got, expected and near match."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest

from sdkpack.documents import Manifest, Recipe, Report, Trust
from sdkpack.documents.base import json_object
from sdkpack.documents.pipeline import ParamSpec, Pipeline
from sdkpack.errors import DocumentError, DocumentVersionError, FormatVersionError

HEAD = (
    'recipe = 1\nbundle = { name = "a", version = "1" }\nmodels.net.source = "n"\ntargets.cpu.runtime = "acme.npu2"\n'
)
TRUST = 'trust = 1\n[[keys]]\nkey = "a.pub"\n'


def findings(text: str) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        Recipe.from_toml(text, where="recipe.toml")
    assert caught.value.exit_code == 2
    assert str(caught.value).startswith("recipe.toml: ")
    return [str(problem) for problem in caught.value.problems]


def pipeline(steps: str, extra: str = "") -> str:
    return HEAD + f'[pipelines.p]\ninputs.image = "image"\n{extra}\nsteps = [{steps}]\n'


def test_a_typo_hides_nothing_else() -> None:
    found = findings(
        pipeline('{ mdoel = "net" }, { op = "a", batch = { max = 0, sort_by = "aspct" } }, { op = "a", model = "b" }')
        .replace('name = "a"', 'name = "A b"')
        .replace('runtime = "acme', 'runtim = "acme')
    )
    paths = {line.split(": ")[0] for line in found}
    assert paths == {
        "bundle.name",
        "targets.cpu.runtim",
        "targets.cpu.runtime",
        "pipelines.p.steps[0].mdoel",
        "pipelines.p.steps[1].batch.max",
        "pipelines.p.steps[1].batch.sort_by",
        "pipelines.p.steps[2]",
    }
    text = "\n".join(found)
    assert "(did you mean 'model'?)" in text
    assert "(did you mean 'runtime'?)" in text
    assert "batch.max: out of bounds, expected at least 1, got 0" in text
    assert "expected 'none' or 'aspect', got 'aspct' (did you mean 'aspect'?)" in text


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ('{ op = "a", in = 3 }', "in: wrong type, expected text or a list or a table, got 3"),
        ('{ op = "a", in = ["x", 3] }', "in[1]: wrong type, expected text, got 3"),
        ('{ op = "a", in = { x = 3 } }', "in.x: wrong type, expected text, got 3"),
        ('{ op = "a", in = { str = 3 } }', "in.str: wrong type, expected text, got 3"),
        ('{ op = "a", as = "1" }', "as: not allowed, expected a name of"),
        ('{ op = "a", as = ["ok", "1"] }', "as[1]: not allowed, expected a name of"),
        ('{ op = "a", as = ["ok", 1] }', "as[1]: wrong type, expected text, got 1"),
        ('{ op = "a", inputs = "x" }', "inputs: unknown key, expected one of as, batch, each, in, "),
        ('{ op = "A" }', "op: not allowed, expected an operator such as image.resize or image.resize/1, got 'A'"),
        ('{ op = "a", with = { v = nan } }', "with.v: nan is not a number"),
        ('{ op = "a", with = { v = [-inf] } }', "with.v[0]: -inf is not a number"),
        ('{ op = "a", with = { v = 18446744073709551616 } }', "with.v: number does not fit into 64 bits"),
        ('{ op = "a", with = { v = 2026-01-31 } }', "with.v: a date has no place here (put it into quotes)"),
        ('{ op = "a", with = { v = 10:00:00 } }', "with.v: a time has no place in a document"),
        ('{ op = "a", with = { v = 2026-01-31T10:00:00 } }', "with.v: a datetime has no place in a document"),
        ('{ op = "a", otherwise = "x" }', "`otherwise` needs `when`"),
    ],
)
def test_a_step_is_told_without_labels_of_unions(steps: str, told: str) -> None:
    found = findings(pipeline(steps))
    assert len(found) == 1
    assert found[0].startswith(
        f"pipelines.p.steps[0]{':' if told.startswith('`') else '.'}{' ' * told.startswith('`')}{told}"
    )


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("recipe = 1", "recipe = true", "recipe: wrong type, expected 1, got True"),
        ("recipe = 1", "recipe = 1.0", "recipe: wrong type, expected 1, got 1.0"),
        ("recipe = 1", "recipe = 0", "recipe: not allowed, expected 1, got 0"),
        ("recipe = 1", 'recipe = "1"', "recipe: not allowed, expected 1, got '1'"),
        ("recipe = 1", "", "recipe: missing"),
        ('version = "1"', 'version = "1", sequence = "1"', "bundle.sequence: wrong type, expected a whole number, got '1'"),
        ('version = "1"', 'version = "1", sequence = true', "bundle.sequence: wrong type, expected a whole number, got True"),
        ('version = "1"', 'version = "1", sequence = 1.0', "bundle.sequence: wrong type, expected a whole number, got 1.0"),
        ('version = "1"', 'version = "1", sequence = -1', "bundle.sequence: out of bounds, expected at least 0, got -1"),
        ('version = "1"', "version = 2026-01-31", "bundle.version: a date has no place here (put it into quotes)"),
        ('version = "1"', 'version = "1-x"', "bundle.version: not allowed, expected a version such as 1.0.0 or 1.0rc1, got '1-x'"),
        ("models.net", 'models."nét"', "models.nét: not allowed as a name, expected a name of the letters"),
        ("models.net", "models." + "n" * 65, "models." + "n" * 65 + ": out of bounds, expected at most 64 characters"),
        ("models.net.source", "models.net.targets = ['cpv']\nmodels.net.source",
         "models.net.targets[0]: no such target, expected one of cpu, got 'cpv' (did you mean 'cpu'?)"),
        ("models.net.source", "models.net.targets = ['cpu', 'cpu']\nmodels.net.source", "models.net.targets[1]: named twice"),
        ("models.net.source", "models.net.targets = []\nmodels.net.source", "models.net.targets: empty"),
    ],
)  # fmt: skip
def test_one_wrong_thing(old: str, new: str, told: str) -> None:
    found = findings(HEAD.replace(old, new))
    assert len(found) == 1, found
    assert found[0].startswith(told)


def test_names_that_would_clash_are_refused() -> None:
    text = pipeline('{ model = "net" }').replace("pipelines.p]", "pipelines.net]")
    assert findings(text) == ["pipelines.net: a model has this name too (rename one of them)"]
    for name in ("params", "trace", "deadline_s", "until", "_"):
        found = findings(pipeline('{ model = "net" }').replace("inputs.image", f"inputs.{name}"))
        assert found == [
            f"pipelines.p.inputs.{name}: this name is taken, expected none of deadline_s, params, trace, until, _"
        ]


def test_samples_feed_every_input() -> None:
    found = findings(pipeline('{ model = "net" }', 'samples = ["a.png", { imag = "b.png" }]'))
    assert found == ["pipelines.p.samples[1]: not the inputs, expected a file for each of image"]


def test_extension_keys_stay_and_nothing_else_does() -> None:
    text = HEAD + 'x-owner = { team = ["a", 1.5] }\nbundle.x-note = 1\n'.replace("bundle.x-note = 1\n", "")
    made = Recipe.from_toml(text)
    assert made.to_object()["x-owner"] == {"team": ["a", 1.5]}
    assert Recipe.from_object(made.to_object()) == made
    assert findings(HEAD + "y-owner = 1\n")[0].startswith("y-owner: unknown key")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("recipe = 1\nrecipe = 1", "not valid TOML: cannot overwrite a value"),
        ("recipe = ", "not valid TOML: invalid value"),
        (b"\xff\xfe", "not valid TOML: 'utf-8' codec"),
        ("a = " + "[" * 100_000, "nested too deeply"),
        ("a = " + "9" * 5000, "not valid TOML: exceeds the limit"),
    ],
)
def test_what_is_no_toml(text: str | bytes, told: str) -> None:
    with pytest.raises(DocumentError) as caught:
        Recipe.from_toml(text, where="r.toml")
    assert caught.value.message.startswith(told)
    assert caught.value.where == "r.toml"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "key 'c' stands twice in one object"),
        ('{"a": 1, "\\u0061": 2}', "key 'a' stands twice in one object"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ('{"a": -Infinity}', "-Infinity is not a JSON number"),
        ("{", "not valid JSON: expecting property name"),
        (b"\xff", "not valid JSON: "),
        ("[" * 100_000, "nested too deeply"),
        ("9" * 5000, "not valid JSON: exceeds the limit"),
    ],
)
def test_what_is_no_json(text: str | bytes, told: str) -> None:
    with pytest.raises(DocumentError) as caught:
        json_object(text, where="x.json")
    assert caught.value.message.startswith(told)


REPORT = {"report": 1, "bundle": "a", "identity": "b", "size_bytes": 1, "seconds": 1.0}


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("x-a", None, "x-a: null stands for nothing here (leave the key out)"),
        ("x-a", float("nan"), "x-a: nan is not a number"),
        ("x-a", 1e999, "x-a: inf is not a number"),
        ("x-a", b"bytes", "x-a: a bytes has no place in a document"),
        ("x-a", {1: 2}, "x-a.1: a key is text"),
        ("x-a", "\ud800", "x-a: text is not valid Unicode"),
        ("x-a", {"\ud800": 1}, "x-a.'\\ud800': a key is text"),
        ("x-a", -(2**63) - 1, "x-a: number does not fit into 64 bits"),
        ("bundle", None, "bundle: null stands for nothing here (leave the key out)"),
    ],
)
def test_values_that_no_document_has(key: str, value: Any, told: str) -> None:
    with pytest.raises(DocumentError) as caught:
        Report.from_object({**REPORT, key: value})
    assert [str(problem) for problem in caught.value.problems] == [told]


def test_a_depth_bomb_is_refused_and_what_is_allowed_is_not() -> None:
    def nested(depth: int) -> Any:
        value: Any = 1
        for _ in range(depth):
            value = [value]
        return value

    assert Report.from_object({**REPORT, "x-a": nested(30)})
    for depth in (32, 10_000):
        with pytest.raises(DocumentError, match="nested deeper than 32 levels"):
            Report.from_object({**REPORT, "x-a": nested(depth)})


def test_a_document_is_a_table() -> None:
    for value in (None, [], "a", 1):
        with pytest.raises(DocumentError, match="a report is a table of keys"):
            Report.from_object(value)


def test_negative_zero_becomes_zero() -> None:
    seconds = Report.from_object({**REPORT, "seconds": -0.0}).to_object()["seconds"]
    assert str(seconds) == "0.0"


def test_numbers_keep_their_kind() -> None:
    made = ParamSpec.from_object({"default": 1, "min": 0.0, "max": 2}).to_object()
    assert [type(made[key]) for key in ("default", "min", "max")] == [int, float, int]
    assert type(Report.from_object({**REPORT, "seconds": 1}).to_object()["seconds"]) is float


def test_a_newer_document_is_told_to_be_newer() -> None:
    with pytest.raises(DocumentVersionError, match="this recipe has version 2, this sdkpack reads up to 1") as recipe:
        Recipe.from_toml("recipe = 2\nanything = 1")
    assert recipe.value.exit_code == 2
    assert "upgrade" in recipe.value.hint
    with pytest.raises(FormatVersionError) as manifest:
        Manifest.from_object({"manifest": 7})
    assert manifest.value.exit_code == 4


def test_dates_of_trust() -> None:
    native = Trust.from_toml(TRUST + "not_before = 2026-01-31\n")
    quoted = Trust.from_toml(TRUST + 'not_before = "2026-01-31"\n')
    assert native == quoted
    assert native.keys[0].not_before == dt.date(2026, 1, 31)
    assert Trust.from_json(native.to_json()) == native


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('not_before = "2026-02-31"', "keys[0].not_before: wrong type, expected a date such as 2026-01-31, got '2026-02-31'"),
        ("not_before = 3", "keys[0].not_before: wrong type, expected a date such as 2026-01-31, got 3"),
        ("not_before = 2026-01-31T10:00:00Z", "keys[0].not_before: a datetime has no place in a document"),
        ('not_before = "2026-01-31T10:00:00Z"', "keys[0].not_before: wrong type, expected a date"),
        ("name = 2026-01-31", "keys[0].name: a date has no place here (put it into quotes)"),
        ("not_before = 2026-02-01\nnot_after = 2026-01-31", "keys[0]: valid never: not_before 2026-02-01 is after"),
        ('[[keys]]\nkey = "a.pub"', "keys[1].key: listed twice"),
        ("[minimum_sequence]\na = -1", "minimum_sequence.a: out of bounds, expected at least 0, got -1"),
    ],
)  # fmt: skip
def test_wrong_trust(text: str, told: str) -> None:
    with pytest.raises(DocumentError) as caught:
        Trust.from_toml(TRUST + text)
    assert [str(problem)[: len(told)] for problem in caught.value.problems] == [told]


def test_a_threshold_that_cannot_be_met() -> None:
    with pytest.raises(DocumentError, match="threshold: above the number of keys, 1, got 2"):
        Trust.from_toml("threshold = 2\n" + TRUST)


def test_text_form_is_stable() -> None:
    text = Report.from_object(REPORT).to_json()
    assert text.endswith("}\n")
    assert list(json.loads(text)) == sorted(json.loads(text))


def test_parts_are_read_alone_too() -> None:
    with pytest.raises(DocumentError, match="a problem in this pipeline"):
        Pipeline.from_object({"inputs": {}, "outputs": {}})

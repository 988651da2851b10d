"""A step that is not deterministic is pinned by what it gave: to one store by itself, to a plan where one is given."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sdkpack.build.pack import PackResult, plan
from sdkpack.build.pins import result_digest
from sdkpack.build.store import Store, StoredResult
from sdkpack.documents.plan import Plan
from sdkpack.errors import StepError, UsageError
from sdkpack.host.registry import Registry

RECIPE = """
recipe = 1
bundle = { name = "tiny", version = "1.0.0" }
models.net.source = "net.onnx"
models.net.compress = { scheme = "test.dice", max_error = 0.01 }
targets.cpu.runtime = "onnxruntime"
"""
PLAIN = RECIPE.replace('models.net.compress = { scheme = "test.dice", max_error = 0.01 }', "")


@pytest.fixture(scope="session")
def registry() -> Registry:
    return Registry.of_modules(["sdkpack.builtin.plugin", "tests.unit.build.dice"])


Pack = Callable[..., PackResult]


def bytes_of(result: PackResult) -> bytes:
    assert result.path is not None
    return result.path.read_bytes()


def pin(made: Plan) -> str | None:
    (step,) = [step for step in made.steps if not step.deterministic]
    return step.result


def test_one_store_gives_one_bundle(packed: Pack, folder: Path, store: Store, registry: Registry) -> None:
    (folder / "recipe.toml").write_text(RECIPE)
    assert pin(plan(folder, registry=registry, store=store)) is None, "nobody knows it yet"
    first = packed(RECIPE)
    content = bytes_of(first)
    again = packed(RECIPE, overwrite=True)
    assert (bytes_of(again), again.ran) == (content, 0)
    assert pin(first.plan) is not None
    assert pin(first.plan) == pin(again.plan) == pin(plan(folder, registry=registry, store=store))
    (told,) = [step for step in first.report.steps if step.id == "net/compress"]
    assert told.result == pin(first.plan)


def test_another_store_gives_another_bundle(packed: Pack, tmp_path: Path) -> None:
    content = bytes_of(packed(RECIPE))
    with Store(tmp_path / "other") as other:
        assert bytes_of(packed(RECIPE, store=other, overwrite=True)) != content, "else the test shows nothing"


def test_a_pinned_plan_refuses_another_result(packed: Pack, tmp_path: Path) -> None:
    first = packed(RECIPE)
    content = bytes_of(first)
    # As a file, which is how it is kept.
    locked = Plan.from_json(first.plan.to_json())
    same = packed(RECIPE, locked=locked, overwrite=True)
    assert bytes_of(same) == content
    with (
        Store(tmp_path / "other") as other,
        pytest.raises(StepError, match=r"'test.dice' gave another result than the plan is pinned to: got") as caught,
    ):
        packed(RECIPE, store=other, locked=locked, overwrite=True)
    assert caught.value.where == "net/compress"
    assert str(pin(first.plan)) in caught.value.message
    assert "use the store that the plan was made with" in caught.value.hint
    assert bytes_of(first) == content, "the bundle that stands there is not touched"


def test_what_was_made_of_one_result_is_not_taken_for_another(packed: Pack, store: Store) -> None:
    """A store that lost what the step gave, and kept what was made of it."""
    first = packed(RECIPE)
    content = bytes_of(first)
    (step,) = [step for step in first.plan.steps if not step.deterministic]
    store._record(step.key).unlink()
    second = packed(RECIPE, overwrite=True)
    assert pin(second.plan) != pin(first.plan)
    assert {run.id for run in second.report.steps if not run.cached} == {
        "net/compress",
        "net/compile/cpu",
        "net/golden",
    }
    # A plan that is pinned to the first finds all of it still.
    third = packed(RECIPE, locked=first.plan, overwrite=True)
    assert (third.ran, bytes_of(third)) == (0, content)


def test_a_plan_of_another_recipe_is_refused(packed: Pack) -> None:
    first = packed(RECIPE)
    with pytest.raises(UsageError, match="the plan is not one of this recipe") as caught:
        packed(PLAIN, locked=first.plan, overwrite=True)
    assert "steps.net/compress" in {problem.path for problem in caught.value.problems}
    changed = RECIPE.replace("0.01", "0.02")
    with pytest.raises(UsageError) as caught:
        packed(changed, locked=first.plan, overwrite=True)
    assert [problem.path for problem in caught.value.problems if "compress" in problem.path] == [
        "steps.net/compress.params"
    ]


def test_a_deterministic_plan_has_no_pins(packed: Pack) -> None:
    result = packed(PLAIN)
    assert all(step.deterministic and step.result is None for step in result.plan.steps)
    assert packed(PLAIN, locked=result.plan, overwrite=True).identity == result.identity


def test_what_a_machine_enforces_is_no_part_of_a_result() -> None:
    one, other = (StoredResult(data={"x": 1, "isolation": {"files": text}}) for text in ("landlock 4", "not enforced"))
    assert result_digest(one) == result_digest(other)
    assert result_digest(one) != result_digest(StoredResult(data={"x": 2}))


def test_the_command_line_carries_a_plan_out(packed: Pack, folder: Path, tmp_path: Path, capsys: Any) -> None:
    from sdkpack.cli.plan import read_plan

    made = packed(RECIPE).plan
    for text in (made.to_json(), json.dumps({"plan": made.to_object()})):
        (tmp_path / "plan.json").write_text(text)
        assert read_plan(tmp_path / "plan.json") == made

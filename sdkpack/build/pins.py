"""Steps that are not deterministic: what follows from one is told apart by what it gave, and a plan pins that.

The key of a step says what its result depends on, which is enough where the same input gives the same output. Where a
plugin says that it does not, its result's own digest takes the key's place for the steps behind it: a second result
under the same key never meets what was made of the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sdkpack.build.digests import digest_json
from sdkpack.build.store import Store, StoredResult
from sdkpack.documents.plan import Plan, PlanStep
from sdkpack.errors import PluginBrokenError, Problem, StepError, UsageError
from sdkpack.types import Digest

__all__ = [
    "PLUGIN_KINDS",
    "Identities",
    "check_locked",
    "check_pin",
    "check_same",
    "pinned",
    "pinned_key",
    "pins_of",
    "result_digest",
    "stored_results",
]


def result_digest(result: StoredResult) -> Digest:
    """Of all that a step gave, without what this machine enforced around it."""
    files = {role: [file.digest, file.media_type] for role, file in result.files.items()}
    return digest_json({"files": files, "data": _without_isolation(result.data)})


def _without_isolation(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name != "isolation"}


PLUGIN_KINDS: Final = frozenset({"convert", "optimize", "compress", "compile"})
"""Steps whose work a plugin does."""


def check_same(step: PlanStep, first: StoredResult, second: StoredResult) -> None:
    """Holds two runs of a step against each other, whose plugin says that it is deterministic.

    Raises:
        PluginBrokenError: they gave other files.
    """
    ours, theirs = ({role: file.digest for role, file in result.files.items()} for result in (first, second))
    if ours != theirs:
        differing = sorted(role for role in ours.keys() | theirs.keys() if ours.get(role) != theirs.get(role))
        raise PluginBrokenError(
            f"{step.plugin!r} says that it is deterministic, and two runs of it gave other bytes: "
            f"{', '.join(differing)}",
            where=step.id,
            hint="update the plugin, or tell its author: its descriptor has to say deterministic=False",
        )


@dataclass(slots=True)
class Identities:
    """What stands for the result of each step, by id, where that is not the step's key."""

    _of: dict[str, Digest] = field(default_factory=dict)

    def key(self, step: PlanStep) -> Digest:
        """Where the store keeps what a step gives: its key, with what the steps before gave where that is not said by
        their keys."""
        before = [self._of[name] for name in step.inputs if name in self._of]
        return digest_json({"key": step.key, "after": before}) if before else step.key

    def settle(self, step: PlanStep, result: StoredResult) -> None:
        """Remembers what a step gave, for those behind it."""
        key = self.key(step)
        if not step.deterministic:
            self._of[step.id] = pinned_key(key, result_digest(result))
        elif key != step.key:
            self._of[step.id] = key
        else:
            self._of.pop(step.id, None)


def pinned_key(key: Digest, result: Digest) -> Digest:
    """Where the store keeps one certain result of a step that may give several."""
    return digest_json({"key": key, "result": result})


def check_pin(step: PlanStep, result: StoredResult, pin: Digest) -> None:
    """
    Raises:
        StepError: the step gave something else than the plan says.
    """
    found = result_digest(result)
    if found != pin:
        raise StepError(
            f"{step.plugin!r} gave another result than the plan is pinned to: got {found}, expected {pin}",
            hint=f"{step.plugin!r} is not deterministic: use the store that the plan was made with, or make a new plan",
            where=step.id,
        )


def pins_of(plan: Plan | None) -> dict[str, PlanStep]:
    """The steps of a plan whose results it says, by id."""
    return {step.id: step for step in plan.steps if step.result is not None} if plan is not None else {}


def pinned(plan: Plan, results: Mapping[str, StoredResult]) -> Plan:
    """The plan, pinned to what its steps that are not deterministic gave, as far as that is known."""
    steps = tuple(
        step.model_copy(update={"result": result_digest(results[step.id])})
        if not step.deterministic and step.id in results
        else step
        for step in plan.steps
    )
    return plan.model_copy(update={"steps": steps})


def stored_results(plan: Plan, store: Store) -> dict[str, StoredResult]:
    """What the store has of a plan, by id of step."""
    identities = Identities()
    found: dict[str, StoredResult] = {}
    unknown: set[str] = set()
    for step in plan.steps:
        result = None if unknown & set(step.inputs) else store.get(identities.key(step))
        if result is not None:
            found[step.id] = result
            identities.settle(step, result)
        elif not step.deterministic or unknown & set(step.inputs):
            # What it will give is not known, so neither is what will be made of it.
            unknown.add(step.id)
    return found


def check_locked(made: Plan, locked: Plan | None) -> None:
    """Holds the plan that was just made against the one that the user wants.

    Raises:
        UsageError: they differ; `problems` says where.
    """
    if locked is None:
        return
    problems = tuple(_differences(made, locked))
    if problems:
        raise UsageError(
            "the plan is not one of this recipe, these plugins and these files any more",
            hint="undo what was changed, or make a new plan: sdkpack plan --json",
            problems=problems,
        )


def _differences(made: Plan, locked: Plan) -> Iterable[Problem]:
    new, old = ({step.id: step for step in plan.steps} for plan in (made, locked))
    for name in sorted(new.keys() | old.keys()):
        if name not in new or name not in old:
            yield Problem(path=f"steps.{name}", message="is new" if name in new else "is gone")
            continue
        for what in ("plugin", "fingerprint", "params", "inputs", "key"):
            mine, wanted = getattr(new[name], what), getattr(old[name], what)
            if mine != wanted:
                yield Problem(path=f"steps.{name}.{what}", message="differs", got=_short(mine), expected=_short(wanted))
                break
    rest = [plan.model_copy(update={"steps": ()}).to_object() for plan in (made, locked)]
    for what in sorted(rest[0].keys() | rest[1].keys()):
        if rest[0].get(what) != rest[1].get(what):
            yield Problem(path=what, message="differs")


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 100 else text[:97] + "..."

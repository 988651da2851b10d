"""All problems of a pipeline, told together and in the words of the document that they stand in."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from sdkpack.errors import PipelineError, Problem

if TYPE_CHECKING:
    from sdkpack.documents.recipe import PipelineSection

__all__ = ["Findings", "ManifestPlaces", "Places", "RecipePlaces", "near"]

# A manifest may come from anyone; finding near matches for each of a million wrong names would take hours.
_MOST_PROBLEMS: Final = 50
_STEP: Final = re.compile(r"\.steps\[(\d+)\]")


class Places(Protocol):
    """Where the parts of a pipeline stand, as their author writes it."""

    def pipeline(self, part: str) -> str: ...

    def step(self, index: int, part: str = "") -> str:
        """`part` is one of op, model, params, each, batch, when, otherwise, outputs, or empty for the step."""
        ...

    def input(self, index: int, port: str) -> str: ...


class ManifestPlaces:
    """Places in the normal form."""

    def __init__(self, name: str) -> None:
        self._base = f"pipelines.{name}"

    def pipeline(self, part: str) -> str:
        return f"{self._base}.{part}"

    def step(self, index: int, part: str = "") -> str:
        words = {"when": "when.value", "otherwise": "when.otherwise"}
        return _dotted(f"{self._base}.steps[{index}]", words.get(part, part))

    def input(self, index: int, port: str) -> str:
        return self.step(index, f"inputs.{port}")


class RecipePlaces:
    """Places in a recipe, where `in` has several forms and may be absent."""

    def __init__(self, name: str, section: PipelineSection) -> None:
        self._base = f"pipelines.{name}"
        self._section = section
        self._ports: dict[tuple[int, str], int] = {}

    def pipeline(self, part: str) -> str:
        return f"{self._base}.{part}"

    def step(self, index: int, part: str = "") -> str:
        words = {"params": "with", "outputs": "as", "inputs": "in"}
        first, _, rest = part.partition(".")
        return _dotted(f"{self._base}.steps[{index}]", _dotted(words.get(first, first), rest))

    def input(self, index: int, port: str) -> str:
        written = self._section.steps[index].inputs
        if isinstance(written, dict) and port in written:
            return self.step(index, f"inputs.{port}")
        position = self._ports.get((index, port))
        if isinstance(written, tuple) and position is not None and position < len(written):
            return f"{self.step(index, 'inputs')}[{position}]"
        return self.step(index, "inputs" if isinstance(written, str) else "")

    def place_port(self, index: int, port: str, position: int) -> None:
        """Remembers that `port` is fed by the value at `position` of a list."""
        self._ports[index, port] = position


class Findings:
    """Collects problems; raises them at the end, or when there are too many."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._problems: list[Problem] = []

    def add(
        self,
        path: str,
        message: str,
        *,
        got: str = "",
        expected: str = "",
        hint: str = "",
    ) -> None:
        """Notes a problem, once."""
        if any((problem.path, problem.message) == (path, message) for problem in self._problems):
            return
        self._problems.append(Problem(path=path, message=message, got=got, expected=expected, hint=hint))
        if len(self._problems) >= _MOST_PROBLEMS:
            self.raise_any()

    def extend(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            self.add(
                problem.path, problem.message, got=problem.got, expected=problem.expected, hint=problem.hint
            )  # fmt: skip

    def __len__(self) -> int:
        return len(self._problems)

    def raise_any(self) -> None:
        """Raises what was found.

        Raises:
            PipelineError: there are problems.
        """
        if self._problems:
            count = "a problem" if len(self._problems) == 1 else f"{len(self._problems)} problems"
            more = ", more were not looked for" if len(self._problems) >= _MOST_PROBLEMS else ""
            problems = sorted(self._problems, key=_position)
            raise PipelineError(f"pipeline {self._name!r} has {count}{more}", problems=problems)


def near(word: str, candidates: Sequence[str]) -> str:
    """`did you mean 'resize'?`, or nothing where no candidate is near."""
    found = difflib.get_close_matches(word, candidates[:1000], n=1)
    return f"did you mean {found[0]!r}?" if found else ""


def _position(problem: Problem) -> int:
    """As the author reads: inputs and params, steps in order, outputs."""
    if step := _STEP.search(problem.path):
        return int(step[1])
    return sys.maxsize if ".outputs" in problem.path else -1


def _dotted(first: str, second: str) -> str:
    return f"{first}.{second}" if second else first

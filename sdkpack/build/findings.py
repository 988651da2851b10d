"""Gathers everything that is wrong with a recipe, so that its author mends it in one go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sdkpack.errors import DocumentError, InterruptedRunError, Problem, SdkpackError

__all__ = ["Findings"]


@dataclass(slots=True)
class Findings:
    """Errors, each with the place in the recipe that it belongs to.

    Args:
        name: the recipe's, for messages.
    """

    name: str
    _errors: list[tuple[str, SdkpackError]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self._errors)

    def add(self, path: str, error: SdkpackError) -> None:
        self._errors.append((path, error))

    @contextmanager
    def at(self, path: str) -> Iterator[None]:
        """Keeps an error of the block instead of raising it; a wish to stop passes."""
        try:
            yield
        except InterruptedRunError:
            raise
        except SdkpackError as error:
            self.add(path, error)

    def raise_any(self) -> None:
        """
        Raises:
            SdkpackError: the one error, as it was, with its place; or, where there are several, all of them as problems
                of their common class, else of a `DocumentError`.
        """
        if not self._errors:
            return
        if len(self._errors) == 1:
            path, error = self._errors[0]
            raise _placed(error, f"{self.name}: {path}" if path else self.name) from error
        kinds = {type(error) for _, error in self._errors}
        kind = kinds.pop() if len(kinds) == 1 else DocumentError
        problems = [problem for path, error in self._errors for problem in _problems(path, error)]
        raise kind(f"{len(problems)} problems with this recipe", where=self.name, problems=problems)

    def raise_plain(self) -> None:
        """The same where there is no recipe whose place could be named, and one thing that can be wrong.

        Raises:
            SdkpackError: the first error, as it was.
        """
        if self._errors:
            error = self._errors[0][1]
            error.where = error.where or self.name
            raise error


def _placed(error: SdkpackError, where: str) -> SdkpackError:
    message = f"{error.where}: {error.message}" if error.where and error.where != where else error.message
    return type(error)(message, hint=error.hint, where=where, problems=error.problems)


def _problems(path: str, error: SdkpackError) -> Iterator[Problem]:
    if error.problems:
        yield from error.problems
        return
    message = f"{error.where}: {error.message}" if error.where else error.message
    yield Problem(path=path, message=message, hint=error.hint)

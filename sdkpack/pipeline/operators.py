"""Operators with their parameters set: made once, made anew where a run-time parameter differs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any, Final

from sdkpack.documents.base import Json
from sdkpack.documents.pipeline import ParamSpec
from sdkpack.errors import DocumentError, PluginBrokenError, Problem
from sdkpack.host.params import ParamSchema
from sdkpack.host.registry import Registered, load_class
from sdkpack.pipeline.findings import Findings
from sdkpack.pipeline.params import ParamValue, references, substituted
from sdkpack.plugin.info import AssetMarker, OperatorInfo
from sdkpack.plugin.operator import Operator

__all__ = ["AssetReader", "OperatorSource", "asset_path", "decoded", "read_assets", "try_out"]

AssetReader = Callable[[str], bytes]
"""A file's name in the bundle -> its content."""

_LINE_END: Final = re.compile(r"\r?\n")
# A customer who sends another threshold with every call must not fill the memory.
_MOST_KEPT: Final = 8


class OperatorSource:
    """Makes one step's operator for the values of the run-time parameters."""

    def __init__(
        self,
        operator: Registered[OperatorInfo],
        schema: ParamSchema,
        params: Mapping[str, Json],
        contents: Mapping[str, Any],
    ) -> None:
        self._operator, self._schema = operator, schema
        self._params, self._contents = dict(params), dict(contents)
        self.references = references(params)
        self._made: dict[tuple[tuple[str, str], ...], Operator] = {}
        self._lock = Lock()

    def make(self, values: Mapping[str, ParamValue]) -> Operator:
        """The operator for these values of the run-time parameters.

        Raises:
            DocumentError: the parameters are not valid; paths of its problems are the parameters' names.
            PluginBrokenError: the operator's class cannot be loaded or made.
        """
        key = tuple(sorted((name, repr(values[name])) for name in self.references))
        with self._lock:
            made = self._made.get(key)
        if made is None:
            made = self._new(values)
            with self._lock:
                while len(self._made) >= _MOST_KEPT:
                    del self._made[next(iter(self._made))]
                self._made[key] = made
        return made

    def params(self, values: Mapping[str, ParamValue]) -> Any:
        """What the operator's class is called with; None where it takes nothing.

        Raises:
            DocumentError: as `make`.
        """
        return self._schema.instance({**substituted(self._params, values), **self._contents})

    def _new(self, values: Mapping[str, ParamValue]) -> Operator:
        params = self.params(values)
        made_class = load_class(self._operator, self._operator.info.load)
        name = self._operator.info.name
        try:
            made: Operator = made_class() if params is None else made_class(params)
        except ValueError as error:
            raise DocumentError(
                f"parameters of {name!r} are not valid", problems=[Problem(path="", message=str(error))]
            ) from error
        except Exception as error:
            raise PluginBrokenError(
                f"plugin {self._operator.plugin.name!r}: operator {name!r} cannot be made: "
                f"{type(error).__name__}: {error}"
            ) from error
        return made


def asset_path(value: Any) -> str:
    """The file in `{"asset": PATH}`; empty where `value` is anything else."""
    if isinstance(value, Mapping) and set(value) == {"asset"} and isinstance(value["asset"], str):
        return value["asset"]
    return ""


def decoded(content: bytes, marker: AssetMarker) -> Any:
    """What an operator is given of a file.

    Only LF and CR LF end a line: alphabets hold characters that `str.splitlines` takes for line ends.

    Raises:
        ValueError: it is no UTF-8.
    """
    if marker.content == "bytes":
        return content
    text = content.decode("utf-8")
    if marker.content == "text":
        return text
    lines = _LINE_END.split(text)
    return tuple(lines[:-1] if not lines[-1] else lines)


def read_assets(
    schema: ParamSchema, params: Mapping[str, Json], read: AssetReader, findings: Findings, path: str
) -> dict[str, Any]:
    """The contents of all parameters that are files."""
    contents: dict[str, Any] = {}
    for name, marker in schema.assets.items():
        if file := asset_path(params.get(name)):
            try:
                contents[name] = decoded(read(file), marker)
            except UnicodeDecodeError as error:
                findings.add(f"{path}.{name}", f"{file!r} is not UTF-8", got=f"a wrong byte at {error.start}")
                contents[name] = () if marker.content == "lines" else ""
    return contents


def try_out(
    source: OperatorSource, specs: Mapping[str, ParamSpec], findings: Findings, path: str, params_path: str
) -> Operator | None:
    """Makes the operator with the defaults and at every end of every range, so that no customer's value surprises.

    Args:
        path: where the step's parameters stand.
        params_path: where the run-time parameters stand.

    Returns:
        The operator with the defaults, or None where it cannot be made.
    """
    defaults = {name: spec.default for name, spec in specs.items()}
    if not source.references <= set(specs):
        return None
    try:
        operator = source.make(defaults)
    except DocumentError as error:
        for problem in error.problems:
            place = f"{path}.{problem.path}" if problem.path else path
            findings.add(place, problem.message, got=problem.got, expected=problem.expected, hint=problem.hint)
        return None
    for name in sorted(source.references):
        for end, value in _ends(specs[name]):
            try:
                source.make({**defaults, name: value})
            except DocumentError as error:
                reason = "; ".join(str(problem) for problem in error.problems)
                findings.add(
                    f"{params_path}.{name}.{end}", f"the operator at {path} refuses it: {reason}", got=repr(value)
                )
    return operator


def _ends(spec: ParamSpec) -> list[tuple[str, ParamValue]]:
    ends: list[tuple[str, ParamValue]] = []
    if spec.min is not None:
        ends.append(("min", spec.min))
    if spec.max is not None:
        ends.append(("max", spec.max))
    return [*ends, *((f"choices[{index}]", choice) for index, choice in enumerate(spec.choices or ()))]

"""One call of an operator or model, with both sides held to their word.

The border to other people's code: what it raises is turned into a typed error that names step, operator and plugin,
and what it gives is looked at before anything goes on with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sdkpack.errors import InputError, PluginBrokenError, RunError, SdkpackError
from sdkpack.pipeline.nodes import Node, NodePort
from sdkpack.pipeline.values import Sizes, described, nonconformity
from sdkpack.plugin.operator import Operator

__all__ = ["Call", "ModelCall", "ModelStep", "OperatorStep"]

ModelCall = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Runs a model: input tensors by name -> output tensors by name, as NumPy arrays. One that gains by it says in an
attribute `lanes` how many items of a list to run side by side."""

_LONGEST_REASON = 300


class Call(Protocol):
    """Ports' values in, ports' values out; `item` tells which of several the call is for."""

    @property
    def lanes(self) -> int:
        """How many items of a list are worth running side by side."""
        ...

    def __call__(self, inputs: Mapping[str, Any], item: str = "") -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorStep:
    """Calls an operator."""

    step_id: str
    number: int
    node: Node
    operator: Operator
    from_inputs: frozenset[str] = frozenset()
    """Ports that are fed by inputs of the pipeline: what is wrong there is the caller's to mend."""

    @property
    def lanes(self) -> int:
        return 1  # an operator on one item is too short for a thread of its own

    def __call__(self, inputs: Mapping[str, Any], item: str = "") -> dict[str, Any]:
        sizes = _checked_inputs(self, inputs, item)
        arguments = [inputs.get(port.name) for port in self.node.inputs]
        label = _label(self, item)
        try:
            result = self.operator.run(*arguments)
        except SdkpackError as error:
            raise _placed(error, self.step_id, item) from error
        except Exception as error:
            assert self.node.operator is not None
            plugin = self.node.operator.plugin.name
            raise RunError(
                f"{label} of plugin {plugin!r} failed: {_reason(error)}",
                hint=f"if the inputs are right, tell the plugin's author; to see them, trace step {self.step_id!r}",
                where=self.step_id,
            ) from error
        return self._outputs(result, sizes, label)

    def _outputs(self, result: Any, sizes: Sizes, label: str) -> dict[str, Any]:
        ports = self.node.outputs
        values = (result,) if len(ports) == 1 else result
        if not isinstance(values, tuple) or len(values) != len(ports):
            raise self._broken(f"{label} returned {described(result)}, expected a tuple of {len(ports)}")
        for port, value in zip(ports, values, strict=True):
            if reason := nonconformity(port.type, value, sizes):
                raise self._broken(f"{label} broke its word at output {port.name!r}: {reason}")
        return {port.name: value for port, value in zip(ports, values, strict=True)}

    def _broken(self, message: str) -> PluginBrokenError:
        assert self.node.operator is not None
        plugin = self.node.operator.plugin
        return PluginBrokenError(
            f"plugin {plugin.name!r}: {message}",
            hint=f"update it, or tell its author: {plugin.distribution or plugin.module}",
            where=self.step_id,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStep:
    """Calls a model."""

    step_id: str
    number: int
    node: Node
    model: ModelCall
    from_inputs: frozenset[str] = frozenset()

    @property
    def lanes(self) -> int:
        return int(getattr(self.model, "lanes", 1))

    def __call__(self, inputs: Mapping[str, Any], item: str = "") -> dict[str, Any]:
        _checked_inputs(self, inputs, item)
        label = _label(self, item)
        try:
            results = self.model(inputs)
        except SdkpackError as error:
            raise _placed(error, self.step_id, item) from error
        except Exception as error:
            raise RunError(f"{label} failed: {_reason(error)}", where=self.step_id) from error
        return {port.name: self._output(port, results, label) for port in self.node.outputs}

    def _output(self, port: NodePort, results: Mapping[str, Any], label: str) -> Any:
        if port.name not in results:
            raise RunError(f"{label} gave no output {port.name!r}", where=self.step_id)
        # Exporters name the sizes of outputs at will, so symbols are not held against those of the inputs.
        if reason := nonconformity(port.type, results[port.name], {}):
            raise RunError(
                f"{label} did not give what it says at output {port.name!r}: {reason}",
                hint="the model's declared outputs are wrong: export it again, with their true shapes",
                where=self.step_id,
            )
        return results[port.name]


def _checked_inputs(call: OperatorStep | ModelStep, inputs: Mapping[str, Any], item: str) -> Sizes:
    sizes: Sizes = {}
    for port in call.node.inputs:
        if port.name in inputs and (reason := nonconformity(port.type, inputs[port.name], sizes)):
            kind = InputError if port.name in call.from_inputs else RunError
            raise kind(f"{_label(call, item)} cannot take its input {port.name!r}: {reason}", where=call.step_id)
    return sizes


def _label(call: OperatorStep | ModelStep, item: str) -> str:
    return f"step {call.number} ({call.node.label}){f', {item}' if item else ''}"


def _placed(error: SdkpackError, step_id: str, item: str) -> SdkpackError:
    """The same error, saying at which step; a new one, since an operator may raise one object from two threads."""
    if error.where:
        return error
    message = f"{item}: {error.message}" if item else error.message
    # A plugin's own subclass may take other arguments: the nearest of sdkpack's says the same to the caller.
    kind = next(base for base in type(error).__mro__ if base.__module__ == SdkpackError.__module__)
    assert issubclass(kind, SdkpackError)
    return kind(message, hint=error.hint, where=step_id, problems=error.problems)


def _reason(error: Exception) -> str:
    """Kind and text of a foreign error, cut: some libraries print whole arrays."""
    text = f"{type(error).__name__}: {error}".splitlines()[0]
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."

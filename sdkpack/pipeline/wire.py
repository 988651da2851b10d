"""Which value goes to which port: chaining, naming, mapping over lists.

Only names are looked at here. Whether types fit is seen in `infer`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sdkpack.pipeline.findings import Findings, RecipePlaces, near
from sdkpack.pipeline.nodes import Node
from sdkpack.pipeline.order import why_too_early
from sdkpack.pipeline.params import reference

if TYPE_CHECKING:
    from sdkpack.documents.recipe import PipelineSection, StepSection

__all__ = ["DISCARD", "Wire", "Wiring"]

DISCARD = "_"
"""The name for an output that nobody needs."""

_LONGEST = 64


@dataclass(slots=True, kw_only=True)
class Wire:
    """One step's connections."""

    index: int
    id: str
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    each: tuple[str, ...] = ()
    otherwise: str = ""
    complete: bool = True
    """Whether all that was written could be connected; else a port that is not fed is no news."""


class Wiring:
    """Connects the steps of a recipe's pipeline; what is wrong goes to the findings."""

    def __init__(
        self, section: PipelineSection, nodes: Sequence[Node | None], findings: Findings, places: RecipePlaces
    ) -> None:
        self._section, self._nodes, self._findings, self._places = section, nodes, findings, places
        self._known: set[str] = set(section.inputs)
        self._used: set[str] = set()
        self._previous: tuple[str, ...] = tuple(section.inputs)
        self._named_at = self._author_names()
        self._taken = {*section.inputs, *self._named_at, DISCARD}
        # Chaining is a use too: of a value without a name, here that of the step's number.
        self._defined_at = self._named_at | {str(index): index for index in range(len(section.steps))}
        self._uses = [_written_uses(index, step) for index, step in enumerate(section.steps)]
        self.outputs: dict[str, str] = {}
        """Output name -> value; set by `wires`."""

    def wires(self) -> list[Wire]:
        """The connections of all steps, in order."""
        wires: list[Wire] = []
        for index, step in enumerate(self._section.steps):
            wire = Wire(index=index, id=self._id(step, {other.id for other in wires}))
            node = self._nodes[index]
            self._connect(wire, step, node)
            self._name_outputs(wire, step, node)
            wires.append(wire)
        self.outputs = self._outputs(wires[-1])
        self._used |= set(self.outputs.values())
        self._drop_unused(wires)
        return wires

    # Names ------------------------------------------------------------------------------------------------------
    def _author_names(self) -> dict[str, int]:
        """Where each name is defined; a name stands for one value."""
        named_at: dict[str, int] = {}
        for index, step in enumerate(self._section.steps):
            for name in _names_of(step):
                if name == DISCARD:
                    continue
                place = self._places.step(index, "outputs")
                if name in self._section.inputs:
                    self._findings.add(
                        place, f"{name!r} is an input of the pipeline already", hint="choose another name"
                    )
                elif name in named_at:
                    first = f"step {named_at[name] + 1}" if named_at[name] != index else "the same step"
                    self._findings.add(place, f"{name!r} is defined by {first} already", hint="choose another name")
                else:
                    named_at[name] = index
        return named_at

    def _id(self, step: StepSection, taken: set[str]) -> str:
        what = step.model or (step.op or "").partition("/")[0].rpartition(".")[2]
        return _free(_clean(what), taken)

    def _name_outputs(self, wire: Wire, step: StepSection, node: Node | None) -> None:
        names = list(_names_of(step))
        # A step that could not be understood still feeds the next one, so that one mistake is told once.
        ports = list(node.output_names) if node else names or ["unknown"]
        if len(names) > len(ports):
            self._findings.add(
                self._places.step(wire.index, "outputs"),
                f"more names than {node.label if node else 'the step'} has outputs",
                got=", ".join(names),
                expected=f"at most {len(ports)}: {', '.join(ports)}",
            )
        for position, port in enumerate(ports):
            name = names[position] if position < len(names) else ""
            if name == DISCARD:
                continue
            if not name:
                name = _free(_clean(f"{wire.id}-{port}"), self._taken)
                self._taken.add(name)
            wire.outputs[port] = name
        self._known |= set(wire.outputs.values())
        self._previous = tuple(wire.outputs.values())

    def _outputs(self, last: Wire) -> dict[str, str]:
        written, place = self._section.outputs, self._places.pipeline("outputs")
        if written is None:
            named = {name: port for port, name in last.outputs.items()}
            outputs: dict[str, str] = {}
            for value, port in named.items():
                outputs[value if value in self._named_at else _free(_clean(port), set(outputs) | set(named))] = value
            return outputs
        if isinstance(written, dict):
            pairs = [(name, value, f"{place}.{name}") for name, value in written.items()]
        elif isinstance(written, str):
            pairs = [(written, written, place)]
        else:
            pairs = [(value, value, f"{place}[{position}]") for position, value in enumerate(written)]
        outputs = {}
        for name, value, where in pairs:
            if name in outputs:
                self._findings.add(where, f"{name!r} is an output already")
            elif self._use(len(self._section.steps), value, where):
                outputs[name] = value
        return outputs

    def _drop_unused(self, wires: list[Wire]) -> None:
        for wire in wires:
            for port, value in list(wire.outputs.items()):
                if value in self._used:
                    continue
                if value in self._named_at:
                    place, hint = self._places.step(wire.index, "outputs"), f'use it, or name it "{DISCARD}"'
                    self._findings.add(place, f"nothing uses {value!r}", hint=hint)
                else:
                    del wire.outputs[port]
            if not wire.outputs and self._nodes[wire.index] is not None:
                self._findings.add(self._places.step(wire.index), "nothing uses what this step gives", hint="drop it")
        for name in self._section.inputs:
            if name not in self._used:
                self._findings.add(self._places.pipeline(f"inputs.{name}"), "no step uses it", hint="drop it")

    # Connections ------------------------------------------------------------------------------------------------
    def _connect(self, wire: Wire, step: StepSection, node: Node | None) -> None:
        before = len(self._findings)
        feeds = self._written(wire.index, step, node)
        each = _tuple(step.each)
        if feeds is None:
            feeds = self._chained(each, node)
            if node is None:
                self._used.update(self._previous)
        if node is not None:
            wire.each = self._mapped(wire.index, step, node, each, feeds)
        self._used.update(feeds.values())
        wire.inputs = feeds
        wire.complete = len(self._findings) == before
        if step.when is not None:
            self._condition(wire, step, node)

    def _written(self, index: int, step: StepSection, node: Node | None) -> dict[str, str] | None:
        """What `in` says; None where there is no `in`."""
        if step.inputs is None:
            return None
        if isinstance(step.inputs, dict):
            pairs = list(step.inputs.items())
            for port in step.inputs:
                if node is not None and port not in node.input_names:
                    self._unknown_port(index, port, node)
        else:
            values = _tuple(step.inputs)
            ports = node.input_names if node else tuple(f"{position}" for position in range(len(values)))
            if len(values) > len(ports):
                self._findings.add(
                    self._places.step(index, "inputs"),
                    f"too many inputs for {node.label if node else 'the step'}",
                    got=f"{len(values)}: {', '.join(values)}",
                    expected=f"at most {len(ports)}: {', '.join(ports)}",
                )
            for value in values[len(ports) :]:
                self._use(index, value, self._places.step(index, "inputs"))
            pairs = list(zip(ports, values, strict=False))
            for position, port in enumerate(ports):
                self._places.place_port(index, port, position)
        known = node.input_names if node else tuple(port for port, _ in pairs)
        used = [(port, value) for port, value in pairs if self._use(index, value, self._places.input(index, port))]
        return {port: value for port, value in used if port in known}

    def _unknown_port(self, index: int, port: str, node: Node) -> None:
        self._findings.add(
            self._places.input(index, port),
            f"{node.label} has no input {port!r}",
            expected=f"one of {', '.join(node.input_names)}" if node.inputs else "no inputs",
            hint=near(port, node.input_names),
        )

    def _chained(self, each: tuple[str, ...], node: Node | None) -> dict[str, str]:
        """What the step before gave, unless `each` names a value from elsewhere: then that is meant.

        From the second on, only ports that must be fed are: a side output of one step is not meant for an option of
        the next.
        """
        if node is None:
            return {}
        elsewhere = [name for name in each if name in self._known and name not in (*node.input_names, *self._previous)]
        chained = [port.name for number, port in enumerate(node.inputs) if number == 0 or not port.optional]
        return {} if elsewhere else dict(zip(chained, self._previous, strict=False))

    def _mapped(
        self, index: int, step: StepSection, node: Node, each: tuple[str, ...], feeds: dict[str, str]
    ) -> tuple[str, ...]:
        """The ports that are fed item by item; binds values that only `each` names."""
        place = self._places.step(index, "each")
        mapped: list[str] = []
        for name in each:
            port = self._mapped_port(index, name, step, node, feeds)
            if port and port in mapped:
                self._findings.add(place, f"{port!r} is mapped twice", got=repr(name))
            elif port:
                mapped.append(port)
        return tuple(port for port in node.input_names if port in mapped)

    def _mapped_port(self, index: int, name: str, step: StepSection, node: Node, feeds: dict[str, str]) -> str:
        place, ports = self._places.step(index, "each"), node.input_names
        fed_by = [port for port, value in feeds.items() if value == name]
        if name in ports and (name in feeds or name not in self._known):
            # The name of a port that takes one value while another value has that very name.
            other = fed_by and fed_by != [name]
            unseen = step.inputs is None and name in self._known and feeds.get(name) != name
            if other or unseen:
                self._ambiguous(place, name, f"port {name!r} and value {name!r}, which are not connected")
                return ""
            if name not in feeds:
                self._findings.add(place, f"nothing feeds port {name!r}", hint=f'add: in = {{ {name} = "..." }}')
                return ""
            return name
        if len(fed_by) > 1:
            self._ambiguous(place, name, f"it feeds the ports {' and '.join(fed_by)}")
            return ""
        if fed_by:
            return fed_by[0]
        if not self._use(index, name, place, ports):
            return ""
        free = [port for port in ports if port not in feeds]
        if not free:
            taken = ", ".join(f"{port} = {value}" for port, value in feeds.items())
            self._findings.add(place, f"no port of {node.label} is left for {name!r}", got=taken)
            return ""
        if name in ports and free[0] != name:
            self._ambiguous(place, name, f"port {name!r}, and a value that would feed port {free[0]!r}")
            return ""
        feeds[free[0]] = name
        return free[0]

    def _ambiguous(self, place: str, name: str, why: str) -> None:
        self._findings.add(
            place, f"ambiguous: {name!r} is {why}", hint="connect the ports in `in`, and name a port here"
        )

    def _condition(self, wire: Wire, step: StepSection, node: Node | None) -> None:
        assert step.when is not None
        if not reference(step.when):
            self._use(wire.index, step.when, self._places.step(wire.index, "when"))
        if step.otherwise is not None:
            if self._use(wire.index, step.otherwise, self._places.step(wire.index, "otherwise")):
                wire.otherwise = step.otherwise
            return
        first = [wire.inputs[port] for port in (node.input_names if node else ()) if port in wire.inputs]
        if first:
            wire.otherwise = first[0]
        elif node is not None:
            hint = 'add: otherwise = "..."'
            self._findings.add(self._places.step(wire.index), "nothing can stand in for its output", hint=hint)

    def _use(self, index: int, value: str, place: str, also: tuple[str, ...] = ()) -> bool:
        """Whether the value exists at step `index`, and notes that it is used; says why not."""
        if value in self._known:
            self._used.add(value)
            return True
        if value in self._named_at and index < len(self._section.steps):
            self._used.add(value)
            self._findings.add(place, why_too_early(index, value, self._defined_at, self._uses))
            return False
        if reference(value):
            self._findings.add(place, f"{value!r} is a run-time parameter, no value", hint="parameters go into `with`")
            return False
        candidates = (*sorted(self._known & {*self._section.inputs, *self._named_at}), *also)
        self._findings.add(
            place,
            f"no value is called {value!r}",
            expected=f"one of {', '.join(candidates)}",
            hint=near(value, candidates),
        )
        return False


def _written_uses(index: int, step: StepSection) -> set[str]:
    if isinstance(step.inputs, dict):
        values = tuple(step.inputs.values())
    elif step.inputs is None:
        values = (str(index - 1),)
    else:
        values = _tuple(step.inputs)
    return {*values, *_tuple(step.each), *_tuple(step.when), *_tuple(step.otherwise)}


def _names_of(step: StepSection) -> tuple[str, ...]:
    return _tuple(step.name)


def _tuple(written: str | tuple[str, ...] | None) -> tuple[str, ...]:
    if written is None:
        return ()
    return (written,) if isinstance(written, str) else written


def _clean(text: str) -> str:
    """`text` as a name: tensors of models are called `/net/out:0` and the like."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", text)[:_LONGEST]
    return name if re.match(r"[A-Za-z_]", name) else f"_{name}"[:_LONGEST]


def _free(name: str, taken: set[str]) -> str:
    """`name`, or `name-2` and so on where it is taken."""
    free, number = name, 1
    while free in taken:
        number += 1
        suffix = f"-{number}"
        free = f"{name[: _LONGEST - len(suffix)]}{suffix}"
    return free

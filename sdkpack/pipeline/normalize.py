"""From a recipe's pipeline to the form in which every choice is written out.

A recipe leaves out what its reader can guess: a step without `in` takes what the step before gave, outputs without a
name get one, parameters have defaults, operators a newest version. The normal form guesses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from sdkpack.documents.base import Json
from sdkpack.documents.pipeline import Condition, Pipeline, PipelineOutput, Step
from sdkpack.errors import PluginMissingError, SdkpackError
from sdkpack.host.params import ParamSchema
from sdkpack.host.registry import Registry
from sdkpack.pipeline.findings import Findings, RecipePlaces, near
from sdkpack.pipeline.infer import TypeWalk
from sdkpack.pipeline.nodes import ModelSignature, Node, model_node, operator_node
from sdkpack.pipeline.operators import AssetReader, OperatorSource, asset_path, read_assets, try_out
from sdkpack.pipeline.params import completed, reference
from sdkpack.pipeline.unify import ANY
from sdkpack.pipeline.wire import Wire, Wiring
from sdkpack.plugin.info import AssetMarker
from sdkpack.plugin.operator import Operator
from sdkpack.types import ValueType

if TYPE_CHECKING:
    from sdkpack.documents.recipe import PipelineSection, StepSection

__all__ = ["AssetResolver", "normalize"]

AssetResolver = Callable[[str, AssetMarker], str]
"""A reference as the recipe writes it -> the file's name in the bundle; raises SdkpackError where there is none."""

_LONGEST_TYPE: Final = 512  # as in documents.pipeline.TypeText


def normalize(
    name: str,
    section: PipelineSection,
    *,
    registry: Registry,
    models: Mapping[str, ModelSignature],
    assets: AssetResolver,
    read: AssetReader | None = None,
) -> Pipeline:
    """Writes out every choice of a recipe's pipeline.

    Args:
        name: the pipeline's name, for messages.
        models: what the recipe's models take and give.
        assets: packs a file that a parameter names.
        read: the content of a file that `assets` packed. Without it, an operator that needs a file's content is not
            made here, and its outputs have the types of its ports; `check` then finds what is wrong with it.

    Raises:
        PipelineError: `problems` holds everything that is wrong, with paths as the author writes them.
        PluginBrokenError: an operator breaks its contract.
    """
    findings = Findings(name)
    return _Normalizer(name, section, registry, models, assets, read, findings).pipeline()


class _Normalizer:
    def __init__(
        self,
        name: str,
        section: PipelineSection,
        registry: Registry,
        models: Mapping[str, ModelSignature],
        assets: AssetResolver,
        read: AssetReader | None,
        findings: Findings,
    ) -> None:
        self._section, self._registry, self._models = section, registry, models
        self._assets, self._read, self._findings = assets, read, findings
        self._places = RecipePlaces(name, section)
        self._used_params: set[str] = set()
        self._operators: dict[int, Operator] = {}

    def pipeline(self) -> Pipeline:
        nodes = [self._node(index, step) for index, step in enumerate(self._section.steps)]
        wiring = Wiring(self._section, nodes, self._findings, self._places)
        wires = wiring.wires()
        steps = [self._step(wire, nodes[wire.index]) for wire in wires]
        walk = self._walk(steps, nodes, wires)
        self._unused_params()
        outputs = {
            name: PipelineOutput(value=value, type=_text(walk.values.get(value, ANY)))
            for name, value in wiring.outputs.items()
        }
        self._findings.raise_any()
        native = sorted({step.op for step in steps if step is not None and step.op is not None})
        return Pipeline(
            summary=self._section.summary,
            inputs=dict(self._section.inputs),
            outputs=outputs,
            params=dict(self._section.params),
            steps=tuple(step for step in steps if step is not None),
            tier="native" if native else "portable",
            needs=tuple(native),
        )

    def _node(self, index: int, step: StepSection) -> Node | None:
        """What the step calls, or None where there is no such thing."""
        if step.model is not None:
            signature = self._models.get(step.model)
            if signature is None:
                self._findings.add(
                    self._places.step(index, "model"),
                    f"no model is called {step.model!r}",
                    expected=f"one of {', '.join(self._models)}",
                    hint=near(step.model, tuple(self._models)),
                )
                return None
            return model_node(step.model, signature)
        assert step.op is not None
        name, _, version = step.op.partition("/")
        try:
            return operator_node(self._registry.operator(name, int(version) if version else None))
        except PluginMissingError as error:
            self._findings.add(self._places.step(index, "op"), error.message, hint=error.hint)
            return None

    def _step(self, wire: Wire, node: Node | None) -> Step | None:
        if node is None:
            return None
        section = self._section.steps[wire.index]
        when = None
        if section.when is not None and wire.otherwise:
            when = Condition(value=section.when, otherwise=wire.otherwise)
        info = node.operator.info if node.operator else None
        return Step(
            id=wire.id,
            op=f"{info.name}/{info.version}" if info else None,
            model=section.model,
            inputs=wire.inputs,
            outputs=wire.outputs,
            params=self._params(wire.index, section, node),
            each=wire.each,
            batch=section.batch,
            when=when,
        )

    def _params(self, index: int, section: StepSection, node: Node) -> dict[str, Json]:
        place = self._places.step(index, "params")
        if node.operator is None:
            if section.params:
                self._findings.add(place, "a model takes no parameters", got=", ".join(section.params))
            return {}
        schema = ParamSchema(node.operator.info)
        for name, value in section.params.items():
            self._known_param(reference(value), f"{place}.{name}")
        given, found = self._packed(schema, section.params, place)
        kept = {name: value for name, value in given.items() if reference(value) or asset_path(value)}
        if not found or (self._read is None and any(map(asset_path, given.values()))):
            return completed(schema, given)
        contents = read_assets(schema, given, self._read, self._findings, place) if self._read else {}
        source = OperatorSource(node.operator, schema, given, contents)
        specs = self._section.params
        operator = try_out(source, specs, self._findings, place, self._places.pipeline("params"))
        if operator is None:
            return completed(schema, given)
        self._operators[index] = operator
        return schema.dump(source.params({name: spec.default for name, spec in specs.items()})) | kept

    def _packed(self, schema: ParamSchema, written: Mapping[str, Json], place: str) -> tuple[dict[str, Json], bool]:
        """The parameters with files packed, and whether all files were there."""
        given, found = dict(written), True
        for name, marker in schema.assets.items():
            value = given.get(name)
            if isinstance(value, str) and not reference(value):
                try:
                    given[name] = {"asset": self._assets(value, marker)}
                except SdkpackError as error:
                    found = False
                    self._findings.add(f"{place}.{name}", error.message, got=repr(value), hint=error.hint)
            elif asset_path(value):
                # The form of a manifest: what it names would never have been packed.
                found = False
                self._findings.add(f"{place}.{name}", "a file is written by its name", got=repr(value))
        return given, found

    def _known_param(self, name: str, place: str) -> None:
        if not name:
            return
        self._used_params.add(name)
        if name not in self._section.params:
            known = tuple(self._section.params)
            self._findings.add(
                place,
                f"${name} is not declared",
                expected=f"one of {', '.join(known)}" if known else "",
                hint=near(name, known) or f"declare it: params.{name} = {{ default = ... }}",
            )

    def _unused_params(self) -> None:
        for index, step in enumerate(self._section.steps):
            self._known_param(reference(step.when), self._places.step(index, "when"))
        for name in self._section.params:
            if name not in self._used_params:
                hint = f'write "${name}" in a step, or drop it'
                self._findings.add(self._places.pipeline(f"params.{name}"), "no step uses it", hint=hint)

    def _walk(self, steps: list[Step | None], nodes: list[Node | None], wires: list[Wire]) -> TypeWalk:
        walk = TypeWalk(self._findings, self._places, self._section.params)
        for name, text in self._section.inputs.items():
            try:
                walk.define(name, ValueType.parse(text), f"input {name!r}")
            except ValueError as error:
                self._findings.add(self._places.pipeline(f"inputs.{name}"), str(error))
        for wire, step in zip(wires, steps, strict=True):
            node = nodes[wire.index]
            if step is not None and node is not None:
                if wire.complete:
                    walk.missing(wire.index, step, node)
                walk.step(wire.index, step, node, self._operators.get(wire.index))
        return walk


def _text(kind: ValueType) -> str:
    """The type as the document holds it; one too long for it is any."""
    text = str(kind)
    return text if len(text) <= _LONGEST_TYPE else str(ANY)

"""What an author, or a model's own format, says of inputs and outputs beyond what ONNX holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sdkpack.build.steps.samples import shape_problem
from sdkpack.build.steps.specs import entries, specs_of
from sdkpack.documents.recipe import InputSection
from sdkpack.errors import ModelError
from sdkpack.types import TensorSpec

__all__ = ["Declared"]


@dataclass(frozen=True, slots=True)
class Declared:
    """A recipe's `models.NAME.inputs`.

    Args:
        sections: by input. Inputs that the model does not have are passed over: they may be those of a cut.
    """

    sections: Mapping[str, InputSection] = field(default_factory=dict)

    def specs(self) -> tuple[TensorSpec, ...]:
        """Those whose shape is stated, for converters of formats that state none."""
        return tuple(
            TensorSpec(name=name, dtype=one.dtype or "float32", shape=one.shape, layout=one.layout or "")
            for name, one in self.sections.items()
            if one.shape is not None
        )

    def as_json(self) -> dict[str, Any]:
        """For a step's key; empty where nothing is declared, so that it does not matter."""
        said = {name: one.model_dump(mode="json", exclude_defaults=True) for name, one in self.sections.items()}
        return {"declared": said} if said else {}

    def applied(self, data: Mapping[str, Any], told: Iterable[TensorSpec] = ()) -> dict[str, Any]:
        """The data of an imported model with what is declared.

        Args:
            data: as `import_file` made it.
            told: what the converter says of inputs and outputs, by name: layout and quantisation.

        Raises:
            ModelError: what is declared does not fit the model.
        """
        by_name = {spec.name: spec for spec in told}
        inputs = [self._input(_with(spec, by_name.get(spec.name))) for spec in specs_of(data["inputs"])]
        outputs = [_with(spec, by_name.get(spec.name)) for spec in specs_of(data["outputs"])]
        names = {spec.name for spec in inputs}
        ranges = {name: list(one.range) for name, one in self.sections.items() if one.range and name in names}
        changed = {"inputs": entries(inputs), "outputs": entries(outputs)}
        return {**data, **changed, **({"ranges": ranges} if ranges else {})}

    def _input(self, spec: TensorSpec) -> TensorSpec:
        said = self.sections.get(spec.name)
        if said is None:
            return spec
        if said.dtype is not None and said.dtype != spec.dtype:
            raise ModelError(
                f"input {spec.name!r} is declared as {said.dtype}, the model takes {spec.dtype}",
                hint="leave out the element type, or convert the model with this one",
            )
        shape = spec.shape if said.shape is None else said.shape
        if problem := _misfit(spec, shape):
            raise ModelError(
                f"input {spec.name!r} is declared as {list(shape)}, which {problem}",
                hint="sizes that the model fixes cannot be opened here: export it with them open",
            )
        return replace(spec, shape=shape, layout=said.layout or spec.layout)


def _misfit(spec: TensorSpec, shape: Sequence[int | str]) -> str:
    if any(isinstance(dim, int) and isinstance(said, str) for dim, said in zip(spec.shape, shape, strict=False)):
        return f"does not fit {spec}"
    return shape_problem(spec, [dim if isinstance(dim, int) else 1 for dim in shape])


def _with(spec: TensorSpec, told: TensorSpec | None) -> TensorSpec:
    if told is None:
        return spec
    return replace(spec, layout=told.layout or spec.layout, quant=told.quant or spec.quant)

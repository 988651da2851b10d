"""The real inputs of models: npz files as they are, other files brought to a tensor by steps that the recipe states.

An image says nothing to a model. What makes a tensor of it is pre-processing, and sdkpack's word for that is the steps
of a pipeline: the same operators, with the same answers, as in the bundle.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sdkpack.build.assets import Assets
from sdkpack.build.digests import FileStamp, stamp_file
from sdkpack.build.npz import write_npz
from sdkpack.build.sources import SourceFile, Sources
from sdkpack.build.steps.calibration import ModelSample
from sdkpack.build.steps.golden import NPZ_MEDIA_TYPE
from sdkpack.build.store import Store
from sdkpack.documents.recipe import InputSection, ModelSection, PipelineSection
from sdkpack.errors import InputError, UsageError
from sdkpack.host.registry import Registry
from sdkpack.types import ValueType

__all__ = ["Samples"]

_NPZ: Final = b"PK\x03\x04"
_FILE: Final = "file"


@dataclass(frozen=True, slots=True)
class Samples:
    """Finds the samples of a recipe's models.

    Args:
        sources: where references lead.
        store: gets what the steps made.
        registry: where operators come from.
    """

    sources: Sources
    store: Store
    registry: Registry
    _known: dict[tuple[str, str], ModelSample] = field(default_factory=dict)

    def of(self, model: str, section: ModelSection) -> tuple[ModelSample, ...]:
        """The samples of a model as npz files; their references are the author's.

        Raises:
            FileError: one is missing.
            UsageError: it is no npz, and no input says how it is read.
            PipelineError: the steps do not fit together.
            InputError: they give no tensor.
        """
        return self.find(model, section.samples, section.inputs)

    def find(
        self, model: str, references: Iterable[str], inputs: Mapping[str, InputSection]
    ) -> tuple[ModelSample, ...]:
        """The same for other references than those of the model's own `samples`."""
        return tuple(self._one(model, reference, inputs) for reference in references)

    def _one(self, model: str, reference: str, inputs: Mapping[str, InputSection]) -> ModelSample:
        key = (model, reference)
        if key not in self._known:
            source = self.sources.find(reference)
            with source.path.open("rb") as file:
                plain = file.read(len(_NPZ)) == _NPZ
            stamp = stamp_file(source.path)
            self._known[key] = (source, stamp) if plain else self._made(model, source, stamp, inputs)
        return self._known[key]

    def _made(
        self, model: str, source: SourceFile, stamp: FileStamp, inputs: Mapping[str, InputSection]
    ) -> ModelSample:
        able = [name for name, said in inputs.items() if said.steps]
        if len(able) != 1:
            raise UsageError(
                f"sample {source.reference!r} is no npz file, and {'several inputs say' if able else 'no input says'} "
                "how it is read",
                hint=f"models.{model}.inputs.NAME.steps, as in a pipeline; or numpy.savez(path, NAME=array)",
            )
        content = source.path.read_bytes()
        stamp.check_unchanged(source.path)
        tensor = self._run(f"models.{model}.inputs.{able[0]}", inputs[able[0]], content, source.reference)
        stored = self.store.put_bytes(write_npz({able[0]: tensor}), NPZ_MEDIA_TYPE)
        made = SourceFile(reference=source.reference, path=self.store.path(stored.digest))
        return made, stamp_file(made.path)

    def _run(self, path: str, said: InputSection, content: bytes, where: str) -> Any:
        import numpy as np

        from sdkpack.pipeline.check import check
        from sdkpack.pipeline.normalize import normalize
        from sdkpack.session.values import input_from_file

        section = PipelineSection(inputs={_FILE: said.file}, steps=said.steps)
        assets = Assets(sources=self.sources, store=self.store, metadata={})
        pipeline = normalize(path, section, registry=self.registry, models={}, assets=assets, read=assets.read)
        checked = check(path, pipeline, registry=self.registry, models={}, assets=assets.read)
        value = input_from_file(ValueType.parse(said.file), content, where=where)
        outputs = checked.run({_FILE: value}, models={})
        tensor = next(iter(outputs.values())) if len(outputs) == 1 else None
        if not isinstance(tensor, np.ndarray):
            raise InputError(
                f"{path}.steps: expected one tensor from them, got {' and '.join(outputs) or 'nothing'}",
                hint="end with a step that gives one, such as image.to_tensor",
            )
        return tensor

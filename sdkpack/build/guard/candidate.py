"""A model on trial: read from a file as an author's is, never trusted because a pass wrote it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sdkpack.plugin.runtime import ModelInput
from sdkpack.types import TensorSpec

if TYPE_CHECKING:
    from sdkpack.model.facts import ModelFacts

__all__ = ["LARGE_BYTES", "Candidate"]

LARGE_BYTES: Final = 1 << 30
"""Weights from which on a model is handled without a copy of them, and not run to be compared: the reference would take
hours, and several loaded copies would not fit into memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A model and its facts."""

    model: ModelInput
    """`graph`, `weights` and `tensors` are the model's own file where it is large."""
    facts: ModelFacts
    nodes: Mapping[str, int]
    """How many nodes of each operator, subgraphs and functions included."""
    size_bytes: int
    """Of the file itself, without external data."""

    @classmethod
    def read(cls, path: Path, *, name: str, folder: Path) -> Candidate:
        """Reads and checks the model at `path`.

        Args:
            path: the file; external data stands beside it.
            name: the model's.
            folder: gets the parts that runtimes load; made here.

        Raises:
            ModelError: it is no valid model.
            ExternalDataError: it names data that is none of its own.
        """
        from sdkpack.model.check import check_model, check_split
        from sdkpack.model.external import ExternalFolder
        from sdkpack.model.facts import describe
        from sdkpack.model.load import load_model
        from sdkpack.model.split import split_model
        from sdkpack.model.table import write_table

        loaded = load_model(path)
        with ExternalFolder(loaded.folder) as external:
            check_model(loaded, external)
            facts = describe(loaded)
            parts = dict.fromkeys(("graph", "weights", "tensors"), path)
            if facts.parameter_bytes < LARGE_BYTES:
                split = split_model(loaded, external)
                check_split(split, name=path.name)
                folder.mkdir(mode=0o700)
                parts = {role: folder / role for role in parts}
                parts["graph"].write_bytes(split.graph)
                parts["tensors"].write_bytes(write_table(split.tensors))
                with parts["weights"].open("wb") as out:
                    out.writelines(split.weights.blocks())
        return cls(
            model=ModelInput(
                name=name,
                path=path,
                graph=parts["graph"],
                weights=parts["weights"],
                tensors=parts["tensors"],
                inputs=facts.inputs,
                outputs=facts.outputs,
            ),
            facts=facts,
            nodes=_count(facts),
            size_bytes=loaded.size_bytes,
        )

    @property
    def large(self) -> bool:
        return self.facts.parameter_bytes >= LARGE_BYTES

    @property
    def operators(self) -> frozenset[str]:
        return frozenset(self.nodes)

    @property
    def node_count(self) -> int:
        return sum(self.nodes.values())

    def proto(self) -> Any:
        """The parsed model; external data is not read."""
        from sdkpack.model.load import load_model

        return load_model(self.model.path).proto

    def tensors(self) -> Iterator[tuple[str, TensorSpec]]:
        """Inputs and outputs, each with its role."""
        yield from (("input", spec) for spec in self.model.inputs)
        yield from (("output", spec) for spec in self.model.outputs)


def _count(facts: ModelFacts) -> dict[str, int]:
    found: Counter[str] = Counter()
    for use in facts.operators:
        found[f"{use.domain}.{use.name}" if use.domain else use.name] += use.count
    return dict(sorted(found.items()))

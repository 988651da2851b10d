"""What optimizers and compressors have in common: ONNX in, ONNX out, inputs and outputs as they were."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest

from sdkpack.build.steps.importing import Imported
from sdkpack.errors import ModelError, SdkpackError, StepError
from sdkpack.host.params import ParamSchema
from sdkpack.model.sample import make_samples
from sdkpack.plugin.runtime import ModelInput
from sdkpack.testing.bench import inputs_of, model_input
from sdkpack.testing.models import strange
from sdkpack.testing.numbers import Laboratory, assert_same_signature
from sdkpack.testing.tools import ToolConformance

__all__ = ["Change", "ModelChangeConformance"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A model before and after."""

    request: Any
    result: Any
    before: Imported
    after: Imported
    laboratory: Laboratory

    def outputs(self, seed: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
        """What both compute for the same made inputs."""
        inputs = make_samples(self.before.inputs, seed=seed)
        return self.laboratory.run(self.before, inputs), self.laboratory.run(self.after, inputs)


class ModelChangeConformance(ToolConformance):
    """Subclass the class of a kind instead.

    Attributes:
        samples_per_model: how many samples a tool that calibrates is given.
    """

    samples_per_model: ClassVar[int] = 4

    @abstractmethod
    def models(self) -> Mapping[str, Any]:
        """`ModelProto`s by name."""

    @abstractmethod
    def request_for(self, model: ModelInput, samples: tuple[Path, ...]) -> Any:
        """The request of the kind."""

    # What the tests work with ---------------------------------------------------------------------------------------
    def instance(self) -> Any:
        """The plugin's params."""
        return ParamSchema(self.row().info).instance(self.params)

    def request(self, folder: Path) -> Any:
        return self.request_of(next(iter(self.models().values())), folder)

    def request_of(self, model: Any, folder: Path) -> Any:
        folder.mkdir(parents=True)
        source, _ = model_input(model, folder)
        return self.request_for(source, self.samples(model, folder / "samples"))

    def samples(self, model: Any, folder: Path) -> tuple[Path, ...]:
        """npz files with made inputs, for tools that calibrate."""
        if "samples" not in self.row().info.capabilities:
            return ()
        folder.mkdir()
        paths = tuple(folder / f"sample-{number}.npz" for number in range(self.samples_per_model))
        for number, path in enumerate(paths):
            arrays: Any = make_samples(inputs_of(model), seed=number)
            np.savez(path, **arrays)
        return paths

    def changed(self, tool: Any, request: Any, folder: Path) -> Change:
        """The request's model changed, and both read as `pack` reads them."""
        laboratory = Laboratory(folder)
        result = self.call(tool, request, folder)
        return Change(
            request=request, result=result, before=laboratory.read(request.model.path),
            after=laboratory.read(result.model), laboratory=laboratory,
        )  # fmt: skip

    # The tests of both kinds ----------------------------------------------------------------------------------------
    def test_inputs_and_outputs_keep_names_types_and_shapes(self, tool: Any, tmp_path: Path) -> None:
        for name, model in self.models().items():
            change = self.changed(tool, self.request_of(model, tmp_path / name), tmp_path / f"{name}-made")
            assert_same_signature(change.before, change.after, symbols=self.kind == "optimizer")

    def test_a_model_with_its_weights_beside_it(self, tool: Any, tmp_path: Path) -> None:
        """What is larger than 256 MiB comes that way."""
        folder = tmp_path / "input"
        request = self.request(folder)
        path = folder / "external.onnx"
        onnx.save(
            onnx.load(request.model.path), str(path), save_as_external_data=True, location="external.weights",
            size_threshold=0,
        )  # fmt: skip
        request = replace(request, model=replace(request.model, path=path))
        change = self.changed(tool, request, tmp_path / "made")
        assert_same_signature(change.before, change.after)

    def test_a_damaged_model_is_a_documented_error(self, tool: Any, tmp_path: Path) -> None:
        request = self.request(tmp_path / "input")
        for role in ("path", "graph"):
            getattr(request.model, role).write_bytes(b"\x08\x07\x3a\xff\xff\xff\xff\x0fno model")
        with pytest.raises((ModelError, StepError)):
            self.call(tool, request, tmp_path / "made")

    def test_an_operator_that_it_does_not_know_is_left_alone_or_named(self, tool: Any, tmp_path: Path) -> None:
        request = self.request_of(strange(), tmp_path / "input")
        try:
            result = self.call(tool, request, tmp_path / "made")
        except SdkpackError as error:
            assert isinstance(error, ModelError | StepError), f"it is no documented error: {error!r}"
            assert "Swirl" in str(error), "name the operator that stands in the way"
        else:
            kept = {(node.domain, node.op_type) for node in onnx.load(result.model).graph.node}
            assert ("conformance.strange", "Swirl") in kept

"""The cases of ONNX's backend suite, as the installed `onnx` brings them; nothing is downloaded."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

__all__ = ["Case", "NoCaseError", "load_cases"]

_KINDS: Final = ("node", "simple", "pytorch-converted", "pytorch-operator", "real")
_LIGHT: Final = "onnx/backend/test/data/light/"


class NoCaseError(Exception):
    """A case has no data here."""


@dataclass(frozen=True, slots=True)
class Case:
    """A model with inputs and the outputs that they must give."""

    name: str
    source: Any
    """`onnx.backend.test.case.test_case.TestCase`"""

    @property
    def rtol(self) -> float:
        return float(self.source.rtol)

    @property
    def atol(self) -> float:
        return float(self.source.atol)

    def model(self) -> Any:
        """The `ModelProto`.

        Raises:
            NoCaseError: it would have to be downloaded.
        """
        import onnx

        if self.source.model is not None:
            return self.source.model
        return onnx.load(self._light() or Path(self.source.model_dir) / "model.onnx")

    def data_sets(self, model: Any) -> Iterator[tuple[list[Any], list[Any]]]:
        """Inputs and outputs, in the order of the model's."""
        if self.source.data_sets is not None:
            for inputs, outputs in self.source.data_sets:
                yield [_array(value) for value in inputs], [_array(value) for value in outputs]
        elif light := self._light():
            yield _dummy_inputs(model), [_read_tensor(light.with_name(f"{light.stem}_output_0.pb"))]
        else:
            folders = sorted(Path(self.source.model_dir).glob("test_data_set_*"))
            for folder in folders:
                yield _values(folder, "input", model.graph.input), _values(folder, "output", model.graph.output)

    def _light(self) -> Path | None:
        import onnx

        if self.source.url is None:
            return None
        if not self.source.url.startswith(_LIGHT):
            raise NoCaseError(f"its model would have to be fetched from {self.source.url}")
        return Path(onnx.__file__).parent / str(self.source.url).removeprefix("onnx/")


def load_cases() -> Sequence[Case]:
    """All cases, sorted by name. Some seconds of one processor: the suite computes them."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the suite divides by zero on purpose
        found = [Case(case.name, case) for kind in _KINDS for case in load_model_tests(kind=kind)]
    return sorted(found, key=lambda case: case.name)


def _array(value: Any) -> Any:
    """Arrays for tensors and scalars; lists and None as they are."""
    import numpy as np
    from onnx import TensorProto, numpy_helper

    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, np.generic | float | int | bool):
        return np.asarray(value)
    return value


def _read_tensor(path: Path) -> Any:
    from onnx import TensorProto, numpy_helper

    tensor = TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(tensor)


def _values(folder: Path, what: str, infos: Any) -> list[Any]:
    import onnx
    from onnx import numpy_helper

    found = sorted(folder.glob(f"{what}_*.pb"), key=lambda path: int(path.stem.rpartition("_")[2]))
    values: list[Any] = []
    for path, info in zip(found, infos, strict=False):
        kind = info.type.WhichOneof("value")
        if kind == "sequence_type":
            sequence = onnx.SequenceProto()
            sequence.ParseFromString(path.read_bytes())
            values.append(numpy_helper.to_list(sequence))
        elif kind == "optional_type":
            optional = onnx.OptionalProto()
            optional.ParseFromString(path.read_bytes())
            values.append(numpy_helper.to_optional(optional))
        else:
            values.append(_read_tensor(path))
    return values


def _dummy_inputs(model: Any) -> list[Any]:
    """What the suite feeds its light models: 0 to 1 in even steps, in the shape of the input."""
    import numpy as np

    known = {tensor.name for tensor in model.graph.initializer}
    inputs = []
    for info in model.graph.input:
        if info.name not in known:
            shape = tuple(dim.dim_value or 1 for dim in info.type.tensor_type.shape.dim)
            count = int(np.prod(shape))
            inputs.append((np.arange(count).reshape(shape) / count).astype(np.float32))
    return inputs

"""What a recipe may set for these converters."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["KerasParams", "SavedModelParams", "TfliteParams"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedModelParams:
    """Settings of one conversion of a SavedModel."""

    signature: str = "serving_default"
    """The function to convert; `sdkpack` lists those that there are where this one is not."""
    tags: tuple[str, ...] = ("serve",)
    """Which of the folder's graphs to take, where it holds several."""
    outputs: tuple[str, ...] = ()
    """Outputs to keep, by the signature's names; empty: all."""
    inputs_as_nchw: tuple[str, ...] = ()
    """Inputs of four dimensions that shall be NCHW in ONNX, though the source takes NHWC."""

    def __post_init__(self) -> None:
        _check_names(outputs=self.outputs, inputs_as_nchw=self.inputs_as_nchw)
        if not self.signature:
            raise ValueError("signature: got nothing, expected a name")


@dataclass(frozen=True, slots=True, kw_only=True)
class KerasParams:
    """Settings of one conversion of a Keras model."""

    outputs: tuple[str, ...] = ()
    """Outputs to keep, by their names; empty: all."""
    inputs_as_nchw: tuple[str, ...] = ()
    """Inputs of four dimensions that shall be NCHW in ONNX, though the source takes NHWC."""

    def __post_init__(self) -> None:
        _check_names(outputs=self.outputs, inputs_as_nchw=self.inputs_as_nchw)


@dataclass(frozen=True, slots=True, kw_only=True)
class TfliteParams:
    """Settings of one conversion of a TFLite model."""

    signature: str = ""
    """A signature whose names inputs and outputs shall bear; empty: they bear those of their tensors."""
    outputs: tuple[str, ...] = ()
    """Outputs to keep, by their names; empty: all."""
    inputs_as_nchw: tuple[str, ...] = ()
    """Inputs of four dimensions that shall be NCHW in ONNX, though the source takes NHWC."""
    dynamic_range: bool = True
    """Where only weights are 8-bit integers, TFLite rounds activations to 8 bits while it runs. True: so does the
    ONNX model; False: it leaves them as they are, is faster and more exact than the source, and differs from it."""

    def __post_init__(self) -> None:
        _check_names(outputs=self.outputs, inputs_as_nchw=self.inputs_as_nchw)


def _check_names(**fields: tuple[str, ...]) -> None:
    for field, names in fields.items():
        if len(set(names)) != len(names) or not all(names):
            raise ValueError(f"{field}: got {list(names)}, expected names, each once")

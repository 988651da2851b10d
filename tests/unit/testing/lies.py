"""Converters, optimizers and compressors that break their contract, one way each; the kit must name every one.

The text of this module becomes a plugin's, installed beside the tests; nothing of this checkout's tests is imported.
"""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path
from typing import Any

from sdkpack.errors import ModelError
from sdkpack.plugin import (
    CompressorInfo,
    CompressResult,
    ConverterInfo,
    ConvertResult,
    EvaluateResult,
    Half,
    Magic,
    OptimizeResult,
    OptimizerInfo,
    Probe,
    SniffResult,
    hookimpl,
)

SDKPACK_API = (1, 0)
COUNT = itertools.count()


def line(slope: float, *, opset: int = 17) -> Any:
    """y = slope * x."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in "xy")
    weights = [numpy_helper.from_array(np.array(slope, np.float32), "s")]
    graph = helper.make_graph([helper.make_node("Mul", ["x", "s"], ["y"])], "line", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


class Honest:
    """Reads `LINE slope`."""

    opset = 17

    def probe(self) -> Probe:
        return Probe(ok=True, fingerprint="line 1")

    def sniff(self, request: Any) -> SniffResult:
        return SniffResult(score=0.9 if request.source.read_bytes().startswith(b"LINE") else 0.0)

    def read(self, request: Any) -> float:
        try:
            word, slope = request.source.read_text("ascii").split()
            if word != "LINE":
                raise ValueError(word)
            return float(slope)
        except ValueError as error:
            raise ModelError(f"no line: {error}") from error

    def convert(self, request: Any, context: Any) -> ConvertResult:
        context.progress(None, "converting")
        return self.result(line(self.read(request), opset=min(request.opset or 17, self.opset)), context)

    def result(self, model: Any, context: Any) -> ConvertResult:
        path = context.work / "line.onnx"
        path.write_bytes(model.SerializeToString(deterministic=True))
        return ConvertResult(model=path)

    def evaluate(self, request: Any, context: Any) -> EvaluateResult:
        import numpy as np

        made = []
        for number, sample in enumerate(request.samples):
            with np.load(sample, allow_pickle=False) as arrays:
                if "x" not in arrays:
                    raise ModelError("the input is x")
                made.append(context.work / f"{number}.npz")
                np.savez(made[-1], y=arrays["x"] * np.float32(self.slope(request.conversion)))
        return EvaluateResult(outputs=tuple(made))

    def slope(self, request: Any) -> float:
        return self.read(request)


class Random(Honest):
    """Declared deterministic, and is not."""

    def result(self, model: Any, context: Any) -> ConvertResult:
        model.doc_string = os.urandom(8).hex()
        return super().result(model, context)


class Refuses(Honest):
    """Accepts a format that it cannot read."""

    def read(self, request: Any) -> float:
        raise ModelError("version 2 is not supported")


class Crashes(Honest):
    """Damage is an exception that the API does not provide for."""

    def read(self, request: Any) -> float:
        return float(request.source.read_text("ascii").split()[1])


class Dies(Honest):
    def read(self, request: Any) -> float:
        if not request.source.read_bytes():
            os.abort()
        return super().read(request)


class Believes(Honest):
    """Makes a model of anything."""

    def read(self, request: Any) -> float:
        try:
            return super().read(request)
        except ModelError:
            return 1.0


class Newer(Honest):
    def convert(self, request: Any, context: Any) -> ConvertResult:
        return self.result(line(self.read(request), opset=18), context)


class Wrong(Honest):
    def slope(self, request: Any) -> float:
        return self.read(request) * 1.01


class Restless(Honest):
    def slope(self, request: Any) -> float:
        return self.read(request) * (1 + next(COUNT))


class Writes(Honest):
    def result(self, model: Any, context: Any) -> ConvertResult:
        (Path.home() / "cache.bin").write_bytes(b"x")
        return super().result(model, context)


class Scribbles(Honest):
    def read(self, request: Any) -> float:
        slope = super().read(request)
        request.source.write_text(f"LINE {slope} ")
        return slope


class Deaf(Honest):
    def convert(self, request: Any, context: Any) -> ConvertResult:
        time.sleep(8)
        return self.result(line(self.read(request)), context)


class Sure(Honest):
    def sniff(self, request: Any) -> SniffResult:
        return SniffResult(score=1.0)


class Elsewhere(Honest):
    def result(self, model: Any, context: Any) -> ConvertResult:
        made = super().result(model, context)
        other = context.work.parent / "other.onnx"
        made.model.rename(other)
        return ConvertResult(model=other)


class Optimizer:
    def probe(self) -> Probe:
        return Probe(ok=True, fingerprint="1")

    def optimize(self, request: Any, context: Any) -> OptimizeResult:
        import onnx

        model = onnx.load(request.model.path)
        modified = self.change(model)
        path = context.work / "model.onnx"
        onnx.save(model, path)
        return OptimizeResult(model=path, modified=modified)

    def change(self, model: Any) -> bool:
        raise NotImplementedError


class Rounds(Optimizer):
    """Changes what is computed."""

    def change(self, model: Any) -> bool:
        from onnx import numpy_helper

        for tensor in model.graph.initializer:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).round(1), tensor.name))
        return True


class Denies(Optimizer):
    """Says that nothing changed."""

    def change(self, model: Any) -> bool:
        model.graph.node[0].doc_string = "changed"
        return False


class Boasts(Optimizer):
    def change(self, model: Any) -> bool:
        return True


class Restarts(Optimizer):
    """Never done."""

    def change(self, model: Any) -> bool:
        model.graph.node[0].name += "_again"
        return True


class Undone(Rounds):
    """What sdkpack's guard undoes."""


class Renames(Optimizer):
    def change(self, model: Any) -> bool:
        for node in model.graph.node:
            node.output[:] = ["result" if name == "y" else name for name in node.output]
        model.graph.output[0].name = "result"
        return True


class Compressor:
    factor = 1.0
    precision = ""

    def probe(self) -> Probe:
        return Probe(ok=True, fingerprint="1")

    def compress(self, request: Any, context: Any) -> CompressResult:
        import onnx
        from onnx import numpy_helper

        model = onnx.load(request.model.path)
        for tensor in model.graph.initializer:
            array = (numpy_helper.to_array(tensor) * self.factor).astype("float32")
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        path = context.work / "model.onnx"
        onnx.save(model, path)
        return CompressResult(model=path, precision=self.precision or request.precision)


class Loses(Compressor):
    factor = 0.5


class Other(Compressor):
    precision = "int8"


CONVERTERS = (
    Honest, Random, Refuses, Crashes, Dies, Believes, Newer, Wrong, Restless, Writes, Scribbles, Deaf, Sure, Elsewhere,
)  # fmt: skip


def _half(kind: type[Any]) -> Half:
    return Half(load=f"{__name__}:{kind.__name__}")


def _converter(kind: type[Any], **more: Any) -> ConverterInfo:
    facts = {"magics": (Magic(content=b"LINE "),), "suffixes": (".line",), "capabilities": ("sniff", "evaluate")}
    return ConverterInfo(
        name=f"lies.{kind.__name__.lower()}", summary="For tests.", half=_half(kind), reads=("text/x-line",),
        **(facts | more),
    )  # fmt: skip


@hookimpl
def sdkpack_converters() -> list[ConverterInfo]:
    from dataclasses import replace

    unknown = _converter(Honest, magics=(Magic(content=b"CURVE"),), suffixes=(".curve",), capabilities=())
    return [*map(_converter, CONVERTERS), replace(unknown, name="lies.unknown")]


@hookimpl
def sdkpack_optimizers() -> list[OptimizerInfo]:
    return [
        OptimizerInfo(name=f"lies.{kind.__name__.lower()}", summary="s", half=_half(kind), category="fusion")
        for kind in (Rounds, Denies, Boasts, Restarts, Undone, Renames)
    ]


@hookimpl
def sdkpack_compressors() -> list[CompressorInfo]:
    return [
        CompressorInfo(name=f"lies.{kind.__name__.lower()}", summary="s", half=_half(kind), precisions=precisions)
        for kind, precisions in ((Loses, ("int8",)), (Other, ("float16", "int8")))
    ]

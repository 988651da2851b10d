"""Optimizers that do one thing each, mostly a wrong one: what the guard has to find."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdkpack.errors import StepError
from sdkpack.plugin import (
    Half,
    OptimizeRequest,
    OptimizeResult,
    OptimizerInfo,
    Probe,
    RuntimeInfo,
    StepContext,
    hookimpl,
)

SDKPACK_API = (1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultParams:
    fault: str = ""


class Tidy:
    """Takes Identity nodes out of the main graph: the one that is right."""

    def probe(self) -> Probe:
        return Probe(ok=True, fingerprint="tidy 1")

    def optimize(self, request: OptimizeRequest, context: StepContext) -> OptimizeResult:
        import onnx

        model = onnx.load(request.model.path)
        outputs = {value.name for value in model.graph.output}
        for node in list(model.graph.node):
            if node.op_type == "Identity" and node.output[0] not in outputs:
                model.graph.node.remove(node)
                for other in model.graph.node:
                    other.input[:] = [node.input[0] if name == node.output[0] else name for name in other.input]
                # One at a time: the core asks again until there is nothing to do.
                path = context.work / "tidy.onnx"
                path.write_bytes(model.SerializeToString(deterministic=True))
                return OptimizeResult(model=path, modified=True, tools={"tidy": "1"})
        return OptimizeResult(model=request.model.path, modified=False)


class Lean:
    """Takes one Identity out, as Tidy does, and leaves the weights where they are."""

    def probe(self) -> Probe:
        return Probe(ok=True, fingerprint="lean 1")

    def optimize(self, request: OptimizeRequest, context: StepContext) -> OptimizeResult:
        import onnx

        model = onnx.load(request.model.path, load_external_data=False)
        external = any(tensor.data_location for tensor in model.graph.initializer)
        node = next((node for node in model.graph.node if node.op_type == "Identity"), None)
        if node is None or node.output[0] in {value.name for value in model.graph.output}:
            return OptimizeResult(model=request.model.path, modified=False)
        model.graph.node.remove(node)
        for other in model.graph.node:
            other.input[:] = [node.input[0] if name == node.output[0] else name for name in other.input]
        path = context.work / "lean.onnx"
        path.write_bytes(model.SerializeToString(deterministic=True))
        return OptimizeResult(model=path, modified=True, keeps_data=external)


class Fault:
    """Breaks something, as its params say."""

    def probe(self) -> Probe:
        return Probe(ok=True, fingerprint="fault 1")

    def optimize(self, request: OptimizeRequest, context: StepContext) -> Any:
        import onnx

        model = onnx.load(request.model.path)
        fault = request.params.fault
        if fault == "nonsense":
            return "a model"
        if fault == "crash":
            raise ZeroDivisionError("one by none")
        if fault == "refuse":
            raise StepError("no appetite")
        if fault == "loop":
            while True:
                pass
        if fault == "outside":
            return OptimizeResult(model=request.model.path, modified=True)
        if fault == "missing":
            return OptimizeResult(model=context.work / "nothing.onnx", modified=True)
        path = context.work / "fault.onnx"
        if fault == "garbage":
            path.write_bytes(b"\x08\x09garbage")
        else:
            _FAULTS[fault](model)
            path.write_bytes(model.SerializeToString(deterministic=True))
        return OptimizeResult(model=path, modified=True)


def _freeze(model: Any) -> None:
    for value in (model.graph.input[0], *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 16


def _freeze_inside(model: Any) -> None:
    """The interface says that the size is open; a Reshape inside says otherwise."""
    from onnx import TensorProto, helper

    shape = helper.make_tensor("fixed", TensorProto.INT64, [2], [1, 4])
    model.graph.initializer.append(shape)
    last = model.graph.output[0].name
    maker = next(node for node in model.graph.node if last in node.output)
    maker.output[0] = "unshaped"
    model.graph.node.append(helper.make_node("Reshape", ["unshaped", "fixed"], [last]))


def _drop(model: Any) -> None:
    del model.graph.output[-1]


def _rename(model: Any) -> None:
    for node in model.graph.node:
        node.input[:] = ["other" if name == "x" else name for name in node.input]
    model.graph.input[0].name = "other"


def _change(model: Any) -> None:
    from onnx import numpy_helper

    tensor = next(one for one in model.graph.initializer if one.name == "w")
    changed = (numpy_helper.to_array(tensor) * 1.01).astype("float32")
    tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))


def _branch(model: Any) -> None:
    node = next(node for node in model.graph.node if node.op_type == "If")
    for attribute in node.attribute:
        if attribute.name == "then_branch":
            attribute.g.node[0].op_type = "Abs"


def _grow(model: Any) -> None:
    import numpy as np
    from onnx import numpy_helper

    model.graph.initializer.append(numpy_helper.from_array(np.zeros(4096, np.float32), "ballast"))


def _foreign(model: Any) -> None:
    from onnx import helper

    model.opset_import.append(helper.make_opsetid("com.acme", 1))
    node = next(node for node in model.graph.node if node.op_type == "Relu")
    node.op_type, node.domain = "FastRelu", "com.acme"


def _opset(model: Any) -> None:
    model.opset_import[0].version = 21


def _licence(model: Any) -> None:
    del model.metadata_props[:]


def _relu(model: Any) -> None:
    """Right, but with an operator that a target may lack."""
    import numpy as np
    from onnx import helper, numpy_helper

    node = next(node for node in model.graph.node if node.op_type == "Relu")
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0), "zero"))
    node.CopyFrom(helper.make_node("Max", [node.input[0], "zero"], list(node.output)))


_FAULTS = {
    "freeze": _freeze, "freeze-inside": _freeze_inside, "drop": _drop, "rename": _rename, "change": _change,
    "branch": _branch, "grow": _grow, "foreign": _foreign, "opset": _opset, "licence": _licence, "max": _relu,
}  # fmt: skip


class Flip:
    """Two of these undo each other for ever."""

    def probe(self) -> Probe:
        return Probe(ok=True, fingerprint="flip 1")

    def optimize(self, request: OptimizeRequest, context: StepContext) -> OptimizeResult:
        import onnx

        model = onnx.load(request.model.path)
        model.doc_string = "tails" if model.doc_string == "heads" else "heads"
        path = Path(context.work, "flip.onnx")
        path.write_bytes(model.SerializeToString(deterministic=True))
        return OptimizeResult(model=path, modified=True)


def _info(name: str, load: str, **facts: Any) -> OptimizerInfo:
    settings = {"category": "dependency", "level": "named", "time_limit_s": 3.0, **facts}
    return OptimizerInfo(name=name, summary="For tests.", half=Half(load=f"{__name__}:{load}"), **settings)


@hookimpl
def sdkpack_optimizers() -> list[OptimizerInfo]:
    return [
        _info("test.tidy", "Tidy", level="safe"),
        _info("test.fault", "Fault", params=FaultParams),
        _info("test.flip", "Flip"),
        _info("test.lean", "Lean", capabilities=("large",)),
        _info("test.first", "Flip", after=("test.second",)),
        _info("test.second", "Flip", after=("test.first",)),
    ]


@hookimpl
def sdkpack_runtimes() -> list[RuntimeInfo]:
    """The same library under names that say less of what it takes."""
    compiler = Half(load="sdkpack_onnxruntime.compile:OnnxRuntimeCompiler")
    runner = Half(load="sdkpack_onnxruntime.run:OnnxRuntimeRunner")
    operators = ("Add", "Identity", "If", "MatMul", "Mul", "Neg", "Abs", "Relu", "Greater", "ReduceSum", "Squeeze")
    return [
        RuntimeInfo(
            name="test.few", summary="For tests.", compiler=compiler, runner=runner, operators=operators,
            opsets=(9, 17),
        )
    ]  # fmt: skip

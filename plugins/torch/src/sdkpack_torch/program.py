"""Programs of torch.export (.pt2)."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from sdkpack.errors import ModelError
from sdkpack.plugin import (
    ConvertRequest,
    ConvertResult,
    EvaluateRequest,
    EvaluateResult,
    Probe,
    SniffRequest,
    SniffResult,
    StepContext,
)
from sdkpack_torch.archive import expect_kind
from sdkpack_torch.params import ProgramParams
from sdkpack_torch.safety import check_program

__all__ = ["ProgramConverter", "fingerprint", "tools"]

_TOOLS: Final = ("torch", "onnxscript", "onnx_ir", "onnx")


def tools() -> dict[str, str]:
    """Versions of what does the work."""
    return {name: version(name) for name in _TOOLS}


def fingerprint() -> Probe:
    """Nothing is loaded: importing torch takes seconds."""
    return Probe(ok=True, fingerprint=", ".join(f"{name} {text}" for name, text in tools().items()))


class ProgramConverter:
    """A .pt2 file to ONNX."""

    def probe(self) -> Probe:
        return fingerprint()

    def sniff(self, request: SniffRequest) -> SniffResult:
        """The archive's members decide; the core looks at them itself."""
        return SniffResult(score=0.0)

    def convert(self, request: ConvertRequest, context: StepContext) -> ConvertResult:
        """Converts one program; sizes that it leaves open stay open.

        Raises:
            ModelError: see `sdkpack_torch.safety` and `sdkpack_torch.export`.
        """
        from sdkpack_torch.export import choose_opset, flat_names, rename, save, to_onnx

        params = request.params if isinstance(request.params, ProgramParams) else ProgramParams()
        opset = choose_opset(params.opset, request.opset)
        context.progress(0.1, f"loading {request.source.name}")
        program = load_program(request.source)
        names = _input_names(program, params, request)
        context.progress(0.4, "exporting")
        model, notes = to_onnx(program, opset)
        outputs = params.output_names or _output_names(program, flat_names)
        rename(model, names, outputs, _symbols(program, names, request))
        context.progress(0.8, "checking")
        path = context.work / "model.onnx"
        save(model, path, opset)
        return ConvertResult(model=path, notes=notes, tools=tools())

    def evaluate(self, request: EvaluateRequest, context: StepContext) -> EvaluateResult:
        """Runs the program with torch."""
        from sdkpack_torch.evaluation import inner_values, leaves, model_names, run_samples

        context.progress(0.0, f"loading {request.conversion.source.name}")
        program = load_program(request.conversion.source)
        inputs, outputs = model_names(request.model)

        def run(tensors: dict[str, Any]) -> dict[str, Any]:
            import torch

            flat = _flat_inputs(program, [tensors[name] for name in inputs])
            found = inner_values(program, flat, request.tensors) if request.tensors else {}
            arguments, keywords = torch.utils._pytree.tree_unflatten(flat, program.call_spec.in_spec)
            # Made anew for each sample: buffers may change while it runs.
            returned = leaves(program.module()(*arguments, **keywords))
            return {**found, **dict(zip(outputs, returned, strict=True))}

        return EvaluateResult(outputs=run_samples(request, context, run), tools=tools())


def load_program(path: Path) -> Any:
    """
    Raises:
        ModelError: it is damaged, of another kind, or would run code.
    """
    expect_kind(path, "program")
    check_program(path)
    # What the check has let through is still read with the pickle reader that makes tensors and nothing else.
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    import torch

    from sdkpack_torch.export import quietly
    from sdkpack_torch.faults import telling

    hint = "export it again with torch 2.8 to 2.13"
    with telling(f"torch cannot load {path.name!r}", hint=hint), quietly(), path.open("rb") as file:
        program = torch.export.load(file)
    _check_targets(program, path)
    return program


def _check_targets(program: Any, path: Path) -> None:
    """Operators that this torch does not have are left as texts."""
    import torch

    known = torch._ops.OpOverload | torch._ops.HigherOrderOperator
    odd = sorted(
        {
            str(node.target).removeprefix("torch.ops.")
            for module in program.graph_module.modules()
            for node in getattr(getattr(module, "graph", None), "nodes", ())
            if node.op == "call_function" and not isinstance(node.target, known) and not callable(node.target)
        }
    )
    if odd:
        raise ModelError(
            f"{path.name!r} uses operators that torch {version('torch')} does not have: {', '.join(odd)}",
            hint="export it with that version of torch",
        )


def _user_inputs(program: Any) -> list[tuple[str, Any, bool]]:
    """(name, fixed value, whether it is fixed) of each leaf of the inputs."""
    from torch.export.graph_signature import ConstantArgument, InputKind

    specs = [spec for spec in program.graph_signature.input_specs if spec.kind == InputKind.USER_INPUT]
    fixed = [isinstance(spec.arg, ConstantArgument) for spec in specs]
    return [(spec.arg.name, spec.arg.value if one else None, one) for spec, one in zip(specs, fixed, strict=True)]


def _input_names(program: Any, params: ProgramParams, request: ConvertRequest) -> tuple[str, ...]:
    names = params.input_names or tuple(name for name, _, fixed in _user_inputs(program) if not fixed)
    odd = sorted({spec.name for spec in request.inputs} - set(names))
    if odd:
        raise ModelError(
            f"the program has no input {', '.join(odd)}, it has {', '.join(names) or 'none'}",
            hint=f"rename models.{request.name}.inputs.{odd[0]}, or name the inputs with convert.with.input_names",
        )
    return names


def _flat_inputs(program: Any, tensors: list[Any]) -> list[Any]:
    given = iter(tensors)
    return [value if fixed else next(given) for _, value, fixed in _user_inputs(program)]


def _output_names(program: Any, flat_names: Any) -> tuple[str, ...]:
    import torch
    from torch.export.graph_signature import ConstantArgument, OutputKind

    tree = torch.utils._pytree.tree_unflatten(
        list(range(program.call_spec.out_spec.num_leaves)), program.call_spec.out_spec
    )
    specs = [spec for spec in program.graph_signature.output_specs if spec.kind == OutputKind.USER_OUTPUT]
    # A fixed value, None for the most part, is no output of the ONNX model.
    return tuple(
        name for name, spec in zip(flat_names(tree), specs, strict=True) if not isinstance(spec.arg, ConstantArgument)
    )


def _symbols(program: Any, names: tuple[str, ...], request: ConvertRequest) -> dict[str, str]:
    """The program's names of open sizes -> the author's, where inputs are declared.

    Raises:
        ModelError: a declared shape is not the program's.
    """
    declared = {spec.name: spec for spec in request.inputs}
    shapes = _input_shapes(program)
    symbols: dict[str, str] = {}
    faults = []
    for name, shape in zip(names, shapes, strict=True):
        spec = declared.get(name)
        if spec is None:
            continue
        if len(spec.shape) != len(shape):
            faults.append(f"{name!r} is declared with {len(spec.shape)} axes, the program's has {len(shape)}")
            continue
        for axis, (wanted, own) in enumerate(zip(spec.shape, shape, strict=True)):
            if isinstance(own, int) and wanted != own:
                faults.append(f"axis {axis} of {name!r} is declared as {wanted}, the program fixes it at {own}")
            elif not (isinstance(own, str) and isinstance(wanted, str) and own.isidentifier()):
                continue
            elif symbols.setdefault(own, wanted) != wanted:
                faults.append(f"axis {axis} of {name!r} is declared as {wanted}, and is the same as {symbols[own]}")
    if faults:
        raise ModelError(
            f"the declared inputs are not the program's: {'; '.join(faults)}",
            hint="correct the declaration, or export with dynamic_shapes that leave the axis open",
        )
    return symbols


def _input_shapes(program: Any) -> list[tuple[int | str, ...]]:
    wanted = {name for name, _, fixed in _user_inputs(program) if not fixed}
    return [
        tuple(dim if isinstance(dim, int) else str(dim) for dim in node.meta["val"].shape)
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in wanted
    ]

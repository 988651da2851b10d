"""Weights (.pth, .safetensors) with the `torch.nn.Module` that they belong to."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

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
from sdkpack_torch.archive import kind_of
from sdkpack_torch.params import ModuleParams
from sdkpack_torch.program import fingerprint, tools

if TYPE_CHECKING:
    from sdkpack_torch.shapes import Argument

__all__ = ["ModuleConverter"]


class ModuleConverter:
    """A state dict and a module of the author's to ONNX."""

    def probe(self) -> Probe:
        return fingerprint()

    def sniff(self, request: SniffRequest) -> SniffResult:
        """Looks at the file's first bytes and names of members."""
        try:
            kind = kind_of(request.source)
        except ModelError:
            return SniffResult(score=0.0)
        texts = {
            "safetensors": "a safetensors header",
            "legacy": "a file of torch.save",
            "weights": "torch.save's pickle",
        }
        return SniffResult(score=0.9, reason=texts[kind]) if kind in texts else SniffResult(score=0.0)

    def convert(self, request: ConvertRequest, context: StepContext) -> ConvertResult:
        """Builds the module, puts the weights in, traces one call.

        Raises:
            ModelError: no code is given or allowed, the weights are not the module's, or it cannot be traced.
        """
        from sdkpack_torch.tracing import convert_traced, trace

        context.progress(0.1, f"loading {request.source.name}")
        module, notes = load_module(request)
        found, fixed = _arguments(module, request, context.seed)
        context.progress(0.3, "tracing")
        program = trace(module, found, fixed)
        return convert_traced(program, found, request, context, notes=notes)

    def evaluate(self, request: EvaluateRequest, context: StepContext) -> EvaluateResult:
        """Calls the module itself, a fresh copy for each sample."""
        from sdkpack_torch.evaluation import inner_values, leaves, model_names, run_samples
        from sdkpack_torch.tracing import trace

        conversion = request.conversion
        context.progress(0.0, f"loading {conversion.source.name}")
        module, notes = load_module(conversion)
        found, fixed = _arguments(module, conversion, context.seed)
        program = trace(module, found, fixed) if request.tensors else None
        inputs, outputs = model_names(request.model)
        own = [each.name for each in found]

        def run(tensors: dict[str, Any]) -> Mapping[str, Any]:
            given = dict(zip(own, (tensors[name] for name in inputs), strict=True))
            inner = {}
            if program is not None:
                inner = inner_values(program, [*given.values(), *fixed.values()], request.tensors)
            returned = leaves(copy.deepcopy(module)(**given, **fixed))
            return {**inner, **dict(zip(outputs, returned, strict=True))}

        return EvaluateResult(outputs=run_samples(request, context, run), notes=tuple(notes), tools=tools())


def load_module(request: ConvertRequest) -> tuple[Any, list[str]]:
    """The module with its weights, in inference mode, and notes.

    Raises:
        ModelError: code is missing or not allowed, or the weights are not the module's.
    """
    import torch

    from sdkpack_torch.usercode import build_module, make_importable
    from sdkpack_torch.weights import load_into, read_file, state_dict_of

    params = request.params if isinstance(request.params, ModuleParams) else ModuleParams()
    code = request.files.get("code")
    if code is not None and request.allow_code:
        # Before the file is read: a pickle of a whole module asks for its class.
        make_importable(code)
    content = read_file(request.source, allow_code=request.allow_code)
    if isinstance(content, torch.nn.Module):
        module, notes = content, ["the file is a pickle of a whole module; its code was run, as allowed"]
    else:
        tensors, notes = state_dict_of(content, params.key, request.source.name)
        _check_code(request, params, tensors)
        module = build_module(params.factory, params.arguments)
        load_into(module, tensors, request.source.name)
    if any(part.training for part in module.modules()):
        module.eval()
        notes.append("the module was in training mode and was put into inference mode")
    return module.requires_grad_(False), notes


def _check_code(request: ConvertRequest, params: ModuleParams, tensors: Mapping[str, Any]) -> None:
    """
    Raises:
        ModelError: it is not said which module the weights belong to, or not allowed to run it.
    """
    from sdkpack_torch.weights import describe

    name, what = request.source.name, describe(tensors)
    code = request.files.get("code")
    if code is None or not params.factory:
        absent = " and convert.".join(
            text for text, missing in (("files.code", code is None), ("with.factory", not params.factory)) if missing
        )
        raise ModelError(
            f"{name!r} holds weights and no network: {what}; not given: convert.{absent}",
            hint=f'say which module they belong to: models.{request.name}.convert = {{ files = {{ code = "net.py" }}, '
            'with = { factory = "net:make" }, allow_code = true }, or export the model with torch.export (.pt2)',
        )
    if not request.allow_code:
        raise ModelError(
            f"{name!r} holds weights and no network: {what}; {params.factory!r} of {code.name!r} would run to make one",
            hint="allow it: convert.allow_code = true in the recipe, or --allow-code",
        )


def _arguments(module: Any, request: ConvertRequest, seed: int) -> tuple[list[Argument], dict[str, Any]]:
    """What to call `forward` with: tensors, and fixed values of the author's."""
    from sdkpack_torch.faults import listed
    from sdkpack_torch.shapes import arguments

    params = request.params if isinstance(request.params, ModuleParams) else ModuleParams()
    names, optional = [], []
    parameters = inspect.signature(module.forward).parameters
    for parameter in parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
            raise ModelError(
                f"'forward' of {type(module).__name__} takes {parameter}, which has no name of its own",
                hint="wrap it into a module whose forward names its inputs",
            )
        if parameter.kind is parameter.VAR_KEYWORD or parameter.name in params.constants:
            continue
        names.append(parameter.name)
        if parameter.default is not parameter.empty:
            optional.append(parameter.name)
    if odd := sorted(set(params.constants) - set(parameters)):
        raise ModelError(
            f"constants names {listed(odd)}, which 'forward' of {type(module).__name__} does not take",
            hint=f"it takes {listed(list(parameters))}",
        )
    return arguments(names, request, params.dynamic, optional=optional, seed=seed), dict(params.constants)

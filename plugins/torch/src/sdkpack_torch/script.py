"""TorchScript modules (.pt, .jit)."""

from __future__ import annotations

import re
from collections.abc import Mapping
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
from sdkpack_torch.archive import Archive, expect_kind, open_archive
from sdkpack_torch.params import ScriptParams
from sdkpack_torch.program import fingerprint, tools
from sdkpack_torch.words import words

__all__ = ["ScriptConverter"]

_OPERATOR: Final = re.compile(r"\bops\.(\w+)\.(\w+)", re.ASCII)
_OWN: Final = words("aten prim prims quantized quantized_decomposed")
_REACHING_OUT: Final = re.compile(r"\btorch\.(save|from_file|load)\(|\bops\.aten\.(save|from_file|load)\b", re.ASCII)
_NEXT: Final = "_next"
"""Behind a state's name: what it is after the call."""


class ScriptConverter:
    """A TorchScript module to ONNX. Loading one runs nothing; its operators run in this process, which is a cage."""

    def probe(self) -> Probe:
        return fingerprint()

    def sniff(self, request: SniffRequest) -> SniffResult:
        """The archive's members decide; the core looks at them itself."""
        return SniffResult(score=0.0)

    def convert(self, request: ConvertRequest, context: StepContext) -> ConvertResult:
        """Converts `forward` for the declared inputs.

        Tensors that `forward` keeps in attributes become inputs, and outputs with `_next` behind the name.

        Raises:
            ModelError: it is damaged, uses operators that are not torch's, or cannot be traced.
        """
        from sdkpack_torch.interpret import state_name
        from sdkpack_torch.stateful import prepare
        from sdkpack_torch.tracing import convert_traced, trace

        params = request.params if isinstance(request.params, ScriptParams) else ScriptParams()
        context.progress(0.1, f"loading {request.source.name}")
        script, notes = load_script(request)
        context.progress(0.3, "tracing")
        prepared = prepare(script, request, params, context.seed)
        program = trace(prepared.module, prepared.arguments, {})
        outputs = [*prepared.output_names, *(state_name(name) + _NEXT for name in prepared.state)]
        return convert_traced(
            program, prepared.arguments, request, context, outputs=outputs, notes=(*notes, *prepared.notes)
        )

    def evaluate(self, request: EvaluateRequest, context: StepContext) -> EvaluateResult:
        """Runs the script as torch does, from the state that a sample gives."""
        from sdkpack_torch.evaluation import inner_values, leaves, model_names, run_samples
        from sdkpack_torch.stateful import call, prepare
        from sdkpack_torch.tracing import trace

        conversion = request.conversion
        params = conversion.params if isinstance(conversion.params, ScriptParams) else ScriptParams()
        context.progress(0.0, f"loading {conversion.source.name}")
        script, notes = load_script(conversion)
        prepared = prepare(script, conversion, params, context.seed)
        inputs, outputs = model_names(request.model)
        own = [each.name for each in prepared.arguments]
        program = trace(prepared.module, prepared.arguments, {}) if request.tensors else None

        def run(tensors: dict[str, Any]) -> Mapping[str, Any]:
            given = dict(zip(own, (tensors[name] for name in inputs), strict=True))
            found = inner_values(program, list(given.values()), request.tensors) if program is not None else {}
            return {**found, **dict(zip(outputs, leaves(call(script, prepared, given)), strict=True))}

        return EvaluateResult(outputs=run_samples(request, context, run), notes=tuple(notes), tools=tools())


def load_script(request: ConvertRequest) -> tuple[Any, list[str]]:
    """The module in inference mode, and notes.

    Raises:
        ModelError: it is damaged, of another kind, or uses what is not torch's.
    """
    path = request.source
    expect_kind(path, "script")
    _check_source(open_archive(path), path)
    import torch

    from sdkpack_torch.export import quietly
    from sdkpack_torch.faults import telling

    hint = f"save it again with torch up to {version('torch')}"
    with telling(f"torch cannot load {path.name!r}", hint=hint), quietly():
        script = torch.jit.load(path, map_location="cpu")
    if not hasattr(script, "forward"):
        raise ModelError(f"{path.name!r} has no method 'forward'", hint="script a module that has one")
    notes = []
    if any(getattr(part, "training", False) for part in script.modules()):
        script.eval()
        notes.append("the source was in training mode and was put into inference mode")
    return script, notes


def _check_source(archive: Archive, path: Path) -> None:
    """Looks through the script's own text: torch would name only the first operator that it does not know."""
    texts = [archive.read(name).decode(errors="replace") for name in archive.names if _is_code(name)]
    custom = sorted(
        {f"{space}::{name}" for text in texts for space, name in _OPERATOR.findall(text) if space not in _OWN}
    )
    if custom:
        raise ModelError(
            f"{path.name!r} uses operators that are not torch's own: {', '.join(custom)}",
            hint="replace them in the model by torch's operators, and save it again",
        )
    reaching = sorted({match[0].rstrip("(") for text in texts for match in _REACHING_OUT.finditer(text)})
    if reaching:
        raise ModelError(
            f"{path.name!r} reads or writes files while it runs: {', '.join(reaching)}",
            hint="take that out of the module: it could not become part of an ONNX model",
        )


def _is_code(name: str) -> bool:
    return name.startswith("code/") and name.endswith(".py")

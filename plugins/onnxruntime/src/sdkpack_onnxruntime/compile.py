"""The compiler: nothing is translated; the model is tried as the runner will open it, and every setting is fixed."""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sdkpack.errors import ModelError, RunError, StepError
from sdkpack.plugin import (
    CompiledModel,
    CompiledPart,
    CompileRequest,
    CompileResult,
    Coverage,
    OpenRequest,
    PartFile,
    Probe,
    StepContext,
)
from sdkpack_onnxruntime.library import installed_build, load_library
from sdkpack_onnxruntime.needs import MINIMUM, TOKEN
from sdkpack_onnxruntime.options import Options
from sdkpack_onnxruntime.params import OnnxRuntimeParams
from sdkpack_onnxruntime.run import OnnxRuntimeRunner

if TYPE_CHECKING:
    from sdkpack.plugin import ModelInput

__all__ = ["SHARE_FROM_BYTES", "OnnxRuntimeCompiler"]

SHARE_FROM_BYTES: Final = 64 << 20
"""Smaller weights are rearranged in a moment and run faster for it; larger ones cost seconds and a second copy."""

_MEDIA_TYPES: Final = {
    "graph": "application/vnd.onnx.graph",
    "weights": "application/vnd.onnx.weights",
    "tensors": "application/vnd.onnx.tensors+json",
}
_DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"})
# onnxruntime 1.23, the oldest supported, has this opset; a newer one asks for the version that it was tried with.
_OPSET_OF_MINIMUM: Final = 23


@dataclass(slots=True)
class _FileBlob:
    """A file of the build, as the runner sees a file of a bundle."""

    file: Path
    media_type: str
    plain: bool
    _map: mmap.mmap | None = field(default=None)

    @property
    def size_bytes(self) -> int:
        return self.file.stat().st_size

    def memory(self) -> memoryview:
        if not self.size_bytes:
            return memoryview(bytearray())
        if self._map is None:
            with self.file.open("rb") as file:
                # Private: pages are read as they are touched, and the build's file is never written to.
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        return memoryview(self._map)

    def release(self) -> None:
        self._map = None

    def file_range(self) -> tuple[Path, int, int] | None:
        return (self.file, 0, self.size_bytes) if self.plain else None

    def path(self) -> Path:
        return self.file


class OnnxRuntimeCompiler:
    """Checks models with the installed onnxruntime and fixes their session settings."""

    def probe(self) -> Probe:
        build = installed_build()
        if build is None:
            return Probe(ok=False, missing="onnxruntime is not installed", mend="pip install onnxruntime")
        return Probe(ok=True, fingerprint=build)

    def compile(self, request: CompileRequest, context: StepContext) -> CompileResult:
        """One variant a model, its files passed through unchanged.

        Raises:
            ModelError: onnxruntime does not support what a model uses.
            StepError: a precision is asked for that only another stage can make.
        """
        params = request.params or OnnxRuntimeParams()
        if request.precision != "float32":
            raise StepError(
                f"runtime 'onnxruntime' compiles models as they are, precision {request.precision!r} was asked for",
                hint="convert the model's precision in the compress stage",
            )
        models = []
        for number, model in enumerate(request.models):
            context.progress(number / len(request.models), f"onnxruntime: {model.name}")
            models.append(_compile_model(model, params, request.shapes))
        return CompileResult(models=tuple(models))


def _compile_model(model: ModelInput, params: OnnxRuntimeParams, shapes: Any) -> CompiledModel:
    nodes, opset, foreign = _survey(model.graph)
    if foreign:
        raise ModelError(
            f"runtime 'onnxruntime' has no operators {', '.join(foreign)}",
            where=model.name,
            hint="replace them before packing, or choose a runtime that has them",
        )
    if shapes:
        raise ModelError("runtime 'onnxruntime' takes symbolic dimensions as they are", hint="leave out 'shapes'")
    options = _options(model, params)
    part = CompiledPart(
        runtime="onnxruntime",
        files=tuple(
            PartFile(role=role, path=getattr(model, role), media_type=kind) for role, kind in _files(model).items()
        ),
        inputs=model.inputs,
        outputs=model.outputs,
        options=options.as_json(),
    )
    return CompiledModel(
        name=model.name,
        parts=(part,),
        needs={"version": _version_range(opset), "device": options.device},
        token=TOKEN,
        coverage=Coverage(nodes_total=nodes, nodes_on_device=nodes),
    )


def _files(model: ModelInput) -> dict[str, str]:
    """Role to media type; a model without large weights is its graph alone."""
    if model.weights.stat().st_size == 0:
        return {"graph": _MEDIA_TYPES["graph"]}
    return _MEDIA_TYPES


def _survey(graph: Path) -> tuple[int, int, list[str]]:
    """Number of nodes of the main graph, the opset, and operators of domains that onnxruntime does not have."""
    import onnx

    model = onnx.load_model(graph, load_external_data=False)
    own = {(function.domain, function.name) for function in model.functions}
    foreign = {
        f"{node.domain}.{node.op_type}"
        for node in model.graph.node
        if node.domain not in _DOMAINS and (node.domain, node.op_type) not in own
    }
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)
    return len(model.graph.node), opset, sorted(foreign)


def _version_range(opset: int) -> str:
    lowest = MINIMUM
    if opset > _OPSET_OF_MINIMUM:
        major, minor = load_library().__version__.split(".")[:2]
        lowest = int(major), int(minor)
    return f">={lowest[0]}.{lowest[1]}"


def _options(model: ModelInput, params: OnnxRuntimeParams) -> Options:
    """The options that the model opens with; what `auto` comes to is tried, not guessed.

    Raises:
        ModelError: it does not open.
    """
    wish = params.weights
    if wish == "auto":
        wish = "shared" if model.weights.stat().st_size >= SHARE_FROM_BYTES else "packed"
    options = Options.of(params, wish)
    if _try(model, options) == wish:
        return options
    # Graph optimisation needs the value of a weight: the runner would find that out at every opening.
    return Options.of(params, "packed")


def _try(model: ModelInput, options: Options) -> str:
    """Opens the model as the runner will, from memory, and compares its inputs and outputs with the declared ones.

    Returns how its weights ended up, `shared` or `packed`.
    """
    roles = _files(model)
    files = {role: _FileBlob(getattr(model, role), kind, plain=False) for role, kind in roles.items()}
    request = OpenRequest(
        files=files, inputs=model.inputs, outputs=model.outputs, options=options.as_json(), encrypted=True
    )
    try:
        session = OnnxRuntimeRunner().open(request)
    except RunError as error:
        raise ModelError(
            error.message, where=model.name, hint="see what the runtime supports, or export anew"
        ) from None
    names, weights = session.names(), session.weights
    session.close()
    declared = ([spec.name for spec in model.inputs], [spec.name for spec in model.outputs])
    if names != declared:
        raise ModelError(
            f"onnxruntime sees other inputs and outputs, got {names}, expected {declared}", where=model.name
        )
    return weights

"""What all passes share: reading, measuring, keeping the interface, writing.

A pass is a class with `edit`; all else is here. It is held to four rules, so that the core's guard seldom has to act:

* inputs and outputs are put back as they were: names, order, types, open dimensions;
* a pass that made nothing less (`Size`) says that it changed nothing, so that rounds of passes end;
* a model with what a library does not know is passed through with a note;
* whatever a library raises is a `StepError`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar

from sdkpack.errors import SdkpackError, StepError
from sdkpack.plugin import OptimizeRequest, OptimizeResult, Probe, StepContext
from sdkpack_optimize.files import ModelFile, node_lists_of, read_model, write_model
from sdkpack_optimize.interface import restore_interface
from sdkpack_optimize.measure import size_of
from sdkpack_optimize.unknown import unknown_parts

if TYPE_CHECKING:
    import onnx_ir as ir
    from onnx import ModelProto

__all__ = ["IrPass", "ProtoPass"]


class ProtoPass(ABC):
    """A pass over a `ModelProto`."""

    tools: ClassVar[tuple[str, ...]] = ("onnx",)
    """Distributions that do the work."""
    must_shrink: ClassVar[bool] = True
    """Whether a result that is not smaller is worth nothing."""
    keeps_inputs: ClassVar[bool] = True
    """False where inputs that have a default may go."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Operators one of which must be there for the pass to do anything; empty: it looks at all."""

    def probe(self) -> Probe:
        names = ("sdkpack-optimize", *self.tools)
        return Probe(ok=True, fingerprint=", ".join(f"{name} {version(name)}" for name in names))

    def optimize(self, request: OptimizeRequest, context: StepContext) -> OptimizeResult:
        """Optimises one model.

        Raises:
            ModelError: it is no ONNX model.
            StepError: the library failed.
        """
        tools = {name: version(name) for name in self.tools}
        source = read_model(request.model.path)
        reason = self.unfit(source, request)
        if reason or not self.has_work(source.proto):
            why = (reason,) if reason else ()
            return OptimizeResult(model=request.model.path, modified=False, notes=why, tools=tools)
        context.progress(None, "rewriting")
        _hush(self.tools)
        try:
            result, notes = self.edit(source, request)
        except SdkpackError:
            raise
        except Exception as error:
            # The libraries raise whatever their rules run into; the core's guard goes on without this pass.
            what = f"{type(error).__name__}: {error}".split("\n", 1)[0][:300]
            raise StepError(f"{self.tools[-1]} failed: {what}", hint="leave this pass out") from error
        restore_interface(source.proto, result, keep_inputs=self.keeps_inputs)
        if not self.is_worth(source.proto, result):
            return OptimizeResult(model=request.model.path, modified=False, notes=notes, tools=tools)
        path = write_model(result, context.work)
        return OptimizeResult(model=path, modified=True, keeps_data=bool(source.external), notes=notes, tools=tools)

    def unfit(self, source: ModelFile, request: OptimizeRequest) -> str:
        """Why the model is better left alone; empty where it is not."""
        found = unknown_parts(source.proto)
        return f"passed through: the model has {', '.join(found)}" if found else ""

    def has_work(self, proto: ModelProto) -> bool:
        """A look that costs nothing, before the model is taken apart."""
        if not self.needs:
            return True
        return any(node.op_type in self.needs for nodes in node_lists_of(proto) for node in nodes)

    @abstractmethod
    def edit(self, source: ModelFile, request: OptimizeRequest) -> tuple[ModelProto, tuple[str, ...]]:
        """The new model, and notes. `source` may be changed by nobody."""

    def is_worth(self, before: ModelProto, after: ModelProto) -> bool:
        """Whether the result is another model, and a better one."""
        if self.must_shrink:
            return size_of(after) < size_of(before)
        return bool(after.SerializeToString(deterministic=True) != before.SerializeToString(deterministic=True))


class IrPass(ProtoPass):
    """A pass over onnx-ir's model; external data stays mapped."""

    tools: ClassVar[tuple[str, ...]] = ("onnx", "onnx-ir")

    def edit(self, source: ModelFile, request: OptimizeRequest) -> tuple[ModelProto, tuple[str, ...]]:
        import onnx_ir as ir
        from onnx_ir.passes.common import NameFixPass, OutputFixPass

        from sdkpack_optimize.scopes import alias_outer_outputs

        model = ir.from_proto(source.proto)
        ir.external_data.set_base_dir(model.graph, source.folder)
        notes = self.apply(model, request)
        OutputFixPass()(model)
        alias_outer_outputs(model)
        NameFixPass()(model)
        return ir.to_proto(model), notes

    @abstractmethod
    def apply(self, model: ir.Model, request: OptimizeRequest) -> tuple[str, ...]:
        """Changes the model in place; answers with notes."""


def params_of(request: OptimizeRequest, kind: type[Any]) -> Any:
    """The request's params, or the defaults."""
    return request.params if isinstance(request.params, kind) else kind()


def _hush(tools: tuple[str, ...]) -> None:
    """What the libraries log goes where a user sends logs, if anywhere; Python prints it to stderr otherwise."""
    import logging

    for name in tools:
        logger = logging.getLogger(name.replace("-", "_"))
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())

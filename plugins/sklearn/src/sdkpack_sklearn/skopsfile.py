"""skops files: a model as JSON and arrays. Types that skops knows to be harmless load without anybody's leave."""

from __future__ import annotations

import zipfile
from importlib.metadata import version

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
from sdkpack_sklearn.model import Loaded, convert_model, evaluate_model, params_of
from sdkpack_sklearn.nesting import unwrapped
from sdkpack_sklearn.versions import checked_version, watched

__all__ = ["SkopsConverter"]


class SkopsConverter:
    """A model saved by skops to ONNX."""

    def probe(self) -> Probe:
        names = ("scikit-learn", "skl2onnx", "skops", "xgboost-cpu", "lightgbm", "numpy", "onnx")
        return Probe(ok=True, fingerprint=", ".join(f"{name} {version(name)}" for name in names))

    def sniff(self, request: SniffRequest) -> SniffResult:
        try:
            with zipfile.ZipFile(request.source) as archive, archive.open("schema.json") as schema:
                head = schema.read(1 << 16)
        except (OSError, KeyError, zipfile.BadZipFile, RuntimeError, NotImplementedError):
            return SniffResult(score=0.0)
        known = b"__loader__" in head and b"__module__" in head
        return SniffResult(score=0.9 if known else 0.0, reason="skops' schema.json" if known else "")

    def convert(self, request: ConvertRequest, context: StepContext) -> ConvertResult:
        context.progress(0.1, f"loading {request.source.name}")
        return convert_model(_load(request), request, context)

    def evaluate(self, request: EvaluateRequest, context: StepContext) -> EvaluateResult:
        """Runs scikit-learn on each sample."""
        return evaluate_model(_load(request.conversion), request, context)


def _load(request: ConvertRequest) -> Loaded:
    """
    Raises:
        ModelError: types that are not trusted, and the author does not allow them; or it is damaged.
    """
    import skops.io

    source = request.source
    with watched() as versions:
        try:
            unknown = skops.io.get_untrusted_types(file=source)
            if unknown and not request.allow_code:
                raise ModelError(
                    f"{source.name!r} holds types that may run code: {', '.join(sorted(unknown))}",
                    hint=f"if you trust its origin: models.{request.name}.convert.allow_code = true in the recipe, "
                    "--allow-code on the command line",
                )
            model = skops.io.load(source, trusted=unknown)
        except ModelError:
            raise
        # Types of the author's choice are made here, and damaged files end in whatever the library stumbles over.
        except (Exception, SystemExit) as error:
            raise ModelError(
                f"{source.name!r} cannot be loaded: {type(error).__name__}: {str(error)[:300]}",
                hint=f"save it again with skops {version('skops')} and scikit-learn {version('scikit-learn')}",
            ) from error
    notes = checked_version(versions, params_of(request), request)
    return Loaded(model=unwrapped(model), notes=notes)

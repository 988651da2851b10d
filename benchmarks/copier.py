"""A converter that copies: what is measured is the way there."""

from __future__ import annotations

from sdkpack.plugin import ConvertRequest, ConvertResult, Probe, StepContext


class Copier:
    """A converter that copies."""

    def probe(self) -> Probe:
        return Probe(ok=True, fingerprint="copier 1")

    def convert(self, request: ConvertRequest, context: StepContext) -> ConvertResult:
        model = context.work / "model.onnx"
        model.write_bytes(request.source.read_bytes())
        return ConvertResult(model=model)

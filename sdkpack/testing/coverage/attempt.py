"""Tries one case: imported, compiled, opened and run as a bundle's model would be."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sdkpack.errors import ModelError, SdkpackError, StepError, UsageError
from sdkpack.host.registry import Registered, Registry, load_class
from sdkpack.model.facts import ModelFacts
from sdkpack.plugin.info import RuntimeInfo
from sdkpack.plugin.runtime import Compiler, CompileRequest
from sdkpack.testing.bench import PlainContext, model_input, open_compiled
from sdkpack.testing.coverage.cases import Case, NoCaseError
from sdkpack.testing.coverage.outcome import Outcome

__all__ = ["Bench"]

_REFUSALS: Final = (ModelError, StepError, UsageError)
_LONGEST_REASON: Final = 240


class _GapError(Exception):
    """The case cannot be said in sdkpack's words."""


class _RefusedError(Exception):
    """The compiler refused the model."""


class _OtherError(Exception):
    """An output is another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A runtime under test.

    Args:
        runtime: its descriptor.
        registry: where the runtimes of other parts come from.
        opsets: lowest and highest opset that it claims; None: every one.
        precision: to ask for. `float32` is held to the suite's own tolerances, others to those of sdkpack.
        params: the runtime's, or None for its defaults.
    """

    runtime: Registered[RuntimeInfo]
    registry: Registry
    opsets: tuple[int, int] | None = None
    precision: str = "float32"
    params: Any = None

    def compiler(self) -> Compiler:
        """
        Raises:
            SdkpackError: there is none that works here.
        """
        half = self.runtime.info.compiler
        if half is None or self.runtime.info.runner is None:
            raise UsageError(f"runtime {self.runtime.info.name!r} lacks a half: coverage compiles and runs")
        made: Compiler = load_class(self.runtime, half.load)()
        probe = made.probe()
        if not probe.ok:
            raise UsageError(
                f"runtime {self.runtime.info.name!r} cannot compile here: {probe.missing}", hint=probe.mend
            )
        return made

    def attempt(self, case: Case, compiler: Compiler) -> Outcome:
        """Never raises, ^C aside; a crash of the process is for the caller to see."""
        operators: tuple[str, ...] = ()
        opset = 0
        try:
            model = case.model()
            operators, opset = _operators(model), _opset(model)
            with tempfile.TemporaryDirectory(prefix="case-") as folder:
                self._try(case, model, compiler, Path(folder))
            result, reason = "pass", ""
        except NoCaseError as error:
            result, reason = "environment", str(error)
        except _GapError as error:
            result, reason = "adaptor gap", str(error)
        except _RefusedError as error:
            result, reason = "unsupported", str(error)
        except _OtherError as error:
            result, reason = "wrong value", str(error)
        except Exception as error:  # the border to the runtime under test
            result, reason = "error", f"{type(error).__name__}: {error}"
        if result in {"unsupported", "wrong value", "error"} and self._outside(opset):
            result = "out of window"
        reason = " ".join(reason.split())[:_LONGEST_REASON]
        return Outcome(case=case.name, result=result, operators=operators, opset=opset, reason=reason)

    def _samples(self, case: Case, model: Any, facts: ModelFacts, folder: Path) -> dict[str, tuple[Path, ...]]:
        """The case's own inputs, for a compiler that calibrates."""
        if "quantize.self" not in self.runtime.info.capabilities:
            return {}
        import numpy as np

        path = folder / "sample.npz"
        for inputs, _ in case.data_sets(model):
            fed = _fed(facts, inputs)
            if any(array.dtype.kind not in "fiub" for array in fed.values()):
                raise _GapError("an input cannot be written as a sample")
            np.savez(path, **fed)
            return {"case": (path,)}
        return {}

    def _outside(self, opset: int) -> bool:
        return self.opsets is not None and opset > 0 and not self.opsets[0] <= opset <= self.opsets[1]

    def _try(self, case: Case, model: Any, compiler: Compiler, folder: Path) -> None:
        try:
            source, facts = model_input(model, folder)
        except SdkpackError as error:
            raise _GapError(error.message) from error
        work = folder / "work"
        work.mkdir()
        request = CompileRequest(
            models=(source,), target="coverage", params=self.params, precision=self.precision,
            samples=self._samples(case, model, facts, folder),
        )  # fmt: skip
        try:
            (compiled,) = compiler.compile(request, PlainContext(work)).models
        except _REFUSALS as error:
            raise _RefusedError(error.message) from error
        with closing(open_compiled(compiled, facts, self.registry)) as opened:
            for inputs, outputs in case.data_sets(model):
                fed = _fed(facts, inputs)
                got = opened(fed)
                for spec, expected in zip(facts.outputs, outputs, strict=True):
                    _compare(spec.name, got[spec.name], expected, case, self.precision)


def _fed(facts: ModelFacts, inputs: Sequence[Any]) -> dict[str, Any]:
    import numpy as np

    for value in inputs:
        if not isinstance(value, np.ndarray):
            raise _GapError(f"an input is a {type(value).__name__}, no tensor")
    return {spec.name: value for spec, value in zip(facts.inputs, inputs, strict=True)}


def _compare(name: str, got: Any, expected: Any, case: Case, precision: str) -> None:
    import numpy as np

    from sdkpack.compare import compare, tolerance_for

    if not isinstance(expected, np.ndarray):
        raise _GapError(f"output {name!r} is a {type(expected).__name__}, no tensor")
    if got.shape != expected.shape:
        raise _OtherError(f"output {name!r} has shape {list(got.shape)}, expected {list(expected.shape)}")
    if expected.dtype.kind in "OUST":
        if not np.array_equal(got.astype(object), expected.astype(object)):
            raise _OtherError(f"output {name!r} has another text")
        return
    if got.dtype != expected.dtype:
        raise _OtherError(f"output {name!r} is {got.dtype}, expected {expected.dtype}")
    if precision != "float32":
        found = compare(got, expected)
        if not found.within(tolerance_for(precision)):
            raise _OtherError(f"output {name!r}: normalised error {found.normalized_error:.3g} {found.reason}")
        return
    # NumPy promotes neither bfloat16 nor the 8-bit floats; two units of bfloat16 are what the suite itself allows.
    rtol = max(case.rtol, 2.0**-6) if got.dtype.name == "bfloat16" else case.rtol
    a, b = (array.astype(np.float64) if array.dtype.kind in "Vf" else array for array in (got, expected))
    if not np.allclose(a, b, rtol=rtol, atol=case.atol, equal_nan=True):
        raise _OtherError(f"output {name!r}: normalised error {compare(got, expected).normalized_error:.3g}")


def _operators(model: Any) -> tuple[str, ...]:
    nodes = {(node.domain, node.op_type) for node in model.graph.node}
    return tuple(sorted(f"{domain}.{name}" if domain else name for domain, name in nodes))


def _opset(model: Any) -> int:
    versions = {entry.domain: entry.version for entry in model.opset_import}
    return int(versions.get("", versions.get("ai.onnx", 0)))

"""A runtime on the bench: a model as its compiler gets it, and what it compiled opened as a session opens it."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sdkpack.build.steps.variants import open_compiled
from sdkpack.errors import InterruptedRunError
from sdkpack.host.process import INHERITED, run_tool
from sdkpack.model.external import ExternalFolder
from sdkpack.model.facts import ModelFacts, describe
from sdkpack.model.load import parse_model
from sdkpack.model.split import split_model
from sdkpack.model.table import write_table
from sdkpack.plugin.runtime import ModelInput
from sdkpack.types import TensorSpec

__all__ = ["PlainContext", "inputs_of", "model_input", "open_compiled", "write_keys"]

_log: Final = logging.getLogger("sdkpack.testing")


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class PlainContext:
    """A step's surroundings without a build, for this process and for jobs. `cancelled` is asked at each call."""

    work: Path
    cancelled: Callable[[], bool] = field(default=_never)
    log: logging.Logger = _log
    seed: int = 0
    enforced: dict[str, str] = field(default_factory=dict)
    """What was around a job."""

    @property
    def log_file(self) -> Path:
        return self.work.parent / "log"

    def is_cancelled(self) -> bool:
        return self.cancelled()

    def isolated(self, facts: Mapping[str, str]) -> None:
        self.enforced.update(facts)

    def progress(self, fraction: float | None, text: str = "") -> None:
        if fraction is not None and not 0 <= fraction <= 1:
            raise ValueError(f"progress: got {fraction}, expected 0 to 1 or None")
        self._check()

    def run(
        self, argv: Sequence[str], *, timeout_s: float | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[Any]:

        self._check()
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        home = {"HOME": str(self.work), "TMPDIR": str(self.work)}
        log = self.log_file
        with log.open("ab") as output:
            return run_tool(
                argv, folder=self.work, output=output, environment={**inherited, **home, **(env or {})},
                timeout_s=timeout_s, cancelled=self.cancelled, where="bench", log=log,
            )  # fmt: skip

    def _check(self) -> None:
        if self.cancelled():
            raise InterruptedRunError("stopped by request")


def model_input(model: Any, folder: Path, *, name: str = "case") -> tuple[ModelInput, ModelFacts]:
    """A `ModelProto` as a compiler gets it, its files in `folder`.

    Raises:
        ModelError: sdkpack cannot take the model.
    """
    path = folder / "model.onnx"
    content = model.SerializeToString()
    path.write_bytes(content)
    loaded = parse_model(content, name=name)
    facts = describe(loaded)
    with ExternalFolder(None) as external:
        split = split_model(loaded, external)
        (folder / "graph").write_bytes(split.graph)
        (folder / "weights").write_bytes(split.weights.read_all())
    (folder / "tensors").write_bytes(write_table(split.tensors))
    source = ModelInput(
        name=name, path=path, graph=folder / "graph", weights=folder / "weights", tensors=folder / "tensors",
        inputs=facts.inputs, outputs=facts.outputs,
    )  # fmt: skip
    return source, facts


def inputs_of(model: Any) -> tuple[TensorSpec, ...]:
    """What a `ModelProto` takes."""
    return describe(parse_model(model.SerializeToString())).inputs


def write_keys(folder: Path) -> None:
    """`publisher.key` and `.pub`, `customer.key` and `.pub`: new ones, to seal a bundle with."""
    from sdkpack.crypto.keyfile import write_key_file
    from sdkpack.crypto.recipients import HpkeIdentity
    from sdkpack.crypto.signature import SigningKey

    signing = SigningKey.generate("ed25519", os.urandom)
    identity = HpkeIdentity.generate("hpke-x25519", os.urandom)
    write_key_file(folder / "publisher.key", signing)
    write_key_file(folder / "publisher.pub", signing.verifying_key)
    write_key_file(folder / "customer.key", identity)
    write_key_file(folder / "customer.pub", identity.recipient)

"""Opening one variant of a model, and calling it by tensors."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from sdkpack.documents.manifest import TensorEntry, Variant, VariantPart
from sdkpack.errors import BundleError, PluginError, RunError, SdkpackError
from sdkpack.host.registry import Registered, Registry
from sdkpack.host.runners import RemoteSession
from sdkpack.pipeline.deadline import Deadline
from sdkpack.plugin.info import RuntimeInfo
from sdkpack.plugin.runtime import Blob, OpenRequest, Runner, RunnerSession
from sdkpack.session.batches import fixed_batch, in_batches
from sdkpack.session.choice import load_runner
from sdkpack.session.tensors import check_inputs, check_outputs
from sdkpack.session.workers import Gate, OwnerThread, Pool
from sdkpack.types import TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CONCURRENT", "LoadedModel", "Resources", "Signature", "can", "open_variant"]

_log = logging.getLogger("sdkpack.session")

CONCURRENT: Final = "run.concurrent"
_CLONE: Final = "run.clone"


class Signature(Protocol):
    """Inputs and outputs of a model: a manifest's entry, or a pair of spec tuples."""

    @property
    def inputs(self) -> Sequence[TensorEntry] | Sequence[TensorSpec]: ...

    @property
    def outputs(self) -> Sequence[TensorEntry] | Sequence[TensorSpec]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one model may use."""

    threads: int | None = None
    """Of all its instances together; None: the runtime's own choice."""
    memory_limit_bytes: int | None = None
    instances: int = 1
    """How many calls go on side by side. A runtime with `run.concurrent` serves them all from one loaded copy; others
    get a copy for each, which shares the weights where they have `run.clone`."""
    device: str = ""

    def divided(self, copies: int) -> tuple[int | None, int | None]:
        """Threads and bytes of one of several loaded copies; at least one thread."""
        threads = None if self.threads is None else max(1, self.threads // copies)
        limit = None if self.memory_limit_bytes is None else self.memory_limit_bytes // copies
        return threads, limit


@dataclass(frozen=True, slots=True)
class _Part:
    """One loaded part, called through its owner thread where its runtime needs one."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    session: RunnerSession
    owner: OwnerThread | None
    runtime: str
    label: str

    def run(self, inputs: Mapping[str, Any], deadline: Deadline | None) -> Mapping[str, Any]:
        if self.owner is None:
            return self._run(inputs, deadline)
        return self.owner.call(lambda: self._run(inputs, deadline))

    def _run(self, inputs: Mapping[str, Any], deadline: Deadline | None) -> Mapping[str, Any]:
        with _as_run_error(self.label, "failed"):
            if deadline is None or not isinstance(self.session, RemoteSession):
                return self.session.run(inputs)
            try:
                return self.session.run(inputs, limit_s=deadline.at_s - deadline.clock())
            except RunError:
                deadline.check(f"{self.label} was done")
                raise

    def close(self) -> None:
        if self.owner is None:
            self.session.close()
            return
        try:
            if isinstance(self.session, RemoteSession):
                # From here: the owner may be waiting for a call that hangs, which this ends.
                self.session.close()
            else:
                self.owner.call(self.session.close)
        finally:
            self.owner.close()


_Instance = tuple[_Part, ...]


class LoadedModel:
    """A variant that is ready to run; thread-safe. Made by `open_variant`."""

    def __init__(
        self,
        name: str,
        signature: Signature,
        copies: Sequence[_Instance],
        *,
        concurrent: bool,
        shared: bool,
        batch: int | None = None,
    ) -> None:
        self.name = name
        self._batch = batch
        self.inputs = _specs(signature.inputs)
        self.outputs = _specs(signature.outputs)
        self.weights_shared = shared
        """Whether all calls use one copy of the weights."""
        self._copies = tuple(copies)
        self._gate = Gate(f"model {name!r}")
        self._pool = None if concurrent else Pool(copies, what=f"model {name!r}")

    @property
    def copies(self) -> int:
        """How often it is loaded."""
        return len(self._copies)

    @property
    def isolation(self) -> dict[str, dict[str, str]]:
        """For each part that runs in a process of its own: measure -> what is enforced, or why not."""
        return {
            part.runtime: dict(part.session.enforced)
            for part in self._copies[0]
            if isinstance(part.session, RemoteSession)
        }

    def __call__(self, inputs: Mapping[str, Any], *, deadline: Deadline | None = None) -> dict[str, NDArray[Any]]:
        """Computes the outputs, by name, from the inputs, by name.

        Args:
            inputs: NumPy arrays.
            deadline: when waiting for a free instance ends. A call that runs in this process is not interrupted: no
                runtime can be stopped safely there. The process of one that runs apart is ended.

        Raises:
            InputError: the inputs are not as the model takes them.
            RunError: the runtime failed, or the deadline passed.
            UsageError: the model is closed, or this process was forked from the one that opened it.
        """
        arrays = check_inputs(self.inputs, inputs, what=f"model {self.name!r}")
        if deadline is not None:
            deadline.check(f"model {self.name!r}")
        with self._gate.entered():
            if self._pool is None:
                return self._run(self._copies[0], arrays, deadline)
            with self._pool.one(deadline) as instance:
                return self._run(instance, arrays, deadline)

    def close(self) -> None:
        """Waits for calls under way, then frees everything; may be called twice."""
        if not self._gate.close():
            return
        with contextlib.ExitStack() as stack:  # one part's failure keeps no other open
            for instance in self._copies:
                for part in instance:
                    stack.callback(part.close)

    def _run(self, instance: _Instance, arrays: dict[str, Any], deadline: Deadline | None) -> dict[str, NDArray[Any]]:
        return in_batches(arrays, self._batch, lambda piece: self._chain(instance, piece, deadline))

    def _chain(self, instance: _Instance, values: dict[str, Any], deadline: Deadline | None) -> dict[str, NDArray[Any]]:
        for number, part in enumerate(instance):
            taken = {spec.name: values[spec.name] for spec in part.inputs}
            if part.inputs != self.inputs:  # a variant may fix sizes that the model leaves open
                taken = check_inputs(part.inputs, taken, what=part.label)
            given = check_outputs(part.outputs, part.run(taken, deadline), what=part.label)
            # What no later part takes is let go, so that intermediates do not add up.
            needed = {spec.name for later in instance[number + 1 :] for spec in later.inputs}
            needed |= {spec.name for spec in self.outputs}
            values = {name: value for name, value in (values | given).items() if name in needed}
        return check_outputs(self.outputs, values, what=f"model {self.name!r}")


def open_variant(
    signature: Signature,
    variant: Variant,
    blobs: Callable[[str], Blob],
    registry: Registry,
    *,
    name: str,
    resources: Resources = Resources(),
    encrypted: bool = False,
) -> LoadedModel:
    """Makes a variant ready to run.

    Args:
        signature: the model's inputs and outputs.
        variant: what to open.
        blobs: the file of a bundle path; the blobs stay alive until the model is closed.
        registry: where the runtimes come from.
        name: the model's name, for messages.
        resources: budgets and the number of instances.
        encrypted: the plaintext is secret, nothing derived from it may be written to a disk.

    Raises:
        BundleError: the parts do not make a chain from the inputs to the outputs.
        PluginError: a runtime is missing or broken.
        RunError: a runtime refused a part.
    """
    if variant.absorbed:
        signature = _own_signature(signature, variant)
    _check_chain(signature, variant, name)
    runtimes = [registry.runtime(part.runtime) for part in variant.parts]
    concurrent = all(can(runtime, CONCURRENT) for runtime in runtimes)
    copies = 1 if concurrent else resources.instances
    opener = _Opener(variant=variant, blobs=blobs, name=name, resources=resources, copies=copies, encrypted=encrypted,
                     runtimes=runtimes)  # fmt: skip
    opened: list[_Instance] = []
    try:
        opened.append(opener.first())
        while len(opened) < copies:
            opened.append(opener.another(opened[0]))
    except BaseException:
        for part in (part for instance in opened for part in instance):
            part.close()
        raise
    _log.debug("model %s: opened target %s, %d time(s)", name, variant.target, len(opened))
    shared = len(opened) == 1 or opener.clones
    batch = None if variant.absorbed else fixed_batch(
        _specs(signature.inputs), _specs(signature.outputs), variant.shapes
    )  # fmt: skip
    return LoadedModel(name, signature, opened, concurrent=concurrent, shared=shared, batch=batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opener:
    variant: Variant
    runtimes: Sequence[Registered[RuntimeInfo]]
    blobs: Callable[[str], Blob]
    name: str
    resources: Resources
    copies: int
    encrypted: bool

    @property
    def clones(self) -> bool:
        return all(can(runtime, _CLONE) for runtime in self.runtimes)

    def first(self) -> _Instance:
        return self._each(lambda number, runner: runner.open(self._request(self.variant.parts[number])))

    def another(self, like: _Instance) -> _Instance:
        if not self.clones:
            return self.first()

        def clone(number: int, _: Runner) -> RunnerSession:
            original: Any = like[number].session
            copy: RunnerSession = original.clone()
            return copy

        return self._each(clone)

    def _each(self, make: Callable[[int, Runner], RunnerSession]) -> _Instance:
        parts: list[_Part] = []
        try:
            for number in range(len(self.variant.parts)):
                parts.append(self._part(number, make))
        except BaseException:
            for part in parts:
                part.close()
            raise
        return tuple(parts)

    def _part(self, number: int, make: Callable[[int, Runner], RunnerSession]) -> _Part:
        runtime, spec = self.runtimes[number], self.variant.parts[number]
        label = f"model {self.name!r} on {runtime.info.name}"
        owner = None if can(runtime, CONCURRENT) else OwnerThread(self.name)

        def opened() -> RunnerSession:
            with _as_run_error(label, "could not be opened"):
                return make(number, load_runner(runtime))

        try:
            session = opened() if owner is None else owner.call(opened)
        except BaseException:
            if owner is not None:
                owner.close()
            raise
        return _Part(_specs(spec.inputs), _specs(spec.outputs), session, owner, runtime.info.name, label)

    def _request(self, part: VariantPart) -> OpenRequest:
        threads, limit = self.resources.divided(self.copies)
        return OpenRequest(
            files={role: self.blobs(path) for role, path in part.files.items()},
            inputs=_specs(part.inputs),
            outputs=_specs(part.outputs),
            entry=part.entry or "",
            device=self.resources.device,
            options=part.options,
            threads=threads,
            memory_limit_bytes=limit,
            encrypted=self.encrypted,
        )


@dataclass(frozen=True, slots=True)
class _Specs:
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def _own_signature(signature: Signature, variant: Variant) -> Signature:
    """What a variant that absorbed steps takes and gives: tensors of the model's names, of the steps' types."""
    taken = {spec.name: spec for part in reversed(variant.parts) for spec in _specs(part.inputs)}
    given = {spec.name: spec for part in variant.parts for spec in _specs(part.outputs)}
    return _Specs(
        tuple(taken.get(spec.name, spec) for spec in _specs(signature.inputs)),
        tuple(given.get(spec.name, spec) for spec in _specs(signature.outputs)),
    )


def _check_chain(signature: Signature, variant: Variant, name: str) -> None:
    """Every part must be fed by the inputs or by a part before it, and the outputs by some part, in fitting types."""
    label = f"model {name!r} for {variant.target!r}"
    known = {spec.name: spec for spec in _specs(signature.inputs)}
    made: dict[str, TensorSpec] = {}
    for number, part in enumerate(variant.parts, start=1):
        for spec in _specs(part.inputs):
            _check_link(known.get(spec.name), spec, f"part {number} of {label} takes")
        made |= {spec.name: spec for spec in _specs(part.outputs)}
        known |= made
    for spec in _specs(signature.outputs):
        _check_link(made.get(spec.name), spec, f"the manifest says that {label} gives")


def _check_link(given: TensorSpec | None, taken: TensorSpec, what: str) -> None:
    if given is None:
        raise BundleError(f"{what} {taken.name!r}, which nothing gives")
    if given.dtype != taken.dtype or len(given.shape) != len(taken.shape):
        raise BundleError(f"{what} {taken}, what gives it says {given}")


def _specs(tensors: Sequence[TensorEntry] | Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    return tuple(tensor.spec() if isinstance(tensor, TensorEntry) else tensor for tensor in tensors)


def can(runtime: Registered[RuntimeInfo], word: str) -> bool:
    """A runner that is apart answers one call after another, and shares no memory with its copies."""
    runner = runtime.info.runner
    return word in runtime.info.capabilities and runner is not None and runner.isolation == "in-process"


@contextlib.contextmanager
def _as_run_error(label: str, what: str) -> Iterator[None]:
    """Turns whatever a runtime raises into a `RunError`, and lets each error name model and runtime."""
    try:
        yield
    except (RunError, PluginError) as error:
        error.where = error.where or label
        raise
    except SdkpackError:
        raise
    except Exception as error:  # the boundary to a plugin: native libraries have exception types of their own
        raise RunError(f"{label} {what}: {type(error).__name__}: {error}") from error

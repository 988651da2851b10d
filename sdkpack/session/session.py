"""A session: a verified bundle whose models and pipelines run."""

from __future__ import annotations

import difflib
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from sdkpack.documents.manifest import Manifest
from sdkpack.errors import NoFittingVariantError, RunError, SdkpackError, UsageError
from sdkpack.host.registry import Registry
from sdkpack.pipeline.check import check
from sdkpack.pipeline.deadline import Deadline
from sdkpack.pipeline.nodes import ModelSignature
from sdkpack.pipeline.run import CheckedPipeline, Trace
from sdkpack.session.blobs import BundleBlob
from sdkpack.session.choice import Choice, Preference, choose_variant
from sdkpack.session.models import LoadedModel, Resources, open_variant
from sdkpack.session.values import json_value, read_encoded
from sdkpack.session.workers import Gate
from sdkpack.types import ValueType

if TYPE_CHECKING:
    from sdkpack.bundle import VerifiedBundle

__all__ = ["Options", "Session", "Trace"]

_log = logging.getLogger("sdkpack.session")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a session runs.

    Args:
        preference: which variants to take.
        threads: of the whole session. The models of a pipeline run one after another, so each may use them all while it
            runs; with several instances, which run side by side, each gets its share.
        instances: how many runs of one model go on side by side.
        memory_limit_bytes: of all models together, divided by their sizes.
        device: for the runners, where there are several of a kind.
    """

    preference: Preference = field(default_factory=Preference)
    threads: int | None = None
    instances: int = 1
    memory_limit_bytes: int | None = None
    device: str = ""

    def __post_init__(self) -> None:
        for name, value in (("threads", self.threads), ("instances", self.instances),
                            ("memory_limit_bytes", self.memory_limit_bytes)):  # fmt: skip
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value!r}, expected a whole number from 1 on")


class Session:
    """Runs the pipelines and models of a bundle. Thread-safe; a context manager; made by `sdkpack.open`.

    Models are opened at their first use, or before by `load` and `warm_up`. A session cannot be used in a fork of its
    process: threads and devices do not survive one.
    """

    def __init__(
        self, bundle: VerifiedBundle, manifest: Manifest, registry: Registry, options: Options = Options()
    ) -> None:
        """Checks every pipeline; the session owns `bundle` from now on.

        Raises:
            PipelineError: a pipeline is wired wrongly.
            PluginMissingError: an operator is not installed.
        """
        self._bundle = bundle
        self._manifest = manifest
        self._registry = registry
        self._options = options
        self._gate = Gate(f"session of {manifest.name} {manifest.version}")
        self._lock = threading.Lock()
        self._opening = {name: threading.Lock() for name in manifest.models}
        self._blobs: dict[str, BundleBlob] = {}
        self._models: dict[str, LoadedModel] = {}
        self._choices: dict[str, Choice] = {}
        signatures = {name: _signature(manifest, name) for name in manifest.models}
        self._pipelines: dict[str, CheckedPipeline] = {
            name: check(name, pipeline, registry=registry, models=signatures, assets=bundle.read)
            for name, pipeline in manifest.pipelines.items()
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def manifest(self) -> Manifest:
        return self._manifest

    @property
    def bundle(self) -> VerifiedBundle:
        return self._bundle

    @property
    def pipelines(self) -> tuple[str, ...]:
        return tuple(self._pipelines)

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(self._manifest.models)

    def run(
        self,
        name: str,
        values: Mapping[str, Any] | None = None,
        /,
        *,
        deadline_s: float | None = None,
        params: Mapping[str, Any] | None = None,
        trace: Trace | None = None,
        until: str | None = None,
        **inputs: Any,
    ) -> dict[str, Any]:
        """Runs a pipeline, or where none has this name, a model.

        Args:
            name: of a pipeline or model.
            values: inputs by name, for names that are no Python names or those of an argument here.
            deadline_s: seconds after which no further step is begun; a step that runs is not interrupted.
            params: run-time parameters of the pipeline.
            trace: sees every intermediate value; it must not change them.
            until: stops after the step that gives this value, and returns it.
            inputs: inputs by name. Encoded images are bytes or a path; images are uint8 HWC RGB arrays.

        Returns:
            The outputs by name.

        Raises:
            InputError: inputs or params are not as they should be.
            RunError: a model or operator failed, or the deadline passed.
            UsageError: the session is closed or was forked, or there is no such pipeline or model.
        """
        deadline = None if deadline_s is None else Deadline.after(deadline_s)
        with self._gate.entered():
            given = {**(values or {}), **inputs}
            if name in self._pipelines:
                return self._run_pipeline(name, given, deadline, params or {}, trace, until)
            if name in self._manifest.models:
                self._only_for_pipelines(name, params, until)
                return self._run_model(name, given, deadline, trace)
            raise self._unknown(name)

    def run_many(
        self,
        name: str,
        items: Iterable[Mapping[str, Any]],
        /,
        *,
        deadline_s: float | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """Runs once for each item, `instances` of them side by side; results in the order of the items.

        Args:
            deadline_s: for each run.

        Raises:
            SdkpackError: as `run`, for the first item that failed; `where` says which.
        """

        def one(numbered: tuple[int, Mapping[str, Any]]) -> dict[str, Any]:
            number, values = numbered
            try:
                return self.run(name, values, deadline_s=deadline_s, params=params)
            except SdkpackError as error:
                where = f"item {number}, {error.where}" if error.where else f"item {number}"
                raise type(error)(error.message, hint=error.hint, where=where, problems=error.problems) from error

        if self._options.instances == 1:
            return [one(numbered) for numbered in enumerate(items)]
        with ThreadPoolExecutor(self._options.instances, thread_name_prefix="sdkpack-run") as pool:
            futures = [pool.submit(one, numbered) for numbered in enumerate(items)]
            try:
                return [future.result() for future in futures]
            except BaseException:
                for future in futures:
                    future.cancel()
                raise

    def model(self, name: str) -> LoadedModel:
        """A model, opened where it is not yet; callable with arrays by name. It is closed with the session.

        Raises:
            UsageError: no such model, or the session is closed or was forked.
            NoFittingVariantError: no variant runs here.
        """
        with self._gate.entered():
            if name not in self._manifest.models:
                raise self._unknown(name)
            return self._opened(name)

    def load(self, *names: str) -> None:
        """Opens models now.

        Args:
            names: of pipelines or models; none: every model.
        """
        with self._gate.entered():
            for name in self._models_of(names):
                self._opened(name)

    def warm_up(self, *names: str) -> None:
        """Opens models and calls each once with its recorded inputs, or with zeros of the smallest size.

        Args:
            names: of pipelines or models; none: every model.
        """
        with self._gate.entered():
            for name in self._models_of(names):
                self._opened(name)(self._first_inputs(name))

    def choice(self, model: str) -> Choice:
        """The variant of a model that runs here, and why each other does not; nothing is loaded for it.

        Raises:
            NoFittingVariantError: none fits.
        """
        self._gate.check_process()
        if model not in self._manifest.models:
            raise self._unknown(model)
        with self._lock:
            found = self._choices.get(model)
        if found is None:
            entry, preference = self._manifest.models[model], self._options.preference
            found = choose_variant(entry, self._registry, model=model, preference=preference)
            with self._lock:
                found = self._choices.setdefault(model, found)
        return found

    def info(self) -> dict[str, Any]:
        """What runs, and how, as JSON values."""
        manifest = self._manifest
        facts: dict[str, Any] = {
            "name": manifest.name,
            "version": manifest.version,
            "sequence": manifest.sequence,
            "identity": self._bundle.identity,
            "encrypted": self._bundle.encrypted,
            "signed_by": [key.name or key.key.key_id.hex() for key in self._bundle.signed_by],
            "threads": self._options.threads,
            "memory_limit_bytes": self._options.memory_limit_bytes,
            "models": {name: self._model_info(name) for name in manifest.models},
            "pipelines": {name: _pipeline_info(manifest, name) for name in manifest.pipelines},
        }
        return facts

    def close(self) -> None:
        """Waits for runs under way, then frees all models; may be called twice."""
        if not self._gate.close():
            return
        try:
            for model in self._models.values():
                model.close()
        finally:
            for blob in self._blobs.values():
                blob.close()
            self._bundle.close()

    def _run_pipeline(
        self,
        name: str,
        given: Mapping[str, Any],
        deadline: Deadline | None,
        params: Mapping[str, Any],
        trace: Trace | None,
        until: str | None,
    ) -> dict[str, Any]:
        kinds = self._manifest.pipelines[name].inputs
        values = {
            key: read_encoded(value, ValueType.parse(kinds[key])) if key in kinds else value
            for key, value in given.items()
        }
        calls = {model: self._call(model, deadline) for model in self._manifest.models}
        return self._pipelines[name].run(
            values, params=params, models=calls, trace=trace, deadline=deadline, until=until
        )

    def _run_model(
        self, name: str, given: Mapping[str, Any], deadline: Deadline | None, trace: Trace | None
    ) -> dict[str, Any]:
        outputs = self._call(name, deadline)(given)
        if trace is not None:
            for key, value in outputs.items():
                trace(name, key, value)
        return outputs

    def _call(self, name: str, deadline: Deadline | None) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
        """The model as a pipeline calls it: opened when it is first needed."""
        return lambda inputs: self._opened(name)(inputs, deadline=deadline)

    def _opened(self, name: str) -> LoadedModel:
        model = self._models.get(name)
        if model is not None:
            return model
        with self._opening[name]:  # one thread opens it, the others wait
            model = self._models.get(name)
            if model is None:
                model = self._open(name)
                self._models[name] = model
            return model

    def _open(self, name: str) -> LoadedModel:
        options = self._options
        resources = Resources(
            threads=options.threads,
            memory_limit_bytes=self._share_of_memory(name),
            instances=options.instances,
            device=options.device,
        )
        return open_variant(
            self._manifest.models[name], self.choice(name).variant, self._blob, self._registry,
            name=name, resources=resources, encrypted=self._bundle.encrypted,
        )  # fmt: skip

    def _blob(self, path: str) -> BundleBlob:
        with self._lock:
            blob = self._blobs.get(path)
            if blob is None:
                blob = self._blobs[path] = BundleBlob(self._bundle, path)
            return blob

    def _share_of_memory(self, name: str) -> int | None:
        """The part of the memory limit that a model gets: by its size among all models that run here."""
        limit = self._options.memory_limit_bytes
        if limit is None:
            return None
        sizes: dict[str, int] = {}
        for model in self._manifest.models:
            try:
                sizes[model] = self._size_of(self.choice(model))
            except NoFittingVariantError:
                if model == name:
                    raise
        total = sum(sizes.values())
        if total > limit:
            raise RunError(
                f"the models have {total} bytes, which is above the memory limit of {limit}",
                hint="raise memory_limit, or open fewer models",
            )
        return limit * sizes[name] // total if total else limit

    def _size_of(self, choice: Choice) -> int:
        paths = {path for part in choice.variant.parts for path in part.files.values()}
        return sum(self._bundle.files[path].size_bytes for path in paths)

    def _models_of(self, names: Sequence[str]) -> list[str]:
        models: dict[str, None] = {}
        for name in names or tuple(self._manifest.models):
            if name in self._manifest.pipelines:
                steps = self._manifest.pipelines[name].steps
                models.update(dict.fromkeys(step.model for step in steps if step.model is not None))
            elif name in self._manifest.models:
                models[name] = None
            else:
                raise self._unknown(name)
        return list(models)

    def _first_inputs(self, name: str) -> dict[str, Any]:
        from sdkpack.session.golden import recorded_inputs, zero_inputs

        entry = self._manifest.models[name]
        if entry.golden is not None:
            return recorded_inputs(self._bundle, entry.golden)
        return zero_inputs([tensor.spec() for tensor in entry.inputs])

    def _model_info(self, name: str) -> dict[str, Any]:
        facts: dict[str, Any] = {"loaded": name in self._models}
        try:
            choice = self.choice(name)
        except NoFittingVariantError as error:
            return facts | {"refused": [{"target": p.path, "reason": p.message} for p in error.problems]}
        variant = choice.variant
        facts |= {
            "target": variant.target,
            "precision": variant.precision,
            "portable": variant.portable,
            "fallback": choice.fallback,
            "runtimes": [part.runtime for part in variant.parts],
            "verdict": choice.verdict,
            "refused": [{"target": refusal.target, "reason": refusal.reason} for refusal in choice.refused],
            "size_bytes": self._size_of(choice),
        }
        if name in self._models:
            model = self._models[name]
            facts |= {"instances": model.instances, "weights_shared": model.weights_shared}
        return facts

    def _only_for_pipelines(self, name: str, params: Mapping[str, Any] | None, until: str | None) -> None:
        if params or until is not None:
            raise UsageError(f"{name!r} is a model: params and until are for pipelines")

    def _unknown(self, name: str) -> UsageError:
        have = [*self._pipelines, *self._manifest.models]
        near = difflib.get_close_matches(str(name), have, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(dict.fromkeys(have))}"
        return UsageError(f"bundle {self._manifest.name!r} has no pipeline or model {name!r}", hint=hint)


def _signature(manifest: Manifest, name: str) -> ModelSignature:
    entry = manifest.models[name]
    return ModelSignature(
        inputs=tuple(tensor.spec() for tensor in entry.inputs), outputs=tuple(tensor.spec() for tensor in entry.outputs)
    )


def _pipeline_info(manifest: Manifest, name: str) -> dict[str, Any]:
    pipeline = manifest.pipelines[name]
    return {
        "summary": pipeline.summary or "",
        "tier": pipeline.tier,
        "inputs": dict(pipeline.inputs),
        "outputs": {key: output.type for key, output in pipeline.outputs.items()},
        "params": {key: json_value(spec.model_dump(exclude_none=True)) for key, spec in pipeline.params.items()},
    }

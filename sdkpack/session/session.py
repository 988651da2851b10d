"""A session: a verified bundle whose models and pipelines run."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from sdkpack.documents.manifest import Manifest
from sdkpack.errors import PluginMissingError, SdkpackError, UsageError
from sdkpack.host.registry import Registry
from sdkpack.pipeline.check import check
from sdkpack.pipeline.deadline import Deadline
from sdkpack.pipeline.nodes import ModelSignature
from sdkpack.pipeline.run import CheckedPipeline, Trace
from sdkpack.session.choice import Choice
from sdkpack.session.models import LoadedModel
from sdkpack.session.modelset import ModelSet, Options
from sdkpack.session.values import json_value, read_encoded
from sdkpack.session.workers import Gate
from sdkpack.types import ValueType

if TYPE_CHECKING:
    from sdkpack.bundle import VerifiedBundle

__all__ = ["Session", "Trace"]


class Session:
    """Runs the pipelines and models of a bundle. Thread-safe; a context manager; made by `sdkpack.open`.

    Models are opened at their first use, or before by `load` and `warm_up`. A session cannot be used in a fork of its
    process: threads and devices do not survive one.
    """

    def __init__(
        self, bundle: VerifiedBundle, manifest: Manifest, registry: Registry, options: Options | None = None
    ) -> None:
        """Checks every pipeline; the session owns `bundle` from now on.

        Raises:
            PipelineError: a pipeline is wired wrongly.
            PluginMissingError: an operator is not installed.
        """
        self._bundle = bundle
        self._manifest = manifest
        self._options = options or Options()
        self._gate = Gate(f"session of {manifest.name} {manifest.version}")
        self._set = ModelSet(bundle, manifest.models, registry, self._options, _mapped(manifest))
        signatures = {name: _signature(manifest, name) for name in manifest.models}
        self._pipelines: dict[str, CheckedPipeline] = {}
        try:
            for name, pipeline in manifest.pipelines.items():
                checked = check(name, pipeline, registry=registry, models=signatures, assets=bundle.read)
                self._pipelines[name] = checked
        except PluginMissingError as error:
            raise _with_distributions(error, manifest) from error

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
            return self._set.opened(name)

    def load(self, *names: str) -> None:
        """Opens models now.

        Args:
            names: of pipelines or models; none: every model.
        """
        with self._gate.entered():
            for name in self._models_of(names):
                self._set.opened(name)

    def warm_up(self, *names: str) -> None:
        """Opens models and calls each once with its recorded inputs, or with zeros of the smallest size.

        Args:
            names: of pipelines or models; none: every model.
        """
        with self._gate.entered():
            for name in self._models_of(names):
                self._set.opened(name)(self._first_inputs(name))

    def choice(self, model: str) -> Choice:
        """The variant of a model that runs here, and why each other does not; nothing is loaded for it.

        Raises:
            NoFittingVariantError: none fits.
        """
        self._gate.check_process()
        if model not in self._manifest.models:
            raise self._unknown(model)
        return self._set.choice(model)

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
            "models": {name: self._set.info(name) for name in manifest.models},
            "pipelines": {name: _pipeline_info(manifest, name) for name in manifest.pipelines},
        }
        return facts

    def close(self) -> None:
        """Waits for runs under way, then frees all models; may be called twice."""
        if not self._gate.close():
            return
        try:
            self._set.close()
        finally:
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

    def _call(self, name: str, deadline: Deadline | None) -> _Call:
        return _Call(self._set, name, deadline)

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

    def _only_for_pipelines(self, name: str, params: Mapping[str, Any] | None, until: str | None) -> None:
        if params or until is not None:
            raise UsageError(f"{name!r} is a model: params and until are for pipelines")

    def _unknown(self, name: str) -> UsageError:
        have = [*self._pipelines, *self._manifest.models]
        near = difflib.get_close_matches(str(name), have, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(dict.fromkeys(have))}"
        return UsageError(f"bundle {self._manifest.name!r} has no pipeline or model {name!r}", hint=hint)


@dataclass(frozen=True, slots=True)
class _Call:
    """A model as a pipeline calls it: opened when it is first needed."""

    models: ModelSet
    name: str
    deadline: Deadline | None

    @property
    def lanes(self) -> int:
        return self.models.lanes(self.name)

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return self.models.opened(self.name)(inputs, deadline=self.deadline)


def _mapped(manifest: Manifest) -> frozenset[str]:
    """The models that pipelines run on single items of lists, and in no other way."""
    steps = [step for pipeline in manifest.pipelines.values() for step in pipeline.steps if step.model is not None]
    whole = {step.model for step in steps if not step.each or step.batch is not None}
    return frozenset(step.model for step in steps if step.model is not None and step.model not in whole)


def _signature(manifest: Manifest, name: str) -> ModelSignature:
    entry = manifest.models[name]
    return ModelSignature(
        inputs=tuple(tensor.spec() for tensor in entry.inputs), outputs=tuple(tensor.spec() for tensor in entry.outputs)
    )


def _with_distributions(error: PluginMissingError, manifest: Manifest) -> PluginMissingError:
    """The same error, saying what the bundle was made with, where it says so."""
    if not manifest.plugins:
        return error
    needed = " ".join(f"{name}=={version}" for name, version in sorted(manifest.plugins.items()))
    hint = f"the bundle was made with: pip install {needed}"
    return PluginMissingError(error.message, hint=hint, where=error.where, problems=error.problems)


def _pipeline_info(manifest: Manifest, name: str) -> dict[str, Any]:
    pipeline = manifest.pipelines[name]
    return {
        "summary": pipeline.summary or "",
        "tier": pipeline.tier,
        "inputs": dict(pipeline.inputs),
        "outputs": {key: output.type for key, output in pipeline.outputs.items()},
        "params": {key: json_value(spec.model_dump(exclude_none=True)) for key, spec in pipeline.params.items()},
    }

"""The models of a session: chosen once, opened at their first use, freed together."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sdkpack.documents.manifest import ModelEntry, Variant
from sdkpack.errors import NoFittingVariantError, RunError, UsageError
from sdkpack.host.registry import Registry
from sdkpack.session.blobs import BundleBlob
from sdkpack.session.choice import Choice, Preference, choose_variant
from sdkpack.session.models import CONCURRENT, LoadedModel, Resources, can, open_variant

if TYPE_CHECKING:
    from sdkpack.bundle import VerifiedBundle

__all__ = ["ModelSet", "Options"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a session runs.

    Args:
        preference: which variants to take.
        threads: of the whole session; None: as many as there are processors. The models of a pipeline run one after
            another, so each may use them all while it runs. A model that pipelines only map over lists uses one thread
            an item, and runs as many items side by side. A runtime that must be loaded once for each instance divides
            them.
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
        limits = {
            "threads": self.threads,
            "instances": self.instances,
            "memory_limit_bytes": self.memory_limit_bytes,
        }
        for name, value in limits.items():
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value!r}, expected a whole number from 1 on")


class ModelSet:
    """Opens the models of one bundle. Thread-safe, except for `close`."""

    def __init__(
        self,
        bundle: VerifiedBundle,
        entries: Mapping[str, ModelEntry],
        registry: Registry,
        options: Options,
        mapped: frozenset[str] = frozenset(),
    ) -> None:
        """
        Args:
            mapped: models that pipelines run on the items of lists, and in no other way.
        """
        self._mapped = mapped
        self._bundle = bundle
        self._entries = entries
        self._registry = registry
        self._options = options
        self._lock = threading.Lock()
        self._opening = {name: threading.Lock() for name in entries}
        self._blobs: dict[str, BundleBlob] = {}
        self._models: dict[str, LoadedModel] = {}
        self._apart: dict[str, LoadedModel] = {}
        """Models called by their own tensors where a pipeline runs another variant, one that absorbed steps."""
        self._choices: dict[tuple[str, bool], Choice] = {}

    def choice(self, name: str, *, alone: bool = False) -> Choice:
        """The variant that runs here; nothing is loaded for it.

        Args:
            name: of the model.
            alone: the model is called by its own tensors, outside of a pipeline.

        Raises:
            NoFittingVariantError: none fits.
        """
        with self._lock:
            found = self._choices.get((name, alone))
        if found is None:
            preference = replace(self._options.preference, alone=alone)
            found = choose_variant(self._entries[name], self._registry, model=name, preference=preference)
            with self._lock:
                found = self._choices.setdefault((name, alone), found)
        return found

    def absorbed(self, names: Iterable[str]) -> frozenset[str]:
        """Steps of a pipeline that the variants of these models compute themselves."""
        able = [name for name in names if any(variant.absorbed for variant in self._entries[name].variants)]
        return frozenset(step for name in able for step in self.choice(name).variant.absorbed)

    def opened(self, name: str, *, alone: bool = False) -> LoadedModel:
        """The model, opened where it is not yet; one thread opens it, the others wait.

        Args:
            name: of the model.
            alone: as for `choice`.
        """
        absorbing = any(variant.absorbed for variant in self._entries[name].variants)
        apart = alone and absorbing and self.choice(name, alone=True).variant is not self._preferred(name)
        models = self._apart if apart else self._models
        model = models.get(name)
        if model is not None:
            return model
        with self._opening[name]:
            model = models.get(name)
            if model is None:
                model = models[name] = self._open(name, alone=apart)
            return model

    def _preferred(self, name: str) -> Variant:
        return self.choice(name).variant

    def lanes(self, name: str) -> int:
        """How many items of a list to run side by side: a net on one item rarely keeps several threads busy."""
        if name not in self._mapped:
            return 1
        runtimes = {part.runtime for part in self.choice(name).variant.parts}
        if not all(can(self._registry.runtime(runtime), CONCURRENT) for runtime in runtimes):
            return 1
        threads = self._options.threads or len(os.sched_getaffinity(0))
        return max(1, threads // self._options.instances)

    def info(self, name: str) -> dict[str, Any]:
        """What runs of a model, and why not another variant, as JSON values."""
        facts: dict[str, Any] = {"loaded": name in self._models}
        try:
            choice = self.choice(name)
        except NoFittingVariantError as error:
            refused = [{"target": p.path.rpartition(".")[2], "reason": p.message} for p in error.problems]
            return facts | {"refused": refused}
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
            facts |= {"copies": model.copies, "weights_shared": model.weights_shared}
            facts |= {"isolation": isolation} if (isolation := model.isolation) else {}
        return facts

    def close(self) -> None:
        """Frees all models and their memory, once the calls under way have ended."""
        try:
            for model in (*self._models.values(), *self._apart.values()):
                model.close()
        finally:
            for blob in self._blobs.values():
                blob.close()

    def _open(self, name: str, *, alone: bool) -> LoadedModel:
        options = self._options
        resources = Resources(
            threads=1 if self.lanes(name) > 1 else options.threads,
            memory_limit_bytes=self._share_of_memory(name),
            instances=options.instances,
            device=options.device,
        )
        variant = self.choice(name, alone=alone).variant
        return open_variant(
            self._entries[name], variant, self._blob, self._registry,
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
        for model in self._entries:
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

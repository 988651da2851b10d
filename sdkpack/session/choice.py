"""Which variant of a model runs here, and why each other one does not."""

from __future__ import annotations

import fnmatch
import logging
import os
import platform as _platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sdkpack.documents.manifest import ModelEntry, Variant
from sdkpack.errors import NoFittingVariantError, PluginError, Problem, RunError
from sdkpack.host.registry import Registered, Registry, load_class
from sdkpack.plugin.info import RuntimeInfo
from sdkpack.plugin.runtime import Runner

__all__ = ["Choice", "Preference", "Refusal", "choose_variant", "load_runner", "this_platform"]

_log = logging.getLogger("sdkpack.session")

_ARCHITECTURES: Final[Mapping[str, str]] = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}
_VERDICTS: Final = ("best", "works")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """What the user wants of the choice."""

    prefer: tuple[str, ...] = ()
    """Targets to take where they fit, the first first; the others remain as they are."""
    only: tuple[str, ...] = ()
    """Targets to take at all; empty: every one."""
    portable_fallback: bool = True
    """Whether a portable variant may stand in where the model has others and none of them fits."""
    alone: bool = False
    """The model is called by its own tensors: variants that absorbed steps of a pipeline do not fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A variant that does not run here, and its unmet need."""

    target: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The variant that runs."""

    variant: Variant
    verdict: str
    """The runner's: `best` or `works`."""
    reason: str = ""
    refused: tuple[Refusal, ...] = ()
    fallback: bool = False
    """A portable variant that nobody asked for, in the place of one that was made for a device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    variant: Variant
    verdict: str
    reason: str


def this_platform() -> str:
    """Operating system and architecture, as `linux/x86_64`."""
    machine = _platform.machine().lower()
    system = {"win32": "windows", "darwin": "macos"}.get(sys.platform, sys.platform)
    return f"{system}/{_ARCHITECTURES.get(machine, machine)}"


def choose_variant(
    entry: ModelEntry,
    registry: Registry,
    *,
    model: str,
    platform: str | None = None,
    preference: Preference = Preference(),
) -> Choice:
    """Picks the variant that fits best, without loading any.

    Order: the user's preferred targets, then variants made for a device before portable ones, then the runner's
    verdict, then the order of the manifest.

    Raises:
        NoFittingVariantError: none fits; `problems` names the unmet need of each.
    """
    where = platform or this_platform()
    fitting: list[_Candidate] = []
    refused: list[Refusal] = []
    for variant in entry.variants:
        verdict, reason = _fit(variant, entry, registry, where, preference)
        if verdict in _VERDICTS:
            fitting.append(_Candidate(variant=variant, verdict=verdict, reason=reason))
        else:
            refused.append(Refusal(target=variant.target, reason=reason))
    if not fitting:
        raise _none_fits(model, where, refused)
    best = min(fitting, key=lambda candidate: _rank(candidate, preference))
    asked_for = best.variant.target in (*preference.prefer, *preference.only)
    choice = Choice(
        variant=best.variant,
        verdict=best.verdict,
        reason=best.reason,
        refused=tuple(refused),
        fallback=best.variant.portable and not asked_for and not all(v.portable for v in entry.variants),
    )
    if choice.fallback:
        # Never silent: another device than the bundle was tuned for changes speed and rounding.
        reasons = "; ".join(f"{refusal.target}: {refusal.reason}" for refusal in refused)
        _log.warning("model %s: falls back to portable target %s (%s)", model, best.variant.target, reasons)
    return choice


def load_runner(registered: Registered[RuntimeInfo]) -> Runner:
    """The target half of a runtime, in this process or outside of it.

    Raises:
        PluginError: it has none, or it cannot be loaded, or its environment is not built.
    """
    info = registered.info
    if info.runner is None:
        raise PluginError(f"runtime {info.name!r} has no runner: it only compiles")
    if info.runner.isolation != "in-process":
        from sdkpack.host.tools import ToolHost

        return ToolHost(environ=dict(os.environ)).runner(registered, info.runner)
    runner: Runner = load_class(registered, info.runner.load)()
    return runner


def _rank(candidate: _Candidate, preference: Preference) -> tuple[int, bool, int]:
    prefer = preference.prefer
    target = candidate.variant.target
    return (
        prefer.index(target) if target in prefer else len(prefer),
        candidate.variant.portable,
        _VERDICTS.index(candidate.verdict),
    )


def _fit(
    variant: Variant, entry: ModelEntry, registry: Registry, platform: str, preference: Preference
) -> tuple[str, str]:
    reason = _unmet(variant, entry, platform, preference)
    if reason:
        return "no", reason
    verdict, detail = "best", ""
    for name in dict.fromkeys(part.runtime for part in variant.parts):
        try:
            registered = registry.runtime(name)
            if not _matches(platform, registered.info.platforms):
                return "no", f"runtime {name!r} works on {', '.join(registered.info.platforms)}, this is {platform}"
            runner = load_runner(registered)
            if name != variant.parts[0].runtime:
                continue  # needs and token are between the first part's compiler and runner; others must only be there
            fit = runner.check(variant.needs.runtime, variant.needs.token or "")
        except (PluginError, RunError) as error:
            return "no", f"{error.message} ({error.hint})" if error.hint else error.message
        if fit.verdict not in _VERDICTS:
            return "no", fit.reason or f"runtime {name!r} says no, without a reason"
        verdict, detail = fit.verdict, fit.reason
    return verdict, detail


def _unmet(variant: Variant, entry: ModelEntry, platform: str, preference: Preference) -> str:
    """Why a variant is refused before any runner is asked."""
    if preference.only and variant.target not in preference.only:
        return f"not among the targets asked for ({', '.join(preference.only)})"
    if variant.portable and not preference.portable_fallback and not all(v.portable for v in entry.variants):
        return "falling back to a portable variant is switched off"
    if variant.absorbed and preference.alone:
        steps = ", ".join(variant.absorbed)
        return f"it computes steps of a pipeline itself ({steps}), so only the pipeline can run it"
    if not _matches(platform, variant.needs.platforms):
        return f"made for {', '.join(variant.needs.platforms)}, this is {platform}"
    return ""


def _matches(platform: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatch.fnmatchcase(platform, pattern) for pattern in patterns)


def _none_fits(model: str, platform: str, refused: Sequence[Refusal]) -> NoFittingVariantError:
    problems = [Problem(path=f"models.{model}.{refusal.target}", message=refusal.reason) for refusal in refused]
    return NoFittingVariantError(
        f"no variant of model {model!r} runs on this machine ({platform})",
        hint="install what one of them needs, or ask the publisher for a bundle with a variant for this machine",
        problems=problems,
    )

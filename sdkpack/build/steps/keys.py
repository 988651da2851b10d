"""A step's key: the digest of all that its result depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from sdkpack.build.digests import digest_json
from sdkpack.documents.plan import PlanStep

__all__ = ["Kind", "plan_step"]

Kind = Literal[
    "convert", "import", "check", "cut", "export", "optimize", "compress", "compile", "golden", "pipeline-golden"
]

# Another number, other keys: for a change of what steps store that no version or digest shows.
_LAYOUT: Final = 1


def plan_step(
    *,
    id: str,  # noqa: A002 - the document's own word
    kind: Kind,
    plugin: str,
    fingerprint: str,
    params: Mapping[str, Any],
    files: Sequence[str] = (),
    after: Sequence[PlanStep] = (),
    deterministic: bool = True,
) -> PlanStep:
    """A step with its key.

    The keys of the steps before stand for their results: a key says everything that a result depends on. The names that
    the author gives to models and targets are no part of it, so that equal work is done once.

    Args:
        id: names the step within the plan.
        kind: what is done.
        plugin: what does it.
        fingerprint: that plugin's, and those of the libraries that it uses.
        params: settings as JSON.
        files: digests of the author's files.
        after: the steps whose results it takes.
        deterministic: what the plugin says of itself; no part of the key.
    """
    facts = {
        "layout": _LAYOUT,
        "kind": kind,
        "plugin": plugin,
        "fingerprint": fingerprint,
        "params": dict(params),
        "inputs": [*files, *(step.key for step in after)],
    }
    return PlanStep(
        id=id,
        kind=kind,
        plugin=plugin,
        fingerprint=fingerprint,
        params=dict(params),
        inputs=(*files, *(step.id for step in after)),
        key=digest_json(facts),
        deterministic=deterministic,
    )

"""What the conformance classes of all kinds share."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest

from sdkpack.host.deprecated import deprecated_uses
from sdkpack.host.environments import default_environments
from sdkpack.host.params import ParamSchema
from sdkpack.host.registry import Registered, Registry

__all__ = ["MOST_CPU_S", "Conformance", "child"]

MOST_CPU_S: Final = 0.5
"""CPU time of importing a plugin's module and of its hooks: far above what dataclasses cost, far below a toolchain."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LIMIT_S: Final = 300.0


class Conformance(ABC):
    """Tests of a descriptor, whatever its kind."""

    params: ClassVar[Mapping[str, Any]] = {}
    """Settings for the plugin, as a recipe's `with` has them; needed where one has no default."""
    toolchain: ClassVar[tuple[str, ...]] = ()
    """Modules of the toolchain, where the descriptor's `requires` does not say them."""

    @functools.cached_property
    def registry(self) -> Registry:
        return Registry.scan()

    @abstractmethod
    def row(self) -> Registered[Any]:
        """The descriptor under test."""

    def test_descriptor_is_light(self) -> None:
        """Building it loads no toolchain: the standard library, the plugin API and the plugin's own package only."""
        state = self.row().plugin
        result = subprocess.run(
            [sys.executable, "-m", "sdkpack.testing.light", state.module], capture_output=True, text=True,
            timeout=_LIMIT_S, check=True,
        )  # fmt: skip
        facts = json.loads(result.stdout)
        assert not facts["reason"], facts["reason"]
        assert not facts["modules"], f"importing {state.module} also imports {', '.join(facts['modules'])}"
        assert facts["cpu_s"] <= MOST_CPU_S

    def test_descriptor_says_what_people_need(self) -> None:
        info = self.row().info
        assert info.summary.strip(), "a summary is for people"
        assert "\n" not in info.summary
        assert info.time_limit_s > 0
        assert all("/" in platform for platform in info.platforms), "platforms are written as linux/x86_64"
        assert all(_NAME.match(requirement) for requirement in info.requires)

    def test_it_uses_nothing_that_is_to_go(self) -> None:
        """A warning, not a failure: what is deprecated works for as long as this major."""
        uses = deprecated_uses(self.row().plugin)
        if uses:
            text = f"plugin {self.row().plugin.name} uses {'; '.join(uses)}"
            warnings.warn(text, DeprecationWarning, stacklevel=1)

    def test_params_have_a_schema_and_defaults_survive(self) -> None:
        info = self.row().info
        schema = ParamSchema(info)
        json.dumps(schema.json_schema())
        if info.params is None:
            assert not self.params
            return
        assert info.params.__dataclass_params__.frozen, "params are a frozen dataclass"
        made = schema.instance(self.params)
        again = schema.instance({**dict(self.params), **_json_only(schema, made)})
        assert dataclasses.asdict(again) == dataclasses.asdict(made)

    def test_unknown_params_are_refused_by_name(self) -> None:
        from sdkpack.errors import DocumentError

        with pytest.raises(DocumentError, match=r"takes no parameters|unknown|not valid") as caught:
            ParamSchema(self.row().info).instance({**self.params, "no_such_setting": 1})
        assert "no_such_setting" in str(caught.value)

    def toolchain_modules(self) -> tuple[str, ...]:
        """Modules that the plugin requires from other distributions than sdkpack and NumPy."""
        names = {_plain(_NAME.match(text)[0]) for text in self.row().info.requires if _NAME.match(text)}  # type: ignore[index]
        modules = importlib.metadata.packages_distributions()
        found = {module for module, owners in modules.items() if names & {_plain(owner) for owner in owners}}
        return tuple(sorted((found | set(self.toolchain)) - {"numpy", "onnx", "sdkpack"}))


def child(job: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Does a job of `sdkpack.testing.confined` with HOME, TMPDIR and the current folder new and empty.

    Its result, with `left`: what it left in these folders.
    """
    places = {name: folder / name for name in ("home", "tmp", "cwd")}
    for place in places.values():
        place.mkdir(parents=True)
    environment = {
        **os.environ, "HOME": str(places["home"]), "TMPDIR": str(places["tmp"]), "PYTHONDONTWRITEBYTECODE": "1",
        "XDG_CACHE_HOME": str(places["home"] / ".cache"),
        "SDKPACK_ENVIRONMENTS": str(default_environments(os.environ)),
        "PYTHONPATH": os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path if entry),
    }  # fmt: skip
    result = subprocess.run(
        [sys.executable, "-m", "sdkpack.testing.confined"], input=json.dumps(dict(job)), capture_output=True, text=True,
        timeout=_LIMIT_S, check=False, cwd=places["cwd"], env=environment,
    )  # fmt: skip
    assert result.returncode == 0, f"ended with {result.returncode}: {result.stderr[-2000:]}"
    facts: dict[str, Any] = json.loads(result.stdout)
    left = [path for place in places.values() for path in place.rglob("*") if path.is_file()]
    return facts | {"left": [str(path.relative_to(folder)) for path in left]}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _json_only(schema: ParamSchema, params: Any) -> dict[str, Any]:
    return {name: value for name, value in schema.dump(params).items() if name not in schema.assets}

"""A bundle cannot make sdkpack import or run anything that its user did not install as a plugin."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sdkpack
from sdkpack.errors import BundleError, SdkpackError
from tests.unit.session.bundles import FAKES, Publisher, files, manifest

MODULE = "sdkpack_attack_canary"


def _part(raw: dict[str, Any]) -> dict[str, Any]:
    part: dict[str, Any] = raw["models"]["net"]["variants"][0]["parts"][0]
    return part


def _step(raw: dict[str, Any]) -> dict[str, Any]:
    step: dict[str, Any] = raw["pipelines"]["main"]["steps"][0]
    return step


NAMES: dict[str, Callable[[dict[str, Any]], object]] = {
    "runtime is a class": lambda raw: _part(raw).update(runtime=f"{MODULE}:Canary"),
    "runtime is a module": lambda raw: _part(raw).update(runtime=MODULE),
    "runtime is a path": lambda raw: _part(raw).update(runtime=f"/{MODULE}.py"),
    "operator is a class": lambda raw: _step(raw).update(op=f"{MODULE}:Canary/1"),
    "operator is a module": lambda raw: _step(raw).update(op=f"{MODULE}/1"),
    "options name a library": lambda raw: _part(raw).update(options={"load": f"{MODULE}:Canary", "library": MODULE}),
    "plugins name a module": lambda raw: raw.update(plugins={MODULE: "1.0"}),
    "pickle as weights": lambda raw: raw.update(metadata={"load": MODULE}),
}


@pytest.fixture
def publisher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publisher:
    (tmp_path / f"{MODULE}.py").write_text(f"from pathlib import Path\nPath({str(tmp_path / 'fired')!r}).touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return Publisher.new(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_no_name_in_a_manifest_is_imported(publisher: Publisher, name: str) -> None:
    import numpy as np

    raw = manifest().to_object()
    NAMES[name](raw)
    content = files()
    if name == "pickle as weights":
        # Protocol 0: imports the module when it is unpickled.
        content["goldens/net.in.npz"] = f"c{MODULE}\nCanary\n.".encode()
    path = publisher.write(raw, content)
    try:
        with sdkpack.open(
            path, trust=publisher.public, keys=[publisher.key], plugins=[FAKES], verify_all=True
        ) as session:
            session.info()
            session.run("main", x=np.zeros((1, 3), np.float32))
            session.warm_up()
            sdkpack.session.replay(session)
    except SdkpackError as error:
        if ":" in name or "class" in name or "path" in name:
            assert isinstance(error, BundleError)
    assert MODULE not in sys.modules
    assert not (publisher.folder / "fired").exists()


def test_the_canary_would_fire(publisher: Publisher) -> None:
    __import__(MODULE)
    del sys.modules[MODULE]
    assert (publisher.folder / "fired").exists()

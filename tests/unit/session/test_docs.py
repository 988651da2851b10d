"""The code in the guide to running runs, in the order in which it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sdkpack
from sdkpack.session.opening import open_session, registry_for
from tests.unit.session.bundles import BIAS, FAKES, Publisher, files, manifest

PAGE = Path(__file__).parents[3] / "docs" / "running.md"


def test_every_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    publisher = Publisher.new(tmp_path)
    publisher.write(manifest().to_object(), files())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NET_KEY", publisher.key.read_text())
    # The bundle of the page is made for a runtime of the tests, which is not installed as a plugin.
    monkeypatch.setattr("sdkpack.session.opening.registry_for", lambda plugins: registry_for([FAKES]))
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    array = np.array([[1, 2, 3]], np.float32)
    names: dict[str, Any] = {"array": array}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert len(blocks) == 3
    np.testing.assert_array_equal(names["outputs"]["result"], 2 * array + BIAS)
    assert capsys.readouterr().out.splitlines()[-2:] == ["model net passed", "pipeline main passed"]


def test_every_argument_of_open_is_in_the_guide() -> None:
    import inspect

    page = PAGE.read_text("utf-8")
    missing = [name for name in inspect.signature(open_session).parameters if f"`{name}" not in page]
    assert missing == ["source"]
    assert sdkpack.open is open_session

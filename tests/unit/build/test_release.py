from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sdkpack.build.pack import PackResult
from sdkpack.build.release import release
from sdkpack.build.store import Store
from sdkpack.crypto.keyfile import format_key
from sdkpack.crypto.signature import ED25519, SigningKey
from sdkpack.errors import (
    DocumentError,
    InternalError,
    OutputError,
    PluginBrokenError,
    PluginMissingError,
    TrustError,
    UsageError,
)
from sdkpack.host.registry import Registry
from tests.unit.build.conftest import RECIPE


@pytest.fixture
def publisher(folder: Path) -> str:
    key = SigningKey.generate(ED25519, os.urandom)
    (folder / "publisher.key").touch(mode=0o600)
    (folder / "publisher.key").write_text(format_key(key))
    return format_key(key.verifying_key)


@pytest.fixture
def released(
    packed: Callable[..., PackResult], publisher: str, registry: Registry, store: Store, tmp_path: Path
) -> Callable[..., Any]:
    path = packed(RECIPE + '[sign]\nkey = "publisher.key"\n').path
    assert path is not None

    def run(settings: dict[str, Any] | None = None, **options: Any) -> Any:
        defaults: dict[str, Any] = {
            "name": "test.list", "out": tmp_path / "dist", "trust": publisher, "registry": registry, "store": store,
        }  # fmt: skip
        return release(path, settings=settings or {}, **{**defaults, **options})

    return run


def test_results_go_to_the_output_folder(released: Callable[..., Any], tmp_path: Path, publisher: str) -> None:
    result = released({"title": "my files"})
    assert result.files == (tmp_path / "dist" / "summary.txt", tmp_path / "dist" / "tree")
    assert result.notes == ("read summary.txt",)
    title, identity, key = result.files[0].read_text().splitlines()
    assert title == "my files"
    assert identity.startswith("sha256:")
    assert key == publisher  # who signed is whom the release trusts
    assert "sdkpack_onnxruntime.plugin" in (result.files[1] / "modules.txt").read_text().splitlines()


def test_a_release_has_a_name_of_its_own(released: Callable[..., Any]) -> None:
    assert len(released({"exporter": "test.list"}, name="internal").files) == 2


def test_nothing_is_replaced_unless_allowed(released: Callable[..., Any], tmp_path: Path) -> None:
    released()
    with pytest.raises(OutputError, match="exist"):
        released()
    (tmp_path / "dist" / "summary.txt").unlink()
    (tmp_path / "dist" / "tree" / "mine").write_text("x")
    with pytest.raises(OutputError, match="exist"):
        released()
    assert (tmp_path / "dist" / "tree" / "mine").exists()
    released(overwrite=True)
    assert not (tmp_path / "dist" / "tree" / "mine").exists()
    assert [path.name for path in sorted((tmp_path / "dist").iterdir())] == ["summary.txt", "tree"]


def test_a_bundle_that_is_not_trusted_is_not_released(released: Callable[..., Any], tmp_path: Path) -> None:
    stranger = format_key(SigningKey.generate(ED25519, os.urandom).verifying_key)
    with pytest.raises(TrustError):
        released(trust=stranger)
    with pytest.raises(UsageError):
        released(trust=None)
    assert not (tmp_path / "dist").exists()


def test_settings_and_names_are_checked(released: Callable[..., Any]) -> None:
    with pytest.raises(DocumentError, match="unknown parameter"):
        released({"titel": "x"})
    with pytest.raises(PluginMissingError, match="exporter 'zip'"):
        released(name="zip")


def test_an_exporter_that_fails_leaves_nothing(released: Callable[..., Any], tmp_path: Path, store: Store) -> None:
    with pytest.raises(InternalError, match=r"step 'release/test.list' \(test.list\) crashed: IndexError"):
        released({"crash": "bug"})
    with pytest.raises(PluginBrokenError, match="no file or folder of its work folder"):
        released({"crash": "outside"})
    assert not (tmp_path / "dist").exists()
    assert list((store.root / "work").glob("*/*")) == []


def test_a_wheel_is_made_the_same_each_time(released: Callable[..., Any], tmp_path: Path) -> None:
    one = released(name="wheel", out=tmp_path / "one").files[0]
    two = released(name="wheel", out=tmp_path / "two").files[0]
    assert one.name == "tiny-1.0.0-py3-none-any.whl"
    assert one.read_bytes() == two.read_bytes()

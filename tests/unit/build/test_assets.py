from __future__ import annotations

from pathlib import Path

import pytest

from sdkpack.build.assets import Assets
from sdkpack.build.sources import Sources
from sdkpack.build.store import Store
from sdkpack.bundle.paths import check_path
from sdkpack.errors import FileError, ModelError, UsageError
from sdkpack.plugin import AssetMarker

LINES = AssetMarker(content="lines")


@pytest.fixture
def assets(store: Store, tmp_path: Path) -> Assets:
    folder = tmp_path / "recipe"
    (folder / "b").mkdir(parents=True)
    (folder / "labels.txt").write_text("a\n")
    (folder / "b" / "labels.txt").write_text("b\n")
    (folder / "b" / "Labels.TXT").write_text("c\n")
    (folder / "copy.txt").write_text("a\n")
    (folder / "größe (1).txt").write_text("d\n")
    (folder / ".hidden").write_text("e\n")
    return Assets(sources=Sources(folder), store=store, metadata={"rec": {"character": "x\ny"}, "det": {}})


def test_one_name_for_one_content(assets: Assets) -> None:
    assert assets("labels.txt", LINES) == "assets/labels.txt"
    assert assets("labels.txt", LINES) == "assets/labels.txt"
    assert assets("b/labels.txt", LINES) == "assets/labels-2.txt"
    assert assets("b/Labels.TXT", LINES) == "assets/Labels-3.TXT"
    assert assets("copy.txt", LINES) == "assets/copy.txt"
    assert assets.read("assets/labels-2.txt") == b"b\n"
    assert set(assets.inputs) == {"labels.txt", "b/labels.txt", "b/Labels.TXT", "copy.txt"}
    with pytest.raises(FileError):
        assets.read("assets/none")


@pytest.mark.parametrize("name", ["größe (1).txt", ".hidden"])
def test_every_name_is_one_that_a_bundle_takes(assets: Assets, name: str) -> None:
    check_path(assets(name, LINES))


def test_a_model_s_metadata_is_an_asset(assets: Assets) -> None:
    path = assets("model-metadata://rec/character", LINES)
    assert path == "assets/rec.character.txt"
    assert assets.read(path) == b"x\ny"
    with pytest.raises(ModelError, match="no metadata 'charakter'") as error:
        assets("model-metadata://rec/charakter", LINES)
    assert error.value.hint == "it has 'character'"
    with pytest.raises(ModelError, match="expected one of rec, det"):
        assets("model-metadata://cls/character", LINES)


def test_missing_and_hostile_references(assets: Assets) -> None:
    with pytest.raises(FileError) as error:
        assets("lables.txt", LINES)
    assert "labels.txt" in error.value.hint
    with pytest.raises(UsageError):
        assets("../labels.txt", LINES)


def test_a_model_by_mistake_is_not_read_into_memory(assets: Assets, tmp_path: Path) -> None:
    with (tmp_path / "recipe" / "huge.txt").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(FileError, match="an asset may have"):
        assets("huge.txt", LINES)

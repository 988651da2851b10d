from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sdkpack.build.sources import Sources, metadata_reference
from sdkpack.errors import FileError, UsageError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "recipe"
    (path / "sub").mkdir(parents=True)
    (path / "model.onnx").write_bytes(b"model")
    (path / "sub" / "labels.txt").write_text("a\nb\n")
    (tmp_path / "outside.txt").write_text("secret")
    return path


def test_a_file_beside_the_recipe_is_found(root: Path) -> None:
    found = Sources(root).find("sub/labels.txt")
    assert found.path == root / "sub" / "labels.txt"
    assert found.reference == "sub/labels.txt"
    assert Sources(root).find("./model.onnx").path == root / "model.onnx"


@pytest.mark.parametrize(
    "name", ["../outside.txt", "sub/../../outside.txt", "/etc/hostname", "~/x", "..", "a\\b", "a\0b", ""]
)
def test_a_reference_cannot_leave_its_folder(root: Path, name: str) -> None:
    with pytest.raises(UsageError) as error:
        Sources(root).find(name)
    assert error.value.hint


def test_a_symbolic_link_inside_the_folder_is_followed_and_one_that_leaves_it_is_refused(root: Path) -> None:
    (root / "alias.onnx").symlink_to("model.onnx")
    assert Sources(root).find("alias.onnx").path == root / "model.onnx"
    (root / "leaves.txt").symlink_to("../outside.txt")
    (root / "folder").symlink_to("..")
    for name in ("leaves.txt", "folder/outside.txt"):
        with pytest.raises(FileError, match="leads out of"):
            Sources(root).find(name)


def test_a_folder_and_a_loop_are_no_files(root: Path) -> None:
    with pytest.raises(FileError, match="not a regular file"):
        Sources(root).find("sub")
    (root / "loop").symlink_to("loop")
    with pytest.raises(FileError, match="no file 'loop'"):
        Sources(root).find("loop")


def test_near_names_are_told(root: Path) -> None:
    with pytest.raises(FileError) as error:
        Sources(root).find("modle.onnx")
    assert error.value.hint == "did you mean 'model.onnx'?"
    with pytest.raises(FileError) as error:
        Sources(root).find("elsewhere/labels.txt")
    assert error.value.hint == "did you mean 'sub/labels.txt'?"
    with pytest.raises(FileError) as error:
        Sources(root).find("quite-different.onnx")
    assert "'model.onnx'" in error.value.hint


def test_other_schemes_are_refused(root: Path) -> None:
    with pytest.raises(UsageError, match="unknown scheme 'https'") as error:
        Sources(root).find("https://example.org/model.onnx")
    assert "downloads nothing" in error.value.hint


def test_a_package_is_found_in_a_package_path_before_the_installed_ones(root: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    (target / "onnx" / "models").mkdir(parents=True)
    (target / "onnx" / "models" / "net.onnx").write_bytes(b"mine")
    found = Sources(root, (tmp_path / "none", target)).find("package://onnx/models/net.onnx")
    assert found.path.read_bytes() == b"mine"
    installed = Sources(root).find("package://onnx/__init__.py")
    assert installed.path.parent.name == "onnx"


def test_none_of_a_package_s_code_runs(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "canary_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (package / "data.bin").write_bytes(b"x")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert Sources(root).find("package://canary_package/data.bin").path == package / "data.bin"
    assert "canary_package" not in sys.modules


def test_a_namespace_package_has_several_folders(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "spread").mkdir(parents=True)
        (tmp_path / name / "spread" / f"{name}.txt").write_text(name)
        monkeypatch.syspath_prepend(str(tmp_path / name))
    assert Sources(root).find("package://spread/one.txt").path.read_text() == "one"
    assert Sources(root).find("package://spread/two.txt").path.read_text() == "two"


def test_a_missing_package_says_how_to_get_it(root: Path, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="neither installed nor in a package path") as error:
        Sources(root, (tmp_path,)).find("package://no_such_package/x.onnx")
    assert "pip install --no-deps --target DIR no-such-package" in error.value.hint
    assert "--package-path DIR" in error.value.hint


@pytest.mark.parametrize(
    "reference", ["package://", "package://name", "package://name/", "package:///x", "package://a.b/x"]
)
def test_a_malformed_package_reference_is_refused(root: Path, reference: str) -> None:
    with pytest.raises(UsageError, match="malformed"):
        Sources(root).find(reference)


def test_a_distribution_s_name_is_turned_into_the_import_name(root: Path) -> None:
    with pytest.raises(UsageError) as error:
        Sources(root).find("package://rapidocr-onnxruntime/x.onnx")
    assert "package://rapidocr_onnxruntime/" in error.value.hint


@pytest.mark.parametrize("file", ["../onnx/__init__.py", "/etc/hostname"])
def test_a_package_reference_cannot_leave_the_package(root: Path, file: str) -> None:
    with pytest.raises(UsageError, match="leads out of its folder"):
        Sources(root).find(f"package://onnx/{file}")


def test_a_module_that_is_no_package_has_no_files(root: Path) -> None:
    with pytest.raises(FileError, match="neither installed"):
        Sources(root).find("package://tomllib_no/x")
    with pytest.raises(FileError, match="neither installed"):
        Sources(root).find("package://this/x")


def test_metadata_references() -> None:
    assert metadata_reference("model-metadata://rec/character") == ("rec", "character")
    assert metadata_reference("model-metadata://rec/a/b") == ("rec", "a/b")
    assert metadata_reference("labels.txt") is None
    for text in ("model-metadata://", "model-metadata://rec", "model-metadata:///key"):
        with pytest.raises(UsageError, match="malformed"):
            metadata_reference(text)

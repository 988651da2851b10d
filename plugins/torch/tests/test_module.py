"""Weights and the author's own module, through the environment, against torch itself."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plugins.torch.tests.bench import Bench, attempt_all, error_of, load
from sdkpack.host.environments import Environment

MODELS = Path(os.environ.get("SDKPACK_TEST_MODELS", Path(__file__).parents[3].parent / "shared" / "models"))
EXACT = 1e-5
OPEN = {"x": ("float32", ["N", 3, "H", "W"])}


@pytest.mark.parametrize("name", ["zipped.pth", "checkpoint.pth", "weights.safetensors"])
def test_weights_in_each_kind_of_file(name: str, bench: Bench, models: Path, nets: Path) -> None:
    converted = bench.convert(
        "torch.state-dict", models / name, files={"code": nets / "plain.py"}, factory="plain:classifier",
        allow_code=True, inputs=OPEN,
    )  # fmt: skip
    reference = load(models / "classifier.npz")
    found = converted.run({"x": reference["x"]})
    assert set(found) == {"scores", "maps"}
    assert all(error_of(found[key], reference[key]) <= EXACT for key in found)
    assert converted.shapes() == {"x": ["N", 3, "H", "W"], "scores": ["N", 2], "maps": ["N", 4, "H", "W"]}
    assert any("training mode" in note for note in converted.notes)
    if name == "checkpoint.pth":
        assert any("stand at 'model'" in note for note in converted.notes)
        assert any("DataParallel" in note for note in converted.notes)
        own = converted.evaluate({"x": reference["x"]}, tensors=("relu",))[0]
        assert np.array_equal(own["scores"], reference["scores"])
        assert np.array_equal(own["relu"], reference["maps"])


def test_a_pickle_of_a_whole_module_and_a_folder_of_code(
    bench: Bench, models: Path, nets: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "code"
    folder.mkdir()
    shutil.copyfile(nets / "plain.py", folder / "plain.py")
    converted = bench.convert(
        "torch.state-dict", models / "whole.pth", files={"code": folder}, allow_code=True, inputs=OPEN, opset=18
    )
    reference = load(models / "classifier.npz")
    assert error_of(converted.run({"x": reference["x"]})["scores"], reference["scores"]) <= EXACT
    assert converted.opset == 18
    assert "a pickle of a whole module" in converted.notes[0]


def test_a_package_of_code(bench: Bench, models: Path, nets: Path, tmp_path: Path) -> None:
    package = tmp_path / "acme_nets"
    package.mkdir()
    (package / "__init__.py").write_text("")
    shutil.copyfile(nets / "plain.py", package / "plain.py")
    (package / "made.py").write_text(
        "from acme_nets.plain import Classifier\n\n\ndef make(width):\n    return Classifier(width)\n"
    )
    converted = bench.convert(
        "torch.state-dict", models / "legacy.pth", files={"code": package}, factory="acme_nets.made:make",
        arguments={"width": 4}, allow_code=True, samples=[{"x": load(models / "classifier.npz")["x"]}],
        dynamic={"x": {"0": "rows"}}, input_names=("image",), output_names=("a", "b"),
    )  # fmt: skip
    assert converted.shapes() == {"image": ["rows", 3, 20, 28], "a": ["rows", 2], "b": ["rows", 4, 20, 28]}


CODE: dict[str, Any] = {"allow_code": True, "files": "plain.py", "inputs": OPEN}
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("zipped.pth", {}, r"holds weights and no network: 9 tensors \(conv\.weight \[4, 3, 3, 3\], .*files\.code and"),
    ("legacy.pth", {"params": {"factory": "plain:classifier"}}, r"not given: convert\.files\.code$"),
    ("weights.safetensors", {"files": "plain.py"}, r"not given: convert\.with\.factory$"),
    ("zipped.pth", {"files": "plain.py", "params": {"factory": "plain:classifier"}}, "'plain:classifier' .* would run"),
    ("whole.pth", {}, r"runs code when it is read: it asks for plain\.Classifier"),
    ("list.pth", {}, "holds no tensors by name, but a list"),
    ("twice.pth", {}, "holds tensors in several places: ema, model"),
    ("twice.pth", {"params": {"key": "net"}}, "no tensors at 'net', only at 'ema', 'model'"),
    ("empty.pth", {}, "holds no tensors by name, but a dict"),
    ("traced.jit", {}, "is a TorchScript module, expected a file of torch.save or a safetensors file"),
    (
        "other.pth", {**CODE, "params": {"factory": "plain:classifier"}},
        r"1 missing: conv\.bias; 1 too many: more; 1 of another shape: head\.weight \[5, 4\], expected \[2, 4\]",
    ),
    (
        "zipped.pth", {**CODE, "params": {"factory": "plain:classifier", "arguments": {"width": 5}}},
        r"7 of another shape: conv\.weight \[4, 3, 3, 3\], expected \[5, 3, 3, 3\]",
    ),
    ("zipped.pth", {**CODE, "params": {"factory": "plain:failing"}}, "'plain:failing' failed: KeyError: 'no such"),
    ("zipped.pth", {**CODE, "params": {"factory": "plain:leaving"}}, "'plain:leaving' failed: SystemExit: 0"),
    ("zipped.pth", {**CODE, "params": {"factory": "plain:nothing"}}, "returned a NoneType, expected a torch.nn.Module"),
    ("zipped.pth", {**CODE, "params": {"factory": "plain:absent"}}, "'plain' has no function 'absent'"),
    ("zipped.pth", {**CODE, "params": {"factory": "absent:make"}}, "the module 'absent' cannot be imported"),
    ("zipped.pth", {**CODE, "files": "nothing.txt", "params": {"factory": "a:b"}}, "neither a .py file nor a folder"),
    (
        "zipped.pth", {**CODE, "inputs": {}, "params": {"factory": "plain:classifier"}},
        "nothing says the types and shapes of the inputs x",
    ),
    (
        "zipped.pth",
        {**CODE, "inputs": {"x": ("float32", ["N", 4, "H", "W"])}, "params": {"factory": "plain:classifier"}},
        r"the model fails on an input of x \[2, 4, 64, 96\]: Given groups=1",
    ),
    ("unused.pth", {**CODE, "params": {"factory": "plain:fixed_batch"}}, "the sizes N cannot stay open"),
    ("unused.pth", {**CODE, "params": {"factory": "plain:branching"}}, "depends on the values that it computes"),
    (
        "unused.pth", {**CODE, "params": {"factory": "plain:unsayable"}},
        "no counterpart of the operators aten::special_airy_ai, prims::bessel_j0",
    ),
]  # fmt: skip


def test_what_cannot_be_converted_is_told(toolchain: Environment, models: Path, nets: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing.txt").write_text("no code")
    cases = []
    for name, options, _ in REFUSED:
        given = dict(options)
        if "files" in given:
            folder = nets if (nets / given["files"]).exists() else tmp_path
            given["files"] = {"code": folder / given["files"]}
        cases.append({"converter": "torch.state-dict", "source": models / name, **given})
    found = attempt_all(toolchain.python, tmp_path, cases)
    for (name, options, said), (kind, message, hint) in zip(REFUSED, found, strict=True):
        assert kind == "ModelError", (name, options, kind, message)
        assert re.search(said, message), (name, options, message)
        assert hint, (name, message)


def test_damaged_files_are_told(toolchain: Environment, models: Path, tmp_path: Path) -> None:
    cases = []
    for name in ("zipped.pth", "legacy.pth", "weights.safetensors"):
        whole = (models / name).read_bytes()
        for size in (0, 20, 200, len(whole) // 2, len(whole) - 1):
            cut = tmp_path / f"{size}-{name}"
            cut.write_bytes(whole[:size])
            cases.append({"converter": "torch.state-dict", "source": cut})
    for kind, message, _ in attempt_all(toolchain.python, tmp_path, cases):
        assert kind == "ModelError", message
        assert re.search("damaged|cannot be read|is not a|it asks for torch", message), message


@pytest.mark.skipif(not MODELS.is_dir(), reason=f"no test models in {MODELS}; set SDKPACK_TEST_MODELS to their folder")
def test_a_published_detector_s_weights(bench: Bench, nets: Path, toolchain: Environment, tmp_path: Path) -> None:
    """Weights of 2019 that came alone, with a network written for them, against the same net as Caffe runs it."""
    source = MODELS / "face-ultralight" / "pytorch" / "version-slim-320.pth"
    ((_, message, _),) = attempt_all(toolchain.python, tmp_path, [{"converter": "torch.state-dict", "source": source}])
    assert re.search(r"holds weights and no network: \d+ tensors \(base_net\.0\.0\.weight \[16, 3, 3, 3\]", message)
    converted = bench.convert(
        "torch.state-dict", source, files={"code": nets / "slim.py"}, factory="slim:make", allow_code=True,
        inputs={"image": ("float32", ["N", 3, 240, 320])},
    )  # fmt: skip
    references = sorted((MODELS / "face-ultralight" / "ref").glob("caffe_slim-320_*.npz"))
    assert len(references) == 3
    for path in references:
        stored = load(path)
        found = converted.run({"image": stored["in/input"]})
        for name in ("scores", "boxes"):
            assert error_of(found[name], stored[f"out/{name}"].reshape(found[name].shape)) <= EXACT, (path.name, name)

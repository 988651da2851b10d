"""Programs of torch.export, through the environment, against torch itself."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from plugins.torch.tests.bench import Bench, attempt_all, error_of, load
from sdkpack.errors import ModelError
from sdkpack.host.environments import Environment

EXACT = 1e-5
"""Sums of float32 in another order, and a batch normalisation folded into a convolution."""


def test_a_program_computes_what_torch_computes(bench: Bench, models: Path) -> None:
    converted = bench.convert("torch.export", models / "open.pt2")
    reference = load(models / "classifier.npz")
    found = converted.run({"x": reference["x"]})
    assert set(found) == {"scores", "maps"}, "the keys of the dictionary that the module returns"
    for name, values in found.items():
        assert error_of(values, reference[name]) <= EXACT, name
    assert converted.opset == 20
    assert converted.tools["torch"].startswith("2.13.0")
    shape = converted.shapes()["x"]
    assert shape[1] == 3
    assert len({*shape}) == 4, "open sizes keep the program's own names"
    assert all(isinstance(dim, str) for dim in (shape[0], *shape[2:]))
    # Paths and lines of the author's source are nobody else's business.
    assert b"plain.py" not in converted.path.read_bytes()
    assert "loading open.pt2" in bench.reporter.texts
    # Its own framework runs it.
    first, second, again = converted.evaluate(
        {"x": reference["x"]}, {"x": reference["x"][:1]}, {"x": reference["x"]}, tensors=("relu", "conv2d", "nowhere")
    )
    for name in ("scores", "maps"):
        assert np.array_equal(first[name], reference[name])
        assert np.array_equal(first[name], again[name])
        assert error_of(second[name], reference[name][:1]) <= EXACT
    assert set(first) == {"scores", "maps", "relu", "conv2d"}, "inner tensors that the program has"
    assert np.array_equal(first["relu"], first["maps"])


def test_names_opset_and_open_sizes_are_the_author_s(bench: Bench, models: Path) -> None:
    converted = bench.convert(
        "torch.export", models / "open.pt2", inputs={"image": ("float32", ["N", 3, "H", "W"])}, opset=17,
        input_names=("image",), output_names=("chances", "conv2d"),
    )  # fmt: skip
    assert converted.shapes() == {"image": ["N", 3, "H", "W"], "chances": ["N", 2], "conv2d": ["N", 4, "H", "W"]}
    assert converted.opset == 17
    reference = load(models / "classifier.npz")
    found = converted.run({"image": reference["x"]})
    assert error_of(found["chances"], reference["scores"]) <= EXACT


def test_the_same_program_gives_the_same_bytes(bench: Bench, models: Path) -> None:
    first, second = (bench.convert("torch.export", models / "fixed.pt2").path.read_bytes() for _ in range(2))
    assert first == second


REFUSED = [
    ("training.pt2", {}, r"in training mode: batch_norm \(batch_norm\), dropout \(dropout\)"),
    ("custom.pt2", {}, "not torch's own: 'acme.shift.default', 'acme.twice.default'"),
    ("unsayable.pt2", {}, "no counterpart of the operators aten::special_airy_ai, prims::bessel_j0"),
    ("open.pt2", {"opset": 12}, "the targets take opset 12 at most"),
    ("open.pt2", {"opset": 17, "params": {"opset": 18}}, "convert.with.opset is 18, the targets take 17 at most"),
    ("open.pt2", {"inputs": {"y": ("float32", [1])}}, "the program has no input y, it has x"),
    ("open.pt2", {"inputs": {"x": ("float32", ["N", 4, "H", "W"])}}, "axis 1 of 'x' is declared as 4, .* at 3"),
    ("fixed.pt2", {"inputs": {"x": ("float32", ["N", 3, 16, 24])}}, "axis 0 of 'x' is declared as N, .* at 2"),
    ("fixed.pt2", {"inputs": {"x": ("float32", [2, 3])}}, "declared with 2 axes, the program's has 4"),
    ("fixed.pt2", {"params": {"output_names": ["one"]}}, "has 2 outputs, 1 names are given"),
    ("traced.jit", {}, "is a TorchScript module, expected a program of torch.export"),
]  # fmt: skip


def test_what_cannot_be_converted_is_told(toolchain: Environment, models: Path, tmp_path: Path) -> None:
    cases = [{"converter": "torch.export", "source": models / name, **options} for name, options, _ in REFUSED]
    found = attempt_all(toolchain.python, tmp_path, cases)
    for (name, _, said), (kind, message, hint) in zip(REFUSED, found, strict=True):
        assert kind == "ModelError", (name, kind, message)
        assert re.search(said, message), (name, message)
        assert hint, name


def test_a_sample_that_does_not_fit_is_told(bench: Bench, models: Path) -> None:
    converted = bench.convert("torch.export", models / "fixed.pt2")
    with pytest.raises(ModelError, match=r"does not take the sample"):
        converted.evaluate({"x": np.zeros((2, 5, 16, 24), "f4")})
    with pytest.raises(ModelError, match=r"the sample .* has y, the model takes x"):
        converted.evaluate({"y": np.zeros((2, 3, 16, 24), "f4")})

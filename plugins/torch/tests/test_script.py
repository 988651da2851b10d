"""TorchScript modules, through the environment, against torch itself."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest

from plugins.torch.tests.bench import Bench, attempt_all, error_of, load
from sdkpack.errors import ModelError
from sdkpack.host.environments import Environment

MODELS = Path(os.environ.get("SDKPACK_TEST_MODELS", Path(__file__).parents[3].parent / "shared" / "models"))
EXACT = 1e-5
RNG = np.random.default_rng(2)
OPEN = {"x": ("float32", ["N", 3, "H", "W"])}


@pytest.mark.parametrize("name", ["training.jit", "traced.jit"])
def test_scripted_and_traced_modules(name: str, bench: Bench, models: Path) -> None:
    converted = bench.convert("torch.script", models / name, inputs=OPEN)
    assert converted.shapes() == {"x": ["N", 3, "H", "W"], "output": ["N", 2]}
    inference = "the source was in training mode and was put into inference mode"
    assert converted.notes == ((inference,) if name == "training.jit" else ())
    x = RNG.standard_normal((3, 3, 20, 28)).astype("f4")
    found = converted.evaluate({"x": x}, tensors=("relu",))[0]
    assert found["relu"].shape == (3, 4, 20, 28)
    assert error_of(converted.run({"x": x})["output"], found["output"]) <= EXACT
    reference = load(models / "classifier.npz")
    scores = np.exp(reference["scores"]) / np.exp(reference["scores"]).sum(1, keepdims=True)
    assert error_of(converted.run({"x": reference["x"]})["output"], scores) <= EXACT


def test_loops_lists_and_arguments_that_are_no_tensors(bench: Bench, models: Path) -> None:
    source, x = models / "flagged.jit", RNG.standard_normal((2, 4)).astype("f4")
    converted = bench.convert(
        "torch.script", source, samples=[{"x": x}], constants={"steps": 3}, dynamic={"x": {"0": "rows"}}
    )
    assert converted.shapes()["x"] == ["rows", 4]
    found = converted.evaluate({"x": x})[0]
    assert set(found) == {"output_0", "output_1", "output_2"}
    # What it appended before it went on is the list's; what it multiplied is the last one's.
    assert error_of(found["output_2"], converted.run({"x": x})["output_2"]) <= EXACT
    assert not np.array_equal(found["output_1"], found["output_2"])
    biased = bench.convert(
        "torch.script", source, inputs={"x": ("float32", [2, 4]), "bias": ("float32", [4])}, constants={"steps": 1}
    )
    assert list(biased.shapes())[:2] == ["x", "bias"]


def test_what_it_keeps_becomes_inputs_and_outputs(bench: Bench, models: Path) -> None:
    converted = bench.convert("torch.script", models / "keeping.jit", inputs={"x": ("float32", [1, 4])})
    assert converted.shapes() == {name: [1, 4] for name in ("x", "part_total", "output", "part_total_next")}
    assert "keeps part_total between calls" in converted.notes[0]
    total = np.zeros((1, 4), "f4")
    expected = np.zeros((1, 4), "f4")
    for _ in range(3):
        x = RNG.standard_normal((1, 4)).astype("f4")
        own = converted.evaluate({"x": x, "part_total": total}, {"x": x, "part_total": total})
        assert np.array_equal(own[0]["output"], own[1]["output"]), "a run forgets the run before"
        found = converted.run({"x": x, "part_total": total})
        total, expected = found["part_total_next"], expected * 0.5 + x
        assert error_of(total, expected) <= EXACT
        assert error_of(own[0]["part_total_next"], expected) <= EXACT


REFUSED = [
    ("branching.jit", {"inputs": {"x": ("float32", [2, 3])}}, "depends on the values that it computes"),
    ("custom.jit", {"inputs": OPEN}, "not torch's own: acme::shift, acme::twice"),
    ("reaching.jit", {"inputs": OPEN}, "reads or writes files while it runs: torch.save"),
    ("flagged.jit", {"inputs": {"x": ("float32", ["N", 4])}}, r"arguments that are no tensors: steps \(int\)"),
    ("traced.jit", {}, "nothing says the types and shapes of the inputs x"),
    ("traced.jit", {"inputs": {"x": ("float32", ["N", 3, "?", "W"])}}, r"axis 2 of 'x' is '\?'"),
    ("traced.jit", {"inputs": {"x": ("string", [1])}}, "'x' is of type string"),
    ("traced.jit", {"inputs": {"x": ("float32", ["N", 5, "H", "W"])}}, r"fails on an input of x \[2, 5, 64, 96\]"),
    ("traced.jit", {"inputs": {**OPEN, "z": ("float32", [1])}}, "the model has no input z, it has x"),
    ("traced.jit", {"inputs": OPEN, "params": {"constants": {"k": 1}}}, "constants names k, which 'forward' does not"),
    ("traced.jit", {"inputs": OPEN, "opset": 12}, "the targets take opset 12 at most"),
    ("zipped.pth", {"inputs": OPEN}, "is a file of torch.save, expected a TorchScript module"),
]  # fmt: skip


def test_what_cannot_be_converted_is_told(toolchain: Environment, models: Path, tmp_path: Path) -> None:
    cases = [{"converter": "torch.script", "source": models / name, **options} for name, options, _ in REFUSED]
    found = attempt_all(toolchain.python, tmp_path, cases)
    for (name, _, said), (kind, message, hint) in zip(REFUSED, found, strict=True):
        assert kind == "ModelError", (name, kind, message)
        assert re.search(said, message), (name, message)
        assert hint, name


@pytest.mark.skipif(not MODELS.is_dir(), reason=f"no test models in {MODELS}; set SDKPACK_TEST_MODELS to their folder")
def test_a_published_voice_model_speaks_as_before(bench: Bench) -> None:
    """Branches over the sampling rate, exceptions, a state that begins empty: 200 calls, the state handed on."""
    import onnxruntime

    source = MODELS / "silero-vad" / "silero_vad.jit"
    converted = bench.convert("torch.script", source, inputs={"x": ("float32", [1, 512])}, constants={"sr": 16000})
    stored = load(MODELS / "silero-vad" / "ref" / "torchscript_silero_vad_stream200.npz")
    session = onnxruntime.InferenceSession(converted.path)
    names = [output.name for output in session.get_outputs()]
    state = {"_state": np.zeros((2, 1, 128), "f4"), "_context": np.zeros((1, 64), "f4")}
    found = []
    for chunk in stored["in/chunks"]:
        said = dict(zip(names, session.run(names, {"x": chunk[None], **state}), strict=True))
        state = {name: said[f"{name}_next"] for name in state}
        found.append(said["output"][0])
    # Over 200 steps of a recurrent net: what differs in one step goes into the next.
    assert error_of(np.stack(found), stored["out/prob"]) <= EXACT
    assert {node.op_type for node in converted.graph.node}.isdisjoint({"If", "Loop"})


@pytest.mark.skipif(not MODELS.is_dir(), reason=f"no test models in {MODELS}; set SDKPACK_TEST_MODELS to their folder")
def test_its_other_branch(bench: Bench) -> None:
    source = MODELS / "silero-vad" / "silero_vad.jit"
    converted = bench.convert("torch.script", source, inputs={"x": ("float32", [1, 256])}, constants={"sr": 8000})
    chunk = load(MODELS / "silero-vad" / "ref" / "torchscript_silero_vad_stream200.npz")["in/chunks"][120:121, ::2]
    given = {"x": chunk, "_state": np.zeros((2, 1, 128), "f4"), "_context": np.zeros((1, 32), "f4")}
    own, found = converted.evaluate(given)[0], converted.run(given)
    for name, values in own.items():
        assert error_of(found[name], values) <= EXACT, name
    with pytest.raises(
        ModelError, match=r"script fails on an input of x \[1, 300\].*Provided number of samples is 300"
    ):
        bench.convert("torch.script", source, inputs={"x": ("float32", [1, 300])}, constants={"sr": 8000})

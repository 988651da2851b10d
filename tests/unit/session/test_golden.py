from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sdkpack
from sdkpack.errors import PayloadError
from sdkpack.session import GoldenResult, replay
from sdkpack.session.golden import compare_json, compare_outputs, zero_inputs
from sdkpack.types import TensorSpec
from tests.unit.session.bundles import BIAS, FAKES, Publisher, fake_model, files, manifest, npz


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    return Publisher.new(tmp_path)


def replayed(publisher: Publisher, content: dict[str, bytes], model: Any = None) -> tuple[GoldenResult, ...]:
    path = publisher.write(manifest({"net": model or fake_model()}).to_object(), content)
    with sdkpack.open(path, trust=publisher.public, keys=[publisher.key], plugins=[FAKES]) as session:
        return replay(session)


def test_a_faithful_bundle_passes(publisher: Publisher) -> None:
    told: list[str] = []
    path = publisher.write(manifest().to_object(), files())
    with sdkpack.open(path, trust=publisher.public, keys=[publisher.key], plugins=[FAKES]) as session:
        model, pipeline = replay(session, progress=told.append)
    assert told == ["model net", "pipeline main 0"]
    assert model.passed and (model.kind, model.name, model.target) == ("model", "net", "cpu")
    assert pipeline.passed and (pipeline.kind, pipeline.name, pipeline.number) == ("pipeline", "main", 0)
    assert [output.name for output in (*model.outputs, *pipeline.outputs)] == ["y", "result"]


def test_changed_weights_fail_both(publisher: Publisher) -> None:
    model, pipeline = replayed(publisher, files() | {"models/net/weights.bin": (BIAS * 1.01).tobytes()})
    assert not model.passed and not pipeline.passed
    assert model.outputs[0].normalized_error == pytest.approx(0.3 / 33, rel=1e-3)


def test_the_tolerance_is_that_of_the_record(publisher: Publisher) -> None:
    model, _ = replayed(publisher, files() | {"models/net/weights.bin": (BIAS * 1.000001).tobytes()})
    assert model.passed and 0 < model.outputs[0].normalized_error < 1e-4 == model.outputs[0].tolerance


def test_a_run_that_fails_is_a_result(publisher: Publisher) -> None:
    model, pipeline = replayed(publisher, files(), fake_model(fail=True))
    assert not model.passed and "on fire" in model.error
    assert not pipeline.passed and "on fire" in pipeline.error


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("goldens/net.in.npz", b"PK"),
        ("goldens/net.out.npz", b"{}"),
        ("goldens/y.json", b'{"result": 1, "result": 2}'),
        ("goldens/y.json", b"[]"),
        ("goldens/x.npy", b"\x93NUMPY"),
    ],
)
def test_a_malformed_record_is_a_bundle_error(publisher: Publisher, name: str, content: bytes) -> None:
    with pytest.raises(PayloadError, match=name.replace(".", r"\.")):
        replayed(publisher, files() | {name: content})


def test_outputs_that_only_one_side_has_fail(publisher: Publisher) -> None:
    more = npz(y=np.array([[11, 22, 33]], np.float32), z=np.zeros(1))
    model, pipeline = replayed(publisher, files() | {"goldens/net.out.npz": more, "goldens/y.json": b'{"other": 1}'})
    assert [(o.name, o.passed, o.reason) for o in model.outputs] == [("y", True, ""), ("z", False, "missing")]
    assert [(o.name, o.passed) for o in pipeline.outputs] == [("other", False), ("result", False)]


def test_a_result_without_outputs_has_not_passed() -> None:
    assert not GoldenResult(kind="model", name="net", number=0).passed


def test_arrays_compare_by_normalised_error_and_text_as_text() -> None:
    a = np.array([1.0, 2.0], np.float32)
    (same,) = compare_outputs({"y": a}, {"y": a}, tolerance=0)
    assert same.passed and same.normalized_error == 0
    (text,) = compare_outputs({"t": np.array(["a"], object)}, {"t": np.array(["a"])}, tolerance=0)
    assert text.passed
    (other,) = compare_outputs({"t": np.array(["b"], object)}, {"t": np.array(["a"])}, tolerance=1)
    assert not other.passed


@pytest.mark.parametrize(
    ("got", "expected", "passed"),
    [
        ([{"text": "a", "score": 0.5}], [{"text": "a", "score": 0.5}], True),
        ([{"text": "a", "score": 0.50001}], [{"text": "a", "score": 0.5}], True),
        ([{"text": "a", "score": 0.51}], [{"text": "a", "score": 0.5}], False),
        ([{"text": "b", "score": 0.5}], [{"text": "a", "score": 0.5}], False),
        ([{"text": "a"}], [{"text": "a", "score": 0.5}], False),
        ([], [{"text": "a"}], False),
        ([1, 2], [1, 2, 3], False),
        (1, True, False),
        (True, True, True),
        (None, 0.0, False),
        (0.0, 0, True),
        (1e-9, 0, False),
        ([1000.01, 0.009], [1000.0, 0.0], True),
        ("1", 1, False),
    ],
)
def test_json_compares_structure_and_text_exactly_and_numbers_by_the_greatest(
    got: Any, expected: Any, passed: bool
) -> None:
    result = compare_json("lines", got, expected, tolerance=1e-4)
    assert result.passed is passed
    if not passed and result.normalized_error == float("inf") and expected != 0:
        assert result.reason.startswith("lines")


def test_zero_inputs_have_the_smallest_shape_of_every_type() -> None:
    specs = [
        TensorSpec(name="x", dtype="float32", shape=("N", 3, "?")),
        TensorSpec(name="t", dtype="string", shape=(2,)),
        TensorSpec(name="s", dtype="int64", shape=()),
    ]
    made = zero_inputs(specs)
    assert made["x"].shape == (1, 3, 1) and made["x"].dtype == np.float32
    assert made["t"].tolist() == ["", ""] and made["s"].shape == ()

"""Every kind of model, trained here: ONNX Runtime computes what the library that trained it computes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from plugins.sklearn.tests.catalogue import BY_NAME, CASES, Case

CONVERT = [case for case in CASES if not case.refused]
REFUSED = [case for case in CASES if case.refused]


def arrays(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def answers(model: Path, sample: dict[str, Any], extra: tuple[str, ...] = ()) -> dict[str, Any]:
    """ONNX Runtime's, by name; `extra` are inner tensors."""
    import onnxruntime

    content = onnx.load(model)
    content.graph.output.extend(onnx.ValueInfoProto(name=name) for name in extra)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    feeds = {name: array.astype(object) if array.dtype.kind == "U" else array for name, array in sample.items()}
    return dict(zip(names, session.run(names, feeds), strict=True))


def error_of(found: Any, expected: Any) -> float:
    assert np.isfinite(expected).all()
    return float(np.abs(found.astype("f8") - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("case", CONVERT, ids=lambda case: case.name)
def test_computes_what_its_library_computes(case: Case, converted: Path) -> None:
    said = json.loads((converted / f"{case.name}.json").read_text())
    assert "error" not in said, said
    expected = arrays(converted / f"{case.name}.npz")
    inner = ("margin",) if "margin" in expected else ()
    found = answers(converted / f"{case.name}.onnx", arrays(converted / f"{case.name}.sample.npz"), inner)
    assert set(found) == set(expected)
    for name, wanted in expected.items():
        assert found[name].shape == wanted.shape, name
        if wanted.dtype.kind in "iU":
            assert len(np.unique(wanted)) > 1, "labels that are all the same prove nothing"
            assert (found[name].astype(wanted.dtype) == wanted).all(), name
        else:
            assert found[name].dtype == wanted.dtype, name
            # Sums of float32 in another order, and the exponential functions of two libraries.
            assert error_of(found[name], wanted) <= case.tolerance, (name, error_of(found[name], wanted))


@pytest.mark.parametrize("case", CONVERT, ids=lambda case: case.name)
def test_the_declared_shapes_are_those_of_the_answers(case: Case, converted: Path) -> None:
    model = onnx.load(converted / f"{case.name}.onnx")
    expected = arrays(converted / f"{case.name}.npz")
    sample = arrays(converted / f"{case.name}.sample.npz")
    batch = case.inputs[0][2][0] if case.inputs else "N"
    for value in (*model.graph.input, *model.graph.output):
        dims = [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        actual = (sample | expected)[value.name]
        assert dims == [batch, *actual.shape[1:]], value.name


@pytest.mark.parametrize("case", CONVERT, ids=lambda case: case.name)
def test_the_source_answers_the_same_again(case: Case, converted: Path) -> None:
    first, again = (arrays(converted / f"{case.name}{end}") for end in (".npz", ".again.npz"))
    assert all(np.array_equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_is_refused_with_a_reason(case: Case, converted: Path) -> None:
    said = json.loads((converted / f"{case.name}.json").read_text())
    assert said["error"] == "ModelError"
    assert re.search(case.refused, said["message"]), said["message"]
    assert said["hint"]
    assert not (converted / f"{case.name}.onnx").exists()


def test_only_standard_operators_are_used(converted: Path) -> None:
    for case in CONVERT:
        model = onnx.load(converted / f"{case.name}.onnx")
        own = {function.domain for function in model.functions}
        domains = {node.domain for node in model.graph.node}
        assert domains <= {"", "ai.onnx.ml", *own}, case.name
        assert all(node.op_type != "ZipMap" for node in model.graph.node), case.name


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("logistic", {"X": ("FLOAT", 5)}),
        ("frame", {"X": ("FLOAT", 5)}),
        ("text_table", {"X": ("STRING", 2)}),
        ("columns", {"a": ("FLOAT", 1), "b": ("FLOAT", 1), "colour": ("STRING", 1), "size": ("INT64", 1)}),
        ("columns_by_place", {"X": ("FLOAT", 5)}),
        ("columns_one_table", {"T": ("FLOAT", 3)}),
        ("doubles", {"X": ("DOUBLE", 5)}),
    ],
)
def test_inputs_are_found_out(name: str, inputs: dict[str, tuple[str, int]], converted: Path) -> None:
    found = {
        value.name: (
            onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type),
            value.type.tensor_type.shape.dim[1].dim_value,
        )
        for value in onnx.load(converted / f"{name}.onnx").graph.input
    }
    assert found == inputs


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("logistic_text", "label is text"),
        ("logistic_numbers", "number of the class, from 0: no, yes"),
        ("columns", "one input for each of 4 columns"),
        ("columns_sparse", "sparse matrix, of which it takes zeros for missing values"),
        ("other_version", "saved by another scikit-learn than"),
        ("xgboost_best", "rounds are used"),
        ("xgboost_rounds", "3 of 20 rounds are used, as asked"),
        ("lightgbm_rounds", "3 of 20 rounds are used, as asked"),
    ],
)
def test_the_author_is_told(name: str, note: str, converted: Path) -> None:
    notes = json.loads((converted / f"{name}.json").read_text())["notes"]
    assert any(note in text for text in notes), notes


def test_labels_and_features_stand_in_the_model(converted: Path) -> None:
    facts = {entry.key: entry.value for entry in onnx.load(converted / "forest.onnx").metadata_props}
    assert facts["classes"] == "no\nyes"
    facts = {entry.key: entry.value for entry in onnx.load(converted / "frame.onnx").metadata_props}
    assert facts["feature_names"] == "a\nb\nc\nd\ne"


def test_missing_values_are_among_the_samples(converted: Path) -> None:
    for name in ("xgb_class", "lgbm_class", "forest_missing", "histogram_classifier", "lightgbm_category"):
        assert np.isnan(arrays(converted / f"{name}.sample.npz")["X"]).any(), name


def test_a_threshold_one_bit_higher_is_found_out(converted: Path, tmp_path: Path) -> None:
    """The samples stand on both sides of each threshold: float64 ones rounded to the nearest float32 would not do."""
    model = onnx.load(converted / "lightgbm_on_thresholds.onnx")
    (node,) = (node for node in model.graph.node if node.op_type == "TreeEnsembleRegressor")
    values = {attribute.name: attribute for attribute in node.attribute}["nodes_values"].floats
    values[:] = [float(np.nextafter(np.float32(value), np.float32(np.inf))) for value in values]
    onnx.save(model, tmp_path / "higher.onnx")
    found = answers(tmp_path / "higher.onnx", arrays(converted / "lightgbm_on_thresholds.sample.npz"))
    expected = arrays(converted / "lightgbm_on_thresholds.npz")
    assert error_of(found["prediction"], expected["prediction"]) > 1e-3


def test_every_case_has_a_name_of_its_own() -> None:
    assert len(BY_NAME) == len(CASES)

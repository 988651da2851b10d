"""The checked-in schemas are the generated ones, and agree with the documents on what is valid."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sdkpack.documents.schemas import DOCUMENTS, schema_of, schema_texts
from sdkpack.errors import DocumentError

FOLDER = Path(__file__).parent.parent.parent / "schemas"
COMMAND = "regenerate: python -m sdkpack.documents.schemas"

DIGEST = "sha256:" + "0" * 64
TENSOR = {"name": "x", "dtype": "float32", "shape": [1, 3, "H", "?"]}
PART = {"runtime": "acme.npu2", "files": {"graph": "a.onnx"}, "inputs": [TENSOR], "outputs": [TENSOR]}
PIPELINE = {
    "inputs": {"image": "image"},
    "outputs": {"heat": {"value": "heat", "type": "tensor(float32)"}},
    "params": {"threshold": {"default": 0.5, "min": 0, "max": 1}},
    "steps": [
        {"id": "a", "op": "image.to_tensor/1", "inputs": {"image": "image"}, "outputs": {"tensor": "t"}},
        {"id": "b", "model": "net", "inputs": {"x": "t"}, "outputs": {"y": "heat"}, "batch": {"max": 4}},
    ],
}
STEP = {"id": "det/import", "kind": "import", "plugin": "sdkpack", "fingerprint": "1", "key": DIGEST}
EVIDENCE = {
    "step": "det/compile",
    "check": "parity",
    "passed": True,
    "reference": "acme 1",
    "where": {"kind": "host", "runtime": "acme 2"},
    "tensors": [{"name": "y", "normalized_error": 1e-6, "tolerance": 1e-4, "passed": True}],
}
SAMPLES: dict[str, dict[str, Any]] = {
    "recipe": {
        "recipe": 1,
        "bundle": {"name": "shapes", "version": "1.0.0"},
        "models": {"net": {"source": "net.onnx", "targets": ["cpu"]}},
        "targets": {"cpu": {"runtime": "acme.npu2", "with": {"level": 1, "nested": [{"a": 1.5}]}}},
        "pipelines": {
            "classify": {
                "inputs": {"image": "image/encoded"},
                "steps": [{"op": "image.decode", "as": "page"}, {"model": "net", "in": ["page"]}],
            }
        },
        "sign": {"key": "env:KEY"},
        "x-note": [1],
    },
    "plan": {
        "plan": 1,
        "sdkpack": "1",
        "bundle": {"name": "a", "version": "1"},
        "inputs": {"net": {"reference": "net.onnx", "digest": DIGEST, "size_bytes": 1}},
        "steps": [STEP],
        "pipelines": {"classify": PIPELINE},
    },
    "pipeline": PIPELINE,
    "manifest": {
        "manifest": 1,
        "name": "shapes",
        "version": "1.0.0",
        "sequence": 3,
        "models": {
            "net": {
                "inputs": [TENSOR],
                "outputs": [TENSOR],
                "source": {"reference": "net.onnx", "digest": DIGEST, "size_bytes": 10, "format": "onnx"},
                "variants": [{"target": "cpu", "parts": [PART], "evidence": [EVIDENCE]}],
                "golden": {"inputs": "g/in.npz", "outputs": "g/out.npz", "tolerance": 0.0001},
            }
        },
        "pipelines": {"classify": PIPELINE},
        "goldens": {"classify": [{"inputs": {"image": "g/a.png"}, "outputs": "g/a.json", "tolerance": 0.001}]},
    },
    "evidence": EVIDENCE,
    "trust": {
        "trust": 1,
        "keys": [{"key": "publisher.pub", "not_after": "2027-01-31"}],
        "minimum_sequence": {"shapes": 2},
    },
    "config": {"config": 1, "plugins": {"allow": ["acme-npu2"], "block": ["x"], "network": {"allow": ["acme.npu2"]}}},
    "report": {
        "report": 1,
        "bundle": "a-1.sdkpack",
        "identity": DIGEST,
        "size_bytes": 4,
        "seconds": 0.5,
        "steps": [{"id": "a", "cached": True, "seconds": 0.1}],
    },
}

BROKEN: list[tuple[str, tuple[str | int, ...], Any]] = [
    ("recipe", ("recipe",), 2),
    ("recipe", ("recipe",), "1"),
    ("recipe", ("bundel",), {}),
    ("recipe", ("bundle", "name"), "Shapes"),
    ("recipe", ("bundle", "sequence"), -1),
    ("recipe", ("bundle", "sequence"), True),
    ("recipe", ("bundle", "license"), None),
    ("recipe", ("models",), {}),
    ("recipe", ("models", "a b"), {"source": "x"}),
    ("recipe", ("models", "net", "source"), 3),
    ("recipe", ("models", "net", "targets"), "cpu"),
    ("recipe", ("targets", "cpu", "with", "level"), None),
    ("recipe", ("targets", "cpu", "params"), {}),
    ("recipe", ("pipelines", "classify", "steps"), []),
    ("recipe", ("pipelines", "classify", "steps", 1, "in"), 4),
    ("recipe", ("pipelines", "classify", "steps", 1, "batch"), {"max": 0}),
    ("recipe", ("pipelines", "classify", "steps", 1, "batch"), {"max": 4, "sort_by": "size"}),
    ("plan", ("steps", 0, "kind"), "imports"),
    ("plan", ("steps", 0, "key"), "sha256:0"),
    ("pipeline", ("steps", 0, "op"), "image.to_tensor"),
    ("pipeline", ("outputs", "heat"), "heat"),
    ("pipeline", ("params", "threshold", "default"), []),
    ("manifest", ("sequence",), "3"),
    ("manifest", ("models", "net", "variants"), []),
    ("manifest", ("models", "net", "golden", "tolerance"), -1.0),
    ("evidence", ("passed",), 1),
    ("evidence", ("where", "kind"), "board"),
    ("trust", ("keys",), []),
    ("trust", ("threshold",), 0),
    ("report", ("seconds",), "1"),
    ("config", ("config",), 2),
    ("config", ("plugins", "allow"), "acme-npu2"),
    ("config", ("plugins", "alow"), []),
    ("config", ("plugins", "network", "allow"), ["no name"]),
]


@pytest.mark.parametrize("name", sorted(schema_texts()))
def test_checked_in_schema_is_the_generated_one(name: str) -> None:
    file = FOLDER / name
    assert file.exists(), f"{name} is missing; {COMMAND}"
    assert file.read_text(encoding="utf-8") == schema_texts()[name], f"{name} is out of date; {COMMAND}"


def test_no_schema_is_left_over() -> None:
    assert {file.name for file in FOLDER.iterdir()} == set(schema_texts()), COMMAND


@pytest.mark.parametrize("model", DOCUMENTS, ids=lambda model: model.word())
def test_schema_is_valid_and_described(model: Any) -> None:
    schema = schema_of(model)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"urn:sdkpack:schema:{model.word()}-v1"
    assert schema["description"]
    undescribed = [
        name for name, part in schema.get("$defs", {}).items() if not ("description" in part or name == "JsonValue")
    ]
    assert not undescribed


@pytest.mark.parametrize("model", DOCUMENTS, ids=lambda model: model.word())
def test_both_accept_the_sample(model: Any) -> None:
    sample = SAMPLES[model.word()]
    jsonschema.Draft202012Validator(schema_of(model)).validate(sample)
    jsonschema.Draft202012Validator(schema_of(model)).validate(model.from_object(sample).to_object())


@pytest.mark.parametrize(("word", "path", "value"), BROKEN, ids=lambda value: str(value)[:60])
def test_both_refuse(word: str, path: tuple[str | int, ...], value: Any) -> None:
    model = next(each for each in DOCUMENTS if each.word() == word)
    sample = copy.deepcopy(SAMPLES[word])
    here: Any = sample
    for part in path[:-1]:
        here = here[part]
    here[path[-1]] = value
    assert not jsonschema.Draft202012Validator(schema_of(model)).is_valid(sample)
    with pytest.raises(DocumentError):
        model.from_object(sample)

"""What cannot be converted is refused with a reason, and none of its code runs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from plugins.tensorflow.tests.bench import MODELS, canary, run_many

SAVED = "sdkpack_tensorflow.saved_model:SavedModelConverter"
KERAS = "sdkpack_tensorflow.keras_model:KerasConverter"
HDF = "sdkpack_tensorflow.keras_model:HdfConverter"
LITE = "sdkpack_tensorflow.tflite:TfliteConverter"

# id -> (class, source, settings, what the message or a problem says). All problems of a source are told at once.
CASES: dict[str, tuple[str, str, dict[str, Any], tuple[str, ...]]] = {
    "no such signature": (SAVED, "two", {"params": ["SavedModelParams", {"signature": "plane"}]},
                          ("no signature 'plane' (did you mean 'plain'?)", "anything, image, noisy, odd, plain")),
    "no default signature": (SAVED, "two", {}, ("no signature 'serving_default'", "plain")),
    "no such tags": (SAVED, "first", {"params": ["SavedModelParams", {"tags": ["train"]}]},
                     ("no graph with the tags train", "serve, tpu")),
    "no such outputs": (SAVED, "two", {"params": ["SavedModelParams", {"signature": "plain", "outputs": ["yy", "q"]}]},
                        ("'yy' (did you mean 'y'?), 'q'", "it has y, z")),
    "rank unknown": (SAVED, "two", {"params": ["SavedModelParams", {"signature": "anything"}]},
                     ("does not say how many dimensions", "models.net.inputs.x")),
    "random": (SAVED, "two", {"params": ["SavedModelParams", {"signature": "noisy"}]},
               ("not in inference mode", "random numbers")),
    "unknown operators": (SAVED, "two", {"params": ["SavedModelParams", {"signature": "odd"}]},
                          ("BesselI0e, Polygamma", "used by")),
    "python functions": (SAVED, "python", {}, ("PyFunc", "calls a Python function")),
    "files": (SAVED, "files", {}, ("ReadFile, WriteFile", "reads or writes files")),
    "no variables": (SAVED, "no-variables", {},
                     ("variables/variables.index, variables/variables.data-00000-of-00001",)),
    "variables cut": (SAVED, "cut-variables", {"params": ["SavedModelParams", {"signature": "plain"}]}, ("cannot be",)),
    "graph cut": (SAVED, "cut-graph", {}, ("saved_model.pb is damaged",)),
    "graph of noise": (SAVED, "noise-graph", {}, ("saved_model.pb is damaged",)),
    "no graph": (SAVED, "empty", {}, ("it has no saved_model.pb",)),
    "old opset": (SAVED, "two", {"opset": 11}, ("opset 11 is not supported", "13 to 18")),
    "wrong inputs": (SAVED, "two", {"params": ["SavedModelParams", {"signature": "plain", "inputs_as_nchw": ["x"]}],
                                    "inputs": [["x", "float32", ["N", 5]], ["xx", "float32", [1]]]},
                     ("another shape, expected ['N', 4], got ['N', 5]", "no such input (did you mean 'x'?)",
                      "only inputs of 4 dimensions can be NCHW")),
    "wrong element type": (SAVED, "two", {"params": ["SavedModelParams", {"signature": "plain"}],
                                          "inputs": [["x", "uint8", ["N", 4]]]}, ("expected float32, got uint8",)),
    "lambda": (KERAS, "lambda.keras", {}, ("brings code", "evil: Lambda holds code")),
    "lambda in HDF5": (HDF, "lambda.h5", {}, ("brings code", "evil: Lambda holds code")),
    "lambda of Keras 2": (HDF, "old_lambda.h5", {}, ("brings code", "evil: Lambda holds code")),
    "own layer": (KERAS, "own.keras", {}, ("Acme>Doubled", "twice: Acme>Doubled is a class of the author's")),
    "own layer, no file": (KERAS, "own.keras", {"allow_code": True}, ("classes that are not in it: Acme>Doubled",)),
    "own layer, not allowed": (KERAS, "own.keras", {"files": {"code": "own_layers.py"}}, ("is a Python file",)),
    "archive cut": (KERAS, "cut.keras", {}, ("is damaged",)),
    "archive of others": (KERAS, "other.keras", {}, ("config.json, metadata.json, model.weights.h5 missing",)),
    "weights cut": (KERAS, "cut-weights.keras", {}, ("cut-weights.keras",)),
    "no JSON": (KERAS, "no-json.keras", {}, ("config.json is no JSON",)),
    "function named": (KERAS, "get-file.keras", {}, ("keras.utils.get_file is a function to be called",)),
    "module named": (KERAS, "module.keras", {}, ("subprocess.Popen is a class of the author's",)),
    "weights alone": (HDF, "only.weights.h5", {}, ("holds weights and no network",)),
    "HDF5 cut": (HDF, "cut.h5", {}, ("is damaged",)),
    "HDF5 of others": (HDF, "noise.h5", {}, ("is damaged",)),
    "custom operators": (LITE, "custom.tflite", {}, ("uses custom operators: Erfinv", "makes")),
    "unknown TFLite operators": (LITE, "unknown.tflite", {}, ("no counterpart of: TFL_BUCKETIZE",)),
    "no TFLite signature": (LITE, "float.tflite", {"params": ["TfliteParams", {"signature": "serve"}]},
                            ("no signature 'serve'",)),
    "flatbuffer cut": (LITE, "cut.tflite", {}, ("is damaged, or no TFLite model",)),
    "flatbuffer of noise": (LITE, "noise.tflite", {}, ("is damaged, or no TFLite model",)),
}  # fmt: skip


@pytest.fixture(scope="module")
def sources(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    for path in made.iterdir():
        if not path.name.endswith(".npz"):
            (shutil.copytree if path.is_dir() else shutil.copyfile)(path, folder / path.name)
    _damage_folders(folder)
    _damage_files(folder)
    return folder


def _damage_folders(folder: Path) -> None:
    for name in ("no-variables", "cut-variables", "cut-graph", "noise-graph"):
        shutil.copytree(folder / ("first" if name == "no-variables" else "two"), folder / name)
    shutil.rmtree(folder / "no-variables" / "variables", ignore_errors=True)
    data = folder / "cut-variables/variables/variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-20])
    graph = (folder / "two/saved_model.pb").read_bytes()
    (folder / "cut-graph/saved_model.pb").write_bytes(graph[: len(graph) // 2])
    (folder / "noise-graph/saved_model.pb").write_bytes(bytes(range(256)) * 4)
    (folder / "empty").mkdir()


def _damage_files(folder: Path) -> None:
    import zipfile

    for kind, whole in (("keras", "conv.keras"), ("h5", "new_dense.h5"), ("tflite", "float.tflite")):
        content = (folder / whole).read_bytes()
        (folder / f"cut.{kind}").write_bytes(content[: len(content) // 3])
    (folder / "noise.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 8)
    (folder / "noise.tflite").write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(range(256)) * 8)
    with zipfile.ZipFile(folder / "conv.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}

    def write(name: str, **changed: bytes) -> None:
        with zipfile.ZipFile(folder / name, "w") as archive:
            for member, content in members.items():
                archive.writestr(member, changed.get(member.replace(".", "_"), content))

    with zipfile.ZipFile(folder / "other.keras", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    write("cut-weights.keras", model_weights_h5=members["model.weights.h5"][:2000])
    write("no-json.keras", config_json=b"{")
    config = members["config.json"]
    gelu = b'"activation": "gelu"'
    assert gelu in config
    call = b'"activation": {"module": "keras.utils", "class_name": "function", "config": "get_file"}'
    write("get-file.keras", config_json=config.replace(gelu, call))
    layer = b'"module": "keras.layers", "class_name": "Activation"'
    assert layer in config
    write("module.keras", config_json=config.replace(layer, b'"module": "subprocess", "class_name": "Popen"'))


@pytest.fixture(scope="module")
def answers(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    jobs = []
    for name, (load, source, settings, _) in CASES.items():
        files = {role: str(sources / file) for role, file in settings.get("files", {}).items()}
        jobs.append({"id": name, "load": load, "source": str(sources / source), **settings, "files": files})
    canary().unlink(missing_ok=True)
    folder = tmp_path_factory.mktemp("refusals")
    found = run_many(folder, jobs)
    # Nothing but the refusals kept the code from running: these jobs are not confined.
    assert not canary().exists()
    assert not list(folder.rglob("canary"))
    return found


@pytest.mark.parametrize("case", CASES)
def test_refused_with_a_reason(answers: dict[str, Any], case: str) -> None:
    answer = answers[case]
    assert answer.get("error") == "ModelError", answer
    text = "\n".join(
        [answer["message"], answer.get("hint", "")]
        + [
            f"{problem.get('path')}: {problem.get('message')}, expected {problem.get('expected')}, "
            f"got {problem.get('got')} {problem.get('hint')}"
            for problem in answer.get("problems", [])
        ]
    )
    for words in CASES[case][3]:
        assert words in text
    assert answer["message"][0] in "'onu" or answer["message"][0].islower()
    assert "Traceback" not in text
    assert str(MODELS) not in answer["message"]

"""JAX functions: converted in a job, ONNX Runtime computes what JAX computes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sdkpack_jax.function import load
from sdkpack_jax.params import JaxParams
from sdkpack_jax.plugin import ENVIRONMENT
from sdkpack_jax.weights import read_weights

from sdkpack.build.context import step_context
from sdkpack.build.progress import NullReporter
from sdkpack.build.store import Store
from sdkpack.errors import ModelError, PluginError
from sdkpack.host.environments import Environments, default_environments
from sdkpack.host.registry import Registry
from sdkpack.host.tools import ToolHost
from sdkpack.plugin import ConvertRequest, EvaluateRequest
from sdkpack.types import TensorSpec

NETS = Path(__file__).parent / "nets.py"
RNG = np.random.default_rng(2)


def weights(*shape: int) -> Any:
    return (RNG.standard_normal(shape) * 0.3).astype("f4")


MLP = {
    "layers/0/w": weights(6, 16), "layers/0/b": weights(16), "layers/1/w": weights(16, 3), "layers/1/b": weights(3),
}  # fmt: skip
CONV = {"a": weights(3, 3, 3, 8), "bias": weights(8), "b": weights(3, 3, 1, 16), "out": weights(16, 5)}
ATTENTION = {"scale": weights(16), **{name: weights(16, 16) for name in "qkvo"}}


@pytest.fixture(scope="module")
def host() -> ToolHost:
    environ = dict(os.environ)
    try:
        Environments(default_environments(environ), environ).ensure(ENVIRONMENT, plugin="jax")
    except PluginError as error:
        pytest.skip(f"the environment of JAX is not there and cannot be built here: {error}")
    return ToolHost(environ=environ)


def job(host: ToolHost, folder: Path, work: Callable[[Any, Any], Any]) -> str:
    """Runs `work` on the converter, in jobs of its own; the log."""
    registry = Registry.of_modules(["sdkpack_jax.plugin"])
    row = registry.converter("jax")
    with step_context(
        "net/convert", plugin="jax", store=Store(folder / "store"), reporter=NullReporter(), cancel=threading.Event(),
        environment={},
    ) as context:  # fmt: skip
        work(host.open(row, row.info.half), context)
        return context.log_file.read_text(errors="replace")


def request_of(function: str, *shapes: tuple[int | str, ...], **options: Any) -> ConvertRequest:
    specs = tuple(TensorSpec(name=f"in{n}", dtype="float32", shape=shape) for n, shape in enumerate(shapes))
    settings = {"allow_code": True, "inputs": specs, **options}
    return ConvertRequest(name="net", source=NETS, params=JaxParams(function=f"nets:{function}"), **settings)


def safetensors(path: Path, arrays: dict[str, Any]) -> None:
    header, data = {}, b""
    for name, array in arrays.items():
        entry = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [len(data), len(data) + array.nbytes]}
        header[name] = entry
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


SHAPES: dict[str, tuple[Any, list[tuple[int, ...]], list[str], int | None]] = {
    "mlp": (("N", 6), [(4, 6), (9, 6)], ["output"], 17),
    "conv": (("N", 32, 32, 3), [(1, 32, 32, 3), (5, 32, 32, 3)], ["output"], None),
    "attention": (("N", "T", 16), [(1, 7, 16), (3, 12, 16)], ["last", "y"], 21),
    "recurrent": (("N", 6, 4), [(2, 6, 4), (5, 6, 4)], ["output_0", "output_1"], 23),
    "fails": (("N", 4), [], [], None),
    "absent": (("N", 4), [], [], None),
    "nchw_window": (("N", 3, 8, 9), [(1, 3, 8, 9), (4, 3, 8, 9)], ["output"], None),
    "wide_window": (("N", 4, 8, 8), [], [], None),
}
"""Function -> declared shape, sizes of samples, names of outputs, opset."""


def save_weights(folder: Path, function: str) -> dict[str, Path]:
    arrays = {"mlp": MLP, "conv": CONV, "attention": ATTENTION}.get(function)
    if arrays is None:
        return {}
    path = folder / f"{function}.weights"
    if function == "conv":
        safetensors(path, arrays)
    else:
        with path.open("wb") as out:
            np.savez(out, **arrays)
    return {"params": path}


def save_samples(folder: Path, function: str) -> list[Path]:
    paths = []
    for number, size in enumerate(SHAPES[function][1]):
        paths.append(folder / f"{function}-{number}.npz")
        np.savez(paths[-1], in0=RNG.standard_normal(size).astype("f4"))
    return paths


@pytest.fixture(scope="module")
def converted(host: ToolHost, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of each function, all in one process (see convert_all.py)."""
    folder = tmp_path_factory.mktemp("jax")
    cases = [
        {
            "function": name, "shape": shape, "opset": opset,
            "files": {role: str(path) for role, path in save_weights(folder, name).items()},
            "samples": [str(path) for path in save_samples(folder, name)],
        }
        for name, (shape, _, _, opset) in SHAPES.items()
    ]  # fmt: skip
    (folder / "requests.json").write_text(json.dumps(cases))
    environment = host.environments.find(ENVIRONMENT)
    assert environment is not None
    script = [str(NETS.parent / "convert_all.py"), str(folder / "requests.json"), str(folder)]
    done = subprocess.run(
        [str(environment.python), "-I", "-B", *script], env={"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return {"folder": folder, **found}


def compare(function: str, model: Path, samples: list[Path], answers: list[Path]) -> float:
    """The greatest normalised error of any output."""
    import onnx
    import onnxruntime

    shape, _, outputs, opset = SHAPES[function]
    content = onnx.load(model)
    assert [output.name for output in content.graph.output] == outputs
    (value,) = content.graph.input
    assert [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] == list(shape)
    assert content.opset_import[0].version == (opset or 18)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    worst = 0.0
    for sample, answer in zip(samples, answers, strict=True):
        with np.load(sample) as inputs, np.load(answer) as expected:
            for name, found in zip(outputs, session.run(outputs, dict(inputs)), strict=True):
                wanted = expected[name]
                assert found.shape == wanted.shape
                worst = max(worst, float(np.abs(found - wanted).max() / np.abs(wanted).max()))
    return worst


@pytest.mark.parametrize("function", ["mlp", "conv", "attention", "recurrent", "nchw_window"])
def test_computes_what_jax_computes(function: str, converted: dict[str, Any]) -> None:
    found = converted[function]
    assert "error" not in found, found
    samples = [converted["folder"] / f"{function}-{number}.npz" for number in range(2)]
    answers = [Path(path) for path in found["answers"]]
    # Sums of float32 in another order.
    assert compare(function, Path(found["model"]), samples, answers) <= 1e-5


@pytest.mark.parametrize(
    ("function", "error", "said"),
    [
        ("fails", "ModelError", "function 'nets:fails' fails on float32.*ValueError: not today"),
        ("absent", "ModelError", "cannot be loaded: AttributeError"),
        # jax2onnx 0.17.1 writes a MaxPool over four axes, which ONNX Runtime does not have.
        ("wide_window", "StepError", "wrote a graph that is not the function"),
    ],
)
def test_what_fails_is_told(function: str, error: str, said: str, converted: dict[str, Any]) -> None:
    found = converted[function]
    assert found.get("error") == error, found
    assert re.search(said, found["message"]), found["message"]
    assert found["hint"]


def test_in_jobs_of_its_own(host: ToolHost, tmp_path: Path) -> None:
    request = request_of("mlp", ("N", 6), files=save_weights(tmp_path, "mlp"), opset=17)
    samples = save_samples(tmp_path, "mlp")

    def both(tool: Any, context: Any) -> None:
        result = tool.convert(request, context)
        asked = EvaluateRequest(conversion=request, model=result.model, samples=tuple(samples))
        answers = list(tool.evaluate(asked, context).outputs)
        assert compare("mlp", result.model, samples, answers) <= 1e-5

    assert "nets was loaded" in job(host, tmp_path, both)


def test_without_leave_nothing_of_the_file_runs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError, match=r"'nets\.py' is a Python program") as caught:
        load(request_of("mlp", ("N", 6), allow_code=False), tmp_path)
    assert "allow_code = true" in caught.value.hint
    assert "nets was loaded" not in "".join(capfd.readouterr())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (request_of("mlp"), "does not say what it takes"),
        (request_of("mlp", ("?", 6)), "each dimension needs a size or a name"),
        (request_of("mlp", inputs=(TensorSpec(name="x", dtype="int64", shape=(1,)),)), "its type is none of"),
        (
            ConvertRequest(
                name="net", source=NETS, params=JaxParams(function="other:mlp"), allow_code=True,
                inputs=(TensorSpec(name="x", dtype="float32", shape=(1,)),),
            ),
            "the function is 'other:mlp'",
        ),
    ],
)  # fmt: skip
def test_what_is_declared_is_checked_first(request_: ConvertRequest, said: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        load(request_, tmp_path)
    assert caught.value.hint


def test_a_function_is_named_in_full() -> None:
    with pytest.raises(ValueError, match="expected module:function"):
        JaxParams(function="forward")


def test_weights_are_a_tree(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", **MLP)
    safetensors(tmp_path / "w.safetensors", {name.replace("/", "."): array for name, array in MLP.items()})
    for name in ("w.npz", "w.safetensors"):
        tree = read_weights(tmp_path / name)
        assert [sorted(layer) for layer in tree["layers"]] == [["b", "w"], ["b", "w"]]
        assert np.array_equal(tree["layers"][1]["w"], MLP["layers/1/w"])


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    safetensors(tmp_path / "whole", MLP)
    content = (tmp_path / "whole").read_bytes()
    for bad in (b"", b"\xff" * 40, content[:20], content[:-4], (2**40).to_bytes(8, "little") + content[8:]):
        (tmp_path / "bad").write_bytes(bad)
        with pytest.raises(ModelError, match="no weights that can be read"):
            read_weights(tmp_path / "bad")
    objects = np.empty(1, object)
    np.savez(tmp_path / "objects.npz", w=objects)
    with pytest.raises(ModelError, match="no weights that can be read"):
        read_weights(tmp_path / "objects.npz")

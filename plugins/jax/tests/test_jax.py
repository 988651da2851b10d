"""JAX functions: converted in a job, ONNX Runtime computes what JAX computes."""

from __future__ import annotations

import json
import os
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
from sdkpack.errors import ModelError, PluginError, SdkpackError
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


@pytest.mark.parametrize(
    ("function", "arrays", "shape", "sizes", "outputs", "opset"),
    [
        ("mlp", MLP, ("N", 6), [(4, 6), (9, 6)], ["output"], 17),
        ("conv", CONV, ("N", 32, 32, 3), [(1, 32, 32, 3), (5, 32, 32, 3)], ["output"], 18),
        ("attention", ATTENTION, ("N", "T", 16), [(1, 7, 16), (3, 12, 16)], ["last", "y"], 21),
        ("recurrent", None, ("N", 6, 4), [(2, 6, 4), (5, 6, 4)], ["output_0", "output_1"], None),
    ],
)
def test_computes_what_jax_computes(
    function: str, arrays: Any, shape: Any, sizes: Any, outputs: list[str], opset: int | None,
    host: ToolHost, tmp_path: Path,
) -> None:  # fmt: skip
    import onnx
    import onnxruntime

    files = {}
    if arrays is not None:
        files["params"] = tmp_path / "weights"
        if function == "conv":
            safetensors(files["params"], arrays)
        else:
            with files["params"].open("wb") as out:
                np.savez(out, **arrays)
    request = request_of(function, shape, files=files, opset=opset)
    samples = []
    for number, size in enumerate(sizes):
        samples.append(tmp_path / f"{number}.npz")
        np.savez(samples[-1], in0=RNG.standard_normal(size).astype("f4"))

    def both(tool: Any, context: Any) -> None:
        result = tool.convert(request, context)
        model = onnx.load(result.model)
        assert [output.name for output in model.graph.output] == outputs
        (value,) = model.graph.input
        assert [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] == list(shape)
        assert model.opset_import[0].version == (opset or 18)
        asked = EvaluateRequest(conversion=request, model=result.model, samples=tuple(samples))
        session = onnxruntime.InferenceSession(str(result.model), providers=["CPUExecutionProvider"])
        for sample, answer in zip(samples, tool.evaluate(asked, context).outputs, strict=True):
            found = dict(zip(outputs, session.run(outputs, dict(np.load(sample))), strict=True))
            with np.load(answer) as expected:
                for name in outputs:
                    assert found[name].shape == expected[name].shape
                    # Sums of float32 in another order.
                    assert np.abs(found[name] - expected[name]).max() <= 1e-5 * np.abs(expected[name]).max()

    assert "nets was loaded" in job(host, tmp_path, both)


@pytest.mark.parametrize(
    ("function", "shape", "said"),
    [
        ("fails", ("N", 4), "function 'nets:fails' fails on float32.*ValueError: not today"),
        ("absent", ("N", 4), "cannot be loaded: AttributeError"),
        # jax2onnx 0.17.1 takes N and C for sides of the window.
        ("nchw_window", ("N", 3, 8, 8), "wrote a graph that is not the function"),
    ],
)
def test_what_fails_is_told(function: str, shape: Any, said: str, host: ToolHost, tmp_path: Path) -> None:
    def convert(tool: Any, context: Any) -> None:
        tool.convert(request_of(function, shape), context)

    with pytest.raises(SdkpackError, match=said) as caught:
        job(host, tmp_path, convert)
    assert caught.value.hint


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

"""Opening from memory and from a bundle file, and running."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sdkpack_onnxruntime.needs import TOKEN, meets
from sdkpack_onnxruntime.run import OnnxRuntimeRunner

from plugins.onnxruntime.tests.parts import MemoryBlob, products
from sdkpack.errors import InputError, RunError

if TYPE_CHECKING:
    from pathlib import Path

OPEN = OnnxRuntimeRunner().open
X = np.random.default_rng(1).standard_normal((3, 128)).astype("float32")


def assert_close(got: Any, expected: Any) -> None:
    """float32 sums of 128 terms: 1e-5 of the largest value is some 80 roundings."""
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("weights", ["packed", "shared"])
@pytest.mark.parametrize("optimization", ["all", "extended", "basic", "off"])
def test_opens_from_memory(weights: str, optimization: str) -> None:
    part = products()
    session = OPEN(part.request(options={"weights": weights, "optimization": optimization}))
    assert_close(session.run({"x": X})["r1"], part.expected(X))


@pytest.mark.parametrize("weights", ["packed", "shared"])
def test_opens_from_a_plain_bundle_without_loading_the_weights(weights: str, tmp_path: Path) -> None:
    part = products()
    files = part.in_bundle(tmp_path / "a bundle.sdkpack")  # its weights refuse to be loaded
    session = OPEN(part.request(files, options={"weights": weights}))
    assert_close(session.run({"x": X})["r1"], part.expected(X))
    assert [p.name for p in tmp_path.iterdir()] == ["a bundle.sdkpack"]


def test_opens_a_plain_bundle_through_a_symbolic_link(tmp_path: Path) -> None:
    part = products()
    (tmp_path / "store").mkdir()
    files = part.in_bundle(tmp_path / "store" / "real")
    (tmp_path / "link").symlink_to("store/real")
    files["weights"].place = (tmp_path / "link", 65536, len(part.weights))
    assert_close(OPEN(part.request(files)).run({"x": X})["r1"], part.expected(X))


def test_an_encrypted_bundle_is_never_read_from_a_file(tmp_path: Path) -> None:
    part = products()
    files = part.in_bundle(tmp_path / "b", before=b"")
    files["weights"].media_type = ""
    (tmp_path / "b").write_bytes(bytes(len(part.weights)))  # reading it would give zeros
    session = OPEN(part.request(files, encrypted=True))
    assert_close(session.run({"x": X})["r1"], part.expected(X))


@pytest.mark.parametrize("weights", ["packed", "shared"])
def test_weights_stay_right_after_everybody_else_forgot_them(weights: str) -> None:
    """THREATS row 23: pointers into a freed buffer give wrong numbers silently."""
    part = products(layers=8, size=256)
    x = np.random.default_rng(2).standard_normal((5, 256)).astype("float32")
    session = OPEN(part.request(options={"weights": weights}))
    first = session.run({"x": x})["r7"]
    for _ in range(5):
        gc.collect()
        garbage = [np.full(256 * 256, np.nan, "float32") for _ in range(64)]  # what freed memory would be reused for
        np.testing.assert_array_equal(session.run({"x": x})["r7"], first)
        del garbage
    assert_close(first, part.expected(x))


def test_packed_weights_give_the_decrypted_memory_back_and_shared_ones_keep_it() -> None:
    part = products()
    for weights, released in (("packed", 1), ("shared", 0)):
        request = part.request(options={"weights": weights})
        session = OPEN(request)
        assert request.files["weights"].released == released
        session.close()


def test_shared_weights_really_are_the_memory_that_was_handed_out() -> None:
    """Changing that memory changes the answer: the proof that there is no second copy."""
    part = products(layers=1)
    request = part.request(options={"weights": "shared", "optimization": "off"})
    session = OPEN(request)
    request.files["weights"].memory()[:] = bytes(len(part.weights))
    assert not session.run({"x": X})["r0"].any()


def test_a_model_that_cannot_share_is_packed_instead(caplog: pytest.LogCaptureFixture) -> None:
    part = products(transposed=True)
    request = part.request(options={"weights": "shared"})
    with caplog.at_level("INFO", logger="sdkpack"):
        session = OPEN(request)
    assert "packed instead" in caplog.text
    assert_close(session.run({"x": X})["r1"], part.expected(X))
    assert request.files["weights"].released == 1


def test_a_model_without_weights_needs_no_files_for_them() -> None:
    part = products(layers=1)
    graph = OPEN(part.request()).names()
    assert graph == (["x"], ["r0"])
    with pytest.raises(RunError, match="no file 'tensors'"):
        OPEN(part.request({"graph": MemoryBlob(part.graph), "weights": MemoryBlob(part.weights)}, encrypted=True))
    with pytest.raises(RunError, match="Node input 'w0' is not a graph input"):
        OPEN(part.request({"graph": MemoryBlob(part.graph)}, encrypted=True))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "input 'x' is missing"),
        ({"x": X, "z": X}, "input 'z' is unknown"),
        ({"x": X.astype("float64")}, "got float64, expected float32"),
        ({"x": X[0]}, r"got \[128\], expected \['N', 128\]"),
        ({"x": X[:, :64]}, r"got \[3, 64\], expected \['N', 128\]"),
        ({"x": X.tolist()}, "is a list, expected a NumPy array"),
    ],
)
def test_wrong_inputs_say_what_was_expected(inputs: dict[str, Any], message: str) -> None:
    session = OPEN(products().request())
    with pytest.raises(InputError, match=message):
        session.run(inputs)


def test_arrays_in_any_memory_order_work() -> None:
    part = products()
    session = OPEN(part.request())
    expected = session.run({"x": X})["r1"]
    np.testing.assert_array_equal(session.run({"x": np.asfortranarray(X)})["r1"], expected)
    np.testing.assert_array_equal(session.run({"x": np.repeat(X, 2, axis=1)[:, ::2]})["r1"], expected)


def test_many_threads_get_their_own_answers() -> None:
    part = products()
    session = OPEN(part.request(options={"weights": "shared"}))
    wrong: list[int] = []

    def work(seed: int) -> None:
        x = np.random.default_rng(seed).standard_normal((seed + 1, 128)).astype("float32")
        expected = part.expected(x)
        for _ in range(30):
            if np.abs(session.run({"x": x})["r1"] - expected).max() > 1e-5 * np.abs(expected).max():
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_close_may_come_twice_and_ends_runs() -> None:
    session = OPEN(products().request())
    session.close()
    session.close()
    with pytest.raises(RunError, match="closed"):
        session.run({"x": X})


@pytest.mark.parametrize(
    "option",
    [
        {"optimized_model_filepath": "/x"}, {"enable_profiling": True}, {"custom_op_library": "x.so"},
        {"session.optimized_model_external_initializers_file_name": "x"}, {"threads": "2"}, {"arena": 1},
        {"optimization": "most"}, {"weights": "auto"}, {"device": None},
    ],
)  # fmt: skip
def test_options_that_write_load_code_or_mean_nothing_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(RunError, match=r"not allowed|impossible value"):
        OPEN(products().request(options=option))


def test_an_absent_device_is_an_error_and_no_fall_back() -> None:
    with pytest.raises(RunError, match=r"device 'cuda' is not available, got .*cpu"):
        OPEN(products().request(device="cuda"))


def test_a_memory_limit_below_the_weights_is_refused() -> None:
    with pytest.raises(RunError, match="memory limit leaves 1000"):
        OPEN(products().request(memory_limit_bytes=1000))


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows[0].__setitem__(3, -4),
        lambda rows: rows[0].__setitem__(3, 1 << 40),
        lambda rows: rows[0].__setitem__(4, 4),
        lambda rows: rows[0].__setitem__(2, [128, 129]),
        lambda rows: rows[0].__setitem__(2, [128.0, 128]),
        lambda rows: rows[0].__setitem__(1, "float128"),
        lambda rows: rows[0].append(1),
        lambda rows: rows.clear() or rows.append("row"),
    ],
)
def test_a_table_that_would_read_other_memory_is_refused(change: Any) -> None:
    part = products()
    table = json.loads(part.tensors)
    change(table["tensors"])
    files = dict(part.request().files)
    files["tensors"] = MemoryBlob(json.dumps(table).encode())
    with pytest.raises(RunError, match="table of weights is malformed"):
        OPEN(part.request(files, encrypted=True))


def test_a_tensor_that_the_table_lacks_makes_opening_fail() -> None:
    part = products()
    table = json.loads(part.tensors)
    del table["tensors"][0]
    files = dict(part.request().files)
    files["tensors"] = MemoryBlob(json.dumps(table).encode())
    with pytest.raises(RunError, match="w0"):
        OPEN(part.request(files, encrypted=True))


def test_check_names_the_unmet_need() -> None:
    runner = OnnxRuntimeRunner()
    assert runner.check({"version": ">=1.23", "device": "cpu"}, TOKEN).verdict == "works"
    assert runner.check({}, TOKEN).verdict == "works"
    assert "onnxruntime >=99 is needed" in runner.check({"version": ">=99"}, TOKEN).reason
    assert "device 'cuda' is needed" in runner.check({"device": "cuda"}, TOKEN).reason
    assert "generation" in runner.check({}, "onnx-split/9").reason
    assert "cpu" in {device.name for device in runner.devices()}


@pytest.mark.parametrize(
    ("version", "wanted", "met"),
    [
        ("1.23.0", ">=1.23", True), ("1.9.0", ">=1.23", False), ("1.32.0+cpu", ">=1.23,<2", True),
        ("2.0", "<2", False), ("1.32.0", "!=1.32.0", False),
        ("1.32.0.dev1", "==1.32", True), ("1.32.0", "", True), ("1.32.0", "~=1.2", False),
    ],
)  # fmt: skip
def test_version_ranges(version: str, wanted: str, met: bool) -> None:
    assert meets(version, wanted) is met


LEAVES_NOTHING = """
import os, pathlib, sys, time
import numpy as np
from sdkpack.plugin import OpenRequest
from sdkpack.types import TensorSpec
from sdkpack_onnxruntime.run import OnnxRuntimeRunner

class Blob:
    def __init__(self, path):
        self.content = bytearray(path.read_bytes())
        self.size_bytes = len(self.content)
    def memory(self):
        return memoryview(self.content)
    def file_range(self):
        return None
    def release(self):
        pass

files = {name: Blob(pathlib.Path(sys.argv[1], name)) for name in ("graph", "weights", "tensors")}
spec = TensorSpec(name="x", dtype="float32", shape=("N", 128))
session = OnnxRuntimeRunner().open(OpenRequest(files=files, inputs=(spec,), outputs=(), encrypted=True))
session.run({"x": np.ones((1, 128), "float32")})
time.sleep(0.5)
print(sorted({"click", "pydantic", "onnx"} & set(sys.modules)), "ORT_DISABLE_TELEMETRY" in os.environ)
"""


def test_running_writes_nothing_below_home_and_imports_no_onnx(tmp_path: Path) -> None:
    """onnxruntime 1.32's telemetry writes below HOME as soon as it is imported, unless it is told not to before."""
    home, files = tmp_path / "home", tmp_path / "files"
    home.mkdir()
    files.mkdir()
    products().model_input(files)
    clean = {"HOME": str(home), "PATH": os.environ["PATH"], "TMPDIR": str(home)}
    command = [sys.executable, "-c", LEAVES_NOTHING, str(files)]
    done = subprocess.run(command, env=clean, cwd=home, check=True, capture_output=True, text=True)
    assert done.stdout == "[] False\n"
    assert list(home.rglob("*")) == []
    assert done.stderr == ""


NO_ONNX = (
    "import sys, sdkpack_onnxruntime.run; sdkpack_onnxruntime.run.load_library(); assert 'onnx' not in sys.modules"
)
NO_TOOLCHAIN = (
    "import sys, sdkpack_onnxruntime.plugin as p; rows = p.sdkpack_runtimes();"
    "assert rows[0].name == 'onnxruntime';"
    "assert not {'onnxruntime', 'onnx', 'numpy'} & set(sys.modules), sys.modules"
)


@pytest.mark.parametrize("code", [NO_ONNX, NO_TOOLCHAIN], ids=["runner", "descriptor"])
def test_nothing_heavy_is_imported_too_early(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)

"""Loading a model of 400 MiB: from an encrypted bundle and a plain one, beside the ways without sdkpack.

Each run is a process of its own, so that resident memory is its own. "Ready" is from opening the file to a session
that could run; "resident" is what the process gained by then, "peak" the most it gained on the way.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import machine, show

if TYPE_CHECKING:
    from collections.abc import Callable

RUNS = 5
LAYERS, WIDTH = 25, 2048  # 25 matrices of 16 MiB
WEIGHTS_MIB = LAYERS * WIDTH * WIDTH * 4 / (1 << 20)
KEY = bytes(range(32))
MODEL_TYPE = "application/vnd.onnx"


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="sdkpack-bench-") as name:
        folder = Path(name)
        _make(folder)
        found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for _ in range(RUNS + 1):
            for side in SIDES:
                found[side].append(_child(side, folder))
    # The first round warms the page cache.
    figures = {
        side: {key: statistics.median(run[key] for run in runs[1:]) for key in runs[0]} for side, runs in found.items()
    }
    base = {
        "encrypted": figures["decrypt to bytes, session from bytes"],
        "plain": figures["onnxruntime, external data"],
    }
    rows = [
        ("way", "ready s", "ratio", "CPU s", "resident MiB", "per weight", "peak MiB", "run ms, batch 1", "batch 64")
    ]
    for side, figure in figures.items():
        ready = figure["ready_s"] / base["plain" if "plain" in side or "external" in side else "encrypted"]["ready_s"]
        rows.append(
            (
                side, f"{figure['ready_s']:.3f}", f"{ready:.2f}", f"{figure['cpu_s']:.3f}",
                f"{figure['resident_mib']:.0f}",
                f"{figure['resident_mib'] / WEIGHTS_MIB:.2f}", f"{figure['peak_mib']:.0f}",
                f"{figure['run_1_ms']:.1f}", f"{figure['run_64_ms']:.0f}",
            )
        )  # fmt: skip
    show(f"Loading {WEIGHTS_MIB:.0f} MiB of weights, medians of {RUNS} interleaved runs ({machine()})", rows)
    print("  goals: encrypted ready <= 0.5, resident <= 1.1 per weight; plain ready <= 1.2")


def _make(folder: Path) -> None:
    """The model as one file, as external data, and in two bundles that hold it split and whole."""
    import numpy as np
    from onnx import TensorProto, helper

    from sdkpack.bundle import BlobSource, BundleContent, FileItem, Seal, write_bundle
    from sdkpack.crypto.recipients import Kek
    from sdkpack.model.external import ExternalFolder
    from sdkpack.model.join import join_external, join_inline
    from sdkpack.model.load import parse_model
    from sdkpack.model.split import split_model
    from sdkpack.model.table import write_table

    nodes, value, rng = [], "x", np.random.default_rng(0)
    tensors = []
    for number in range(LAYERS):
        nodes.append(helper.make_node("MatMul", [value, f"w{number:02}"], [f"h{number}"], f"product{number}"))
        nodes.append(helper.make_node("Relu", [f"h{number}"], [f"r{number}"], f"relu{number}"))
        value = f"r{number}"
        matrix = rng.standard_normal((WIDTH, WIDTH), dtype="float32") / np.float32(WIDTH**0.5)
        tensors.append(TensorProto(name=f"w{number:02}", data_type=1, dims=[WIDTH, WIDTH], raw_data=matrix.tobytes()))
    shape = ["N", WIDTH]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, shape)], [helper.make_tensor_value_info(value, 1, shape)],
        tensors,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with ExternalFolder(None) as files:
        split = split_model(parse_model(model.SerializeToString()), files)
        weights = split.weights.read_all()
    (folder / "weights").write_bytes(weights)
    (folder / "model.onnx").write_bytes(join_external(split.graph, split.tensors, "weights"))
    with (folder / "inline.onnx").open("wb") as file:
        file.writelines(join_inline(split.graph, split.tensors, weights))
    parts = {"graph": split.graph, "tensors": write_table(split.tensors)}
    items = [FileItem(path=k, media_type=MODEL_TYPE, source=BlobSource.from_bytes(v)) for k, v in parts.items()]
    items += [
        FileItem(path=name, media_type=MODEL_TYPE, source=BlobSource.from_path(folder / name))
        for name in ("weights", "inline.onnx")
    ]
    content = BundleContent(manifest={"name": "bench", "version": "1", "sequence": 0}, files=tuple(items))
    write_bundle(content, folder / "plain.sdkpack", seal=None)
    write_bundle(content, folder / "sealed.sdkpack", seal=Seal(recipients=(Kek(KEY),)))


# What a child process does ----------------------------------------------------------------------------------------
def _bundle(path: Path) -> Any:
    from sdkpack.bundle import TrustPolicy, open_bundle
    from sdkpack.crypto.recipients import Kek

    # Checked as it is read: a plain bundle's weights are hashed by whoever wants that, as a plain file's would be.
    return open_bundle(path).verify(policy=TrustPolicy(allow_unsigned=True), identities=[Kek(KEY)], check_blobs=False)


def _naive(folder: Path) -> Callable[[Any], Any]:
    content = _bundle(folder / "sealed.sdkpack").read("inline.onnx")
    return _plain_session(content)


def _external(folder: Path) -> Callable[[Any], Any]:
    return _plain_session(str(folder / "model.onnx"))


def _plain_session(model: Any) -> Callable[[Any], Any]:
    from sdkpack_onnxruntime.library import load_library

    session = load_library().InferenceSession(model, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x})[0]


def _ours(folder: Path, *, sealed: bool, weights: str) -> Callable[[Any], Any]:
    from sdkpack_onnxruntime.run import OnnxRuntimeRunner

    from sdkpack.plugin import OpenRequest
    from sdkpack.session.blobs import BundleBlob
    from sdkpack.types import TensorSpec

    bundle = _bundle(folder / ("sealed.sdkpack" if sealed else "plain.sdkpack"))
    files = {role: BundleBlob(bundle, role) for role in ("graph", "weights", "tensors")}
    spec = TensorSpec(name="x", dtype="float32", shape=("N", WIDTH))
    request = OpenRequest(files=files, inputs=(spec,), outputs=(), options={"weights": weights}, encrypted=sealed)
    session = OnnxRuntimeRunner().open(request)
    return lambda x: next(iter(session.run({"x": x}).values()))


SIDES: dict[str, Callable[[Path], Callable[[Any], Any]]] = {
    "decrypt to bytes, session from bytes": _naive,
    "sdkpack, encrypted, shared": lambda folder: _ours(folder, sealed=True, weights="shared"),
    "sdkpack, encrypted, packed": lambda folder: _ours(folder, sealed=True, weights="packed"),
    "onnxruntime, external data": _external,
    "sdkpack, plain, shared": lambda folder: _ours(folder, sealed=False, weights="shared"),
    "sdkpack, plain, packed": lambda folder: _ours(folder, sealed=False, weights="packed"),
}


def _child(side: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.load", "--child", side, str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def _measure(side: str, folder: Path) -> dict[str, float]:
    import numpy as np
    from sdkpack_onnxruntime.library import load_library

    load_library()
    before = _status()
    start, cpu = time.perf_counter(), time.process_time()
    run = SIDES[side](folder)
    ready, spent = time.perf_counter() - start, time.process_time() - cpu
    run(np.ones((1, WIDTH), "float32"))  # touches every weight, so that mapped ones count
    after = _status()
    return {
        "ready_s": ready,
        "cpu_s": spent,
        "resident_mib": after["VmRSS"] - before["VmRSS"],
        "peak_mib": after["VmHWM"] - before["VmRSS"],
        "run_1_ms": _time_ms(run, np.ones((1, WIDTH), "float32")),
        "run_64_ms": _time_ms(run, np.ones((64, WIDTH), "float32")),
    }


def _time_ms(run: Callable[[Any], Any], x: Any) -> float:
    found = []
    for _ in range(5):
        start = time.perf_counter()
        run(x)
        found.append(time.perf_counter() - start)
    return statistics.median(found) * 1000


def _status() -> dict[str, float]:
    """Memory figures of this process in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    pairs = (line.split(":") for line in lines if line.startswith("Vm"))
    return {name: int(value.split()[0]) / 1024 for name, value in pairs}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(_measure(sys.argv[2], Path(sys.argv[3]))))
        sys.stdout.flush()
        os._exit(0)
    main()

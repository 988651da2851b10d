"""The passes for large models on 2.4 GB of weights: `python -m benchmarks.optimizers.large`.

A stack of matrices in one file beside the model, with what an exporter leaves between them. All passes with the
capability `large` run in their order, in this process; memory is what the process allocates (RssAnon), since pages of
the mapped weights are the kernel's to take back.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import machine, show
from benchmarks.optimizers.environments import ROOT

_LAYERS: Final = 24
_WIDTH: Final = 5000
FOLDER: Final = ROOT / "build/optimize/large"


@dataclass(frozen=True)
class _Context:
    work: Path
    seed: int = 0
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("bench"))

    def progress(self, fraction: float | None, text: str = "") -> None: ...

    def run(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("passes start no programs")


def main() -> None:
    from sdkpack.host.registry import Registry, load_class
    from sdkpack.plugin import ModelFile, OptimizeRequest

    path = _built()
    found = Registry.of_modules(["sdkpack_optimize.plugin"]).optimizers()
    rows = [row for row in sorted(found, key=lambda row: len(row.info.after)) if "large" in row.info.capabilities]
    lines = [("pass", "seconds", "MiB above the start", "modified")]
    size = (FOLDER / "weights.bin").stat().st_size
    with tempfile.TemporaryDirectory(dir=FOLDER) as work, _peak() as peak:
        begin = time.perf_counter()
        for number, row in enumerate(rows):
            folder = Path(work) / str(number)
            folder.mkdir()
            start = time.perf_counter()
            request = OptimizeRequest(model=ModelFile(name="large", path=path, inputs=(), outputs=()))
            result = load_class(row, row.info.half.load)().optimize(request, _Context(folder))
            if result.modified:
                # As the core does: the model goes to where its data is.
                path = path.with_name(f"result-{number}.onnx")
                shutil.copyfile(result.model, path)
            seconds = time.perf_counter() - start
            lines.append((row.info.name, f"{seconds:.2f}", f"{peak[0]:.0f}", "yes" if result.modified else ""))
        lines.append(("all", f"{time.perf_counter() - begin:.2f}", f"{peak[0]:.0f}", ""))
    show(f"Passes for large models, {size / 1e9:.1f} GB of weights beside it ({machine()}); goal 10 s, 512 MiB", lines)


def _built() -> Path:
    """x * w0 * w1 ..., each behind an Identity and a multiplication by one."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    path = FOLDER / "large.onnx"
    if path.exists():
        return path
    FOLDER.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    nodes, tensors = [], [numpy_helper.from_array(np.array(1, np.float32), "one")]
    block = _WIDTH * _WIDTH * 4
    with (FOLDER / "weights.bin").open("wb") as file:
        for layer in range(_LAYERS):
            file.write((rng.standard_normal((_WIDTH, _WIDTH), np.float32) / _WIDTH**0.5).tobytes())
            tensor = TensorProto(name=f"w{layer}", data_type=TensorProto.FLOAT, dims=[_WIDTH, _WIDTH])
            tensor.data_location = TensorProto.EXTERNAL
            place = {"location": "weights.bin", "offset": str(layer * block), "length": str(block)}
            for key, value in place.items():
                tensor.external_data.add(key=key, value=value)
            tensors.append(tensor)
            before = f"h{layer - 1}" if layer else "x"
            nodes += [
                helper.make_node("Identity", [before], [f"i{layer}"]),
                helper.make_node("Mul", [f"i{layer}", "one"], [f"m{layer}"]),
                helper.make_node("MatMul", [f"m{layer}", f"w{layer}"], [f"h{layer}"]),
            ]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", _WIDTH]) for name in ("x", nodes[-1].output[0])
    ]
    graph = helper.make_graph(nodes, "large", values[:1], values[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


@contextmanager
def _peak() -> Iterator[list[float]]:
    """The most that the process allocated meanwhile, in MiB above the start; looked at every 10 ms."""
    peak, done = [0.0], threading.Event()
    start = _allocated()

    def watch() -> None:
        while not done.wait(0.01):
            peak[0] = max(peak[0], _allocated() - start)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def _allocated() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


if __name__ == "__main__":
    main()

"""Optimisers side by side: node counts, constants, verdicts and latency, on published models and torch's exports.

`python -m benchmarks optimize` builds what it needs under build/ at the first run, some GB. Ours is the command
`sdkpack optimize` at its default level; the peers run with their defaults in environments of their own.
Names of models after the command choose among them: `python -m benchmarks.optimize "face RFB-320"`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import interleaved, machine, show
from benchmarks.optimizers.environments import ROOT, python_of
from benchmarks.optimizers.models import models

PEERS: Final = ("onnxslim", "onnxsim", "onnxoptimizer", "onnxscript", "onnxruntime")
FOLDER: Final = ROOT / "build/optimize"
_ROUNDS: Final = 15
_REPEAT_S: Final = 0.02
"""Short models are run several times in a turn, so that a turn is more than the clock's noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one optimiser made of one model."""

    path: Path
    seconds: float
    verdict: str
    nodes: int
    bytes: int


def main() -> None:
    chosen = sys.argv[1:]
    rows = [("model", "nodes", "sdkpack", *PEERS, "least of peers", "constants", "onnxruntime", "OpenVINO", "s")]
    faults, slow, larger = [], [], []
    for name, path in models().items():
        if chosen and name not in chosen:
            continue
        ours, peers, ratios = _one(name, path)
        before = _size(path)
        right = [result.nodes for result in peers.values() if result.nodes]
        rows.append(
            (
                name,
                str(before[0]),
                _cell(ours),
                *(_cell(peers[peer]) for peer in PEERS),
                f"{min(right)}{'' if ours.nodes <= min(right) else ' MISSED'}",
                f"{ours.bytes / max(before[1], 1):.3f}x",
                *(f"{ratio:.2f}x" if ratio else "-" for ratio in ratios),
                f"{ours.seconds:.0f}",
            )
        )
        print(f"bench: {' | '.join(rows[-1])}", flush=True)
        faults += [f"{who} on {name}: {result.verdict}" for who, result in (("sdkpack", ours), *peers.items())
                   if result.verdict != "ok"]  # fmt: skip
        slow += [name] if ratios[0] and ratios[0] > 1.05 else []
        larger += [name] if ours.nodes > min(right) else []
    show(
        f"Optimisers: nodes, subgraphs included, ! where the result is not right; constants, and latency with the "
        f"runtime's own optimiser on, against the model as it came; onnxruntime {version('onnxruntime')} ({machine()})",
        rows,
    )
    for fault in faults:
        print(f"  ! {fault}")
    print(f"  more nodes than a peer: {', '.join(larger) or 'none'}; slower than 1.05x: {', '.join(slow) or 'none'}")


def _one(name: str, path: Path) -> tuple[Result, dict[str, Result], tuple[float, float]]:
    from benchmarks.optimizers.verdicts import questions_of

    questions = questions_of(path)
    ours = _ours(name, path, questions)
    peers = {peer: _peer(peer, name, path, questions) for peer in PEERS}
    return (
        ours,
        peers,
        (_latency(path, ours.path, questions[0].trial.inputs), _second(path, ours.path, questions[0].trial.inputs)),
    )


def _ours(name: str, path: Path, questions: Any) -> Result:
    from benchmarks.optimizers.verdicts import RANGES

    target = _target(name, "sdkpack")
    ranges = [word for key, (least, most) in RANGES.items() if name.startswith("minilm")
              for word in ("--range", f"{key}={least:g}:{most:g}")]  # fmt: skip
    command = [str(Path(sys.executable).with_name("sdkpack")), "optimize", str(path), "-o", str(target), "-f", "--json"]
    with tempfile.TemporaryDirectory() as store:
        start = time.perf_counter()
        done = subprocess.run(
            [*command, *ranges, "--store", store], check=False, capture_output=True, text=True, env=_environ()
        )
        seconds = time.perf_counter() - start
    if done.returncode != 0:
        raise SystemExit(f"sdkpack optimize {path.name}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    target.with_suffix(".json").write_text(done.stdout)
    return _judged(path, target, questions, seconds)


def _peer(peer: str, name: str, path: Path, questions: Any) -> Result:
    """The peer's result is kept: it is the same each time, as far as its environment is."""
    target = _target(name, peer)
    facts = target.with_name(f"{target.name}.json")
    if not facts.exists():
        script = Path(__file__).parent / "optimizers/peer.py"
        command = [str(python_of(peer)), str(script), peer, str(path), str(target)]
        done = subprocess.run(command, check=False, capture_output=True, env=_environ(), timeout=1800)
        if done.returncode != 0:
            target.unlink(missing_ok=True)
            facts.write_text(json.dumps({"seconds": 0, "failed": done.returncode}))
    said = json.loads(facts.read_text())
    if not target.exists():
        how = "crashed" if said.get("failed", 0) < 0 else "failed"
        return Result(path=target, seconds=0, verdict=how, nodes=0, bytes=0)
    return _judged(path, target, questions, said["seconds"])


def _judged(original: Path, target: Path, questions: Any, seconds: float) -> Result:
    from benchmarks.optimizers.verdicts import verdict

    nodes, size = _size(target)
    return Result(path=target, seconds=seconds, verdict=verdict(original, target, questions), nodes=nodes, bytes=size)


def _size(path: Path) -> tuple[int, int]:
    import onnx
    from sdkpack_optimize.measure import size_of

    size = size_of(onnx.load(path, load_external_data=False))
    return size.nodes, size.bytes


def _latency(original: Path, result: Path, inputs: Any) -> float:
    from benchmarks.optimizers.verdicts import open_session

    def side(path: Path) -> Callable[[], float]:
        session = open_session(path)
        session.run(None, inputs)
        start = time.thread_time()
        session.run(None, inputs)
        times = max(1, int(_REPEAT_S / max(time.thread_time() - start, 1e-6)))

        def turn() -> float:
            # Processor time of this thread, which does all the work: other programs on the machine count less.
            start = time.thread_time()
            for _ in range(times):
                session.run(None, inputs)
            return (time.thread_time() - start) / times

        return turn

    figures = interleaved({"before": side(original), "after": side(result)}, _ROUNDS)
    return figures["after"] / figures["before"]


def _second(original: Path, result: Path, inputs: Any) -> float:
    """0.0 where OpenVINO takes the original or the result not."""
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        stored = Path(folder) / "inputs.npz"
        np.savez(stored, allow_pickle=False, **inputs)
        script = Path(__file__).parent / "optimizers/second.py"
        command = [str(python_of("openvino")), str(script), str(stored), str(original), str(result)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=_environ())
    lines = done.stdout.strip().splitlines()
    figures = json.loads(lines[-1]) if done.returncode == 0 and lines else {}
    return figures[str(result)] / figures[str(original)] if len(figures) == 2 else 0.0


def _target(name: str, who: str) -> Path:
    folder = FOLDER / "results"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name.replace(' ', '-')}.{who}.onnx"


def _cell(result: Result) -> str:
    return f"{result.nodes or '-'}{'' if result.verdict == 'ok' else '!'}"


def _environ() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


if __name__ == "__main__":
    main()

"""What converters, optimizers and compressors have in common: one half, that works in this process or apart."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest

from sdkpack.errors import InterruptedRunError, SdkpackError
from sdkpack.host.registry import Registered, load_class
from sdkpack.plugin.info import Half
from sdkpack.plugin.runtime import Probe
from sdkpack.testing.apart import WAYS, open_declared, open_tool
from sdkpack.testing.base import Conformance, child
from sdkpack.testing.bench import PlainContext
from sdkpack_job.codec import encode

__all__ = ["CANCEL_S", "ToolConformance", "called_in_child", "cancelled_within", "result_digests", "tree_digest"]

CANCEL_S: Final = 5.0
"""A cancelled step ends within this time."""

_STARTED_S: Final = 0.5
_TOOLS: Final = pytest.StashKey[dict[str, tuple[Any, Probe]]]()
"""Of a test class: the tools by way, with what their probes said."""


class ToolConformance(Conformance):
    """Subclass the class of a kind instead.

    Attributes:
        runtime: any installed runtime with both halves, for the tests that go through a bundle; by default the first.
    """

    kind: ClassVar[str]
    method: ClassVar[str]
    runtime: ClassVar[str] = ""

    def optional_methods(self) -> tuple[str, ...]:
        """Methods that the descriptor's capabilities ask for."""
        return ()

    def half(self) -> Half:
        found: Half = self.row().info.half
        return found

    @pytest.fixture(params=WAYS)
    def tool(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
        """The tool, once in this process and once as a job; skipped where its toolchain is not here."""
        # Opened and asked once a class: a job costs as much as many a test.
        tools = request.node.getparent(pytest.Class).stash.setdefault(_TOOLS, {})
        if request.param not in tools:
            made = open_tool(self.row(), self.half(), request.param, tmp_path_factory.mktemp("host"))
            tools[request.param] = made, made.probe()
        made, probe = tools[request.param]
        if not probe.ok:
            pytest.skip(f"its toolchain is not here: {probe.missing}")
        return made

    def whole_runtime(self) -> str:
        """A runtime that compiles and runs."""
        rows = [row.info.name for row in self.registry.runtimes() if row.info.compiler and row.info.runner]
        if not (self.runtime or rows):
            pytest.skip("no installed runtime has both halves: name one with `runtime`")
        return self.runtime or rows[0]

    def context(self, folder: Path, cancelled: Callable[[], bool] = lambda: False) -> PlainContext:
        """A step's surroundings with its work folder below `folder`."""
        work = folder / "work"
        work.mkdir(parents=True)
        return PlainContext(work, cancelled=cancelled)

    @abstractmethod
    def request(self, folder: Path) -> Any:
        """One valid request, its files in `folder`."""

    def call(self, tool: Any, request: Any, folder: Path) -> Any:
        """Does the work of a request in a new folder; its result leads into `folder/work`, or to the request's own."""
        context = self.context(folder)
        result = getattr(tool, self.method)(request, context)
        path = result.model
        assert path.is_file(), f"it returned {path.name!r}, and there is no such file"
        inside = path.resolve().is_relative_to(context.work.resolve())
        assert inside or path in _paths(request), f"it returned a file outside of its work folder: {path}"
        assert all(isinstance(note, str) and note for note in result.notes), "notes are sentences"
        assert all(isinstance(part, str) for pair in result.tools.items() for part in pair), "tools: name to version"
        return result

    # The tests ------------------------------------------------------------------------------------------------------
    def test_it_keeps_its_contract(self) -> None:
        half = self.half()
        if half.isolation != "in-process":
            pytest.skip("what works apart is held to its answers")
        made = load_class(self.row(), half.load)()
        for name in ("probe", self.method, *self.optional_methods()):
            assert callable(getattr(made, name, None)), f"{half.load} has no method {name}"

    def test_probe_answers_the_same_twice(self, tmp_path: Path) -> None:
        first, second = (open_declared(self.row(), self.half()).probe() for _ in range(2))
        assert isinstance(first, Probe)
        assert first == second
        assert first.ok or (first.missing and first.mend), "a missing toolchain comes with a mend"

    def test_probe_without_the_toolchain_gives_a_mend(self, tmp_path: Path) -> None:
        if self.half().isolation != "in-process":
            pytest.skip("sdkpack builds its environment, or looks for its program")
        blocked = self.toolchain_modules()
        if not blocked:
            pytest.skip("the descriptor requires no other distribution, and the test class names no toolchain")
        facts = child({"do": "probe", "kind": self.kind, "name": self.row().info.name, "blocked": blocked}, tmp_path)
        assert not facts["raised"], f"probe raised {facts['raised']}: say what is missing instead"
        assert not facts["ok"], f"probe says that all is well without {', '.join(blocked)}"
        assert facts["missing"]
        assert facts["mend"], "say how to get it"

    def test_same_input_gives_the_same_bytes(self, tool: Any, tmp_path: Path) -> None:
        if not self.row().info.deterministic:
            pytest.skip("the descriptor says that it is not deterministic")
        request = self.request(tmp_path / "input")
        first, second = (result_digests(self.call(tool, request, tmp_path / f"{number}")) for number in range(2))
        assert first == second, (
            "declared deterministic, and two results differ: seed what is random, write no dates and paths, sort what "
            "comes out of sets; or say `deterministic=False`"
        )

    def test_it_changes_none_of_its_inputs(self, tool: Any, tmp_path: Path) -> None:
        request = self.request(tmp_path / "input")
        folders = {path if path.is_dir() else path.parent for path in _paths(request)}
        before = {folder: tree_digest(folder) for folder in folders}
        self.call(tool, request, tmp_path / "made")
        assert {folder: tree_digest(folder) for folder in folders} == before

    def test_writes_only_in_its_work_folder_and_opens_no_socket(self, tmp_path: Path) -> None:
        self._in_this_process()
        facts = called_in_child(self, self.request(tmp_path / "input"), tmp_path)
        assert not facts["failed"], facts["failed"]
        assert not facts["writes"], f"wrote {facts['writes']}"
        assert not facts["sockets"], f"used the network: {facts['sockets']}"
        assert not facts["left"], f"left {facts['left']}"

    @pytest.mark.parametrize("moment", ["at once", "later"])
    def test_cancel_ends_it(self, tool: Any, moment: str, tmp_path: Path) -> None:
        """Work that is cancelled, and was not done before, ends within 5 s: at the next call of `progress`, or with the
        process that it works in."""
        request = self.request(tmp_path / "input")
        begin = time.monotonic()

        def cancelled() -> bool:
            return moment == "at once" or time.monotonic() - begin > _STARTED_S

        context = self.context(tmp_path / "made", cancelled)
        told = cancelled_within(lambda: getattr(tool, self.method)(request, context), CANCEL_S + _STARTED_S)
        assert told is None or isinstance(told, InterruptedRunError), f"cancel became {told!r}"

    def _in_this_process(self) -> None:
        """Skips the test for what works apart."""
        half = self.half()
        if half.isolation != "in-process":
            pytest.skip("it works apart: what it may write and open is enforced, see: sdkpack plugins env check")
        probe = load_class(self.row(), half.load)().probe()
        if not probe.ok:
            pytest.skip(f"its toolchain is not here: {probe.missing}")

    @abstractmethod
    def row(self) -> Registered[Any]:
        """The descriptor under test."""


def called_in_child(test: ToolConformance, request: Any, folder: Path) -> dict[str, Any]:
    """The tool's work on `request`, watched, in a process of its own."""
    (folder / "job" / "work").mkdir(parents=True)
    job = {
        "do": "call", "kind": test.kind, "name": test.row().info.name, "method": test.method,
        "request": encode(request), "folder": str(folder / "job"),
    }  # fmt: skip
    return child(job, folder / "places")


def cancelled_within(work: Callable[[], object], limit_s: float) -> BaseException | None:
    """What came of `work`, which has `limit_s` seconds: None where it was done."""
    ended: list[BaseException | None] = []

    def run() -> None:
        try:
            work()
        except (SdkpackError, KeyboardInterrupt) as error:
            ended.append(error)
        else:
            ended.append(None)

    thread = threading.Thread(target=run, daemon=True)
    begin = time.monotonic()
    thread.start()
    thread.join(limit_s)
    assert ended, f"still at work {time.monotonic() - begin:.0f} s after it was cancelled"
    return ended[0]


def result_digests(result: Any) -> Mapping[str, str]:
    """Digests of all that a result consists of: the model, its external data, further files."""
    from sdkpack.model.external import external_locations
    from sdkpack.model.load import load_model

    files = {"model": result.model, **getattr(result, "files", {})}
    if result.model.suffix == ".onnx":
        names = external_locations(load_model(result.model).proto)
        files |= {f"external/{name}": result.model.parent / name for name in names}
    return {f"{role}/{name}": digest for role, path in files.items() for name, digest in tree_digest(path).items()}


def tree_digest(path: Path) -> Mapping[str, str]:
    """Digests of a file, or of all files of a folder, by name."""
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    return {str(one.relative_to(path)): hashlib.sha256(one.read_bytes()).hexdigest() for one in files}


def _paths(value: object) -> set[Path]:
    """Every path of a request."""
    if isinstance(value, Path):
        return {value}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return set().union(*(_paths(getattr(value, part.name)) for part in dataclasses.fields(value)))
    if isinstance(value, Mapping):
        return set().union(*map(_paths, value.values()))
    if isinstance(value, list | tuple):
        return set().union(*map(_paths, value))
    return set()

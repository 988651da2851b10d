"""A toolchain outside of this process: the same Protocol, and every way of ending badly is an error that says so."""

from __future__ import annotations

import os
import stat
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sdkpack.errors import (
    InternalError,
    InterruptedRunError,
    ModelError,
    PluginBrokenError,
    PluginError,
    SdkpackError,
    StepError,
)
from sdkpack.host.pythons import find_python
from sdkpack.plugin import ConvertRequest, EnvironmentSpec, Half, SniffRequest
from tests.unit.host import toolchain
from tests.unit.host.conftest import CANARY, Bench


def test_the_same_class_works_in_and_out_of_this_process(bench: Bench) -> None:
    inside, content = bench.convert(isolation="in-process")
    outside, same = bench.convert()
    assert content == same == b"converted mine 0"
    assert inside.tools == outside.tools == {"text": "1"}
    assert inside.notes == (f"pid {os.getpid()}",)
    assert outside.notes != inside.notes
    assert bench.reporter.texts[-2:] == [(0.0, "begin"), (1.0, "done")] or (1.0, "done") in bench.reporter.texts


def test_methods_without_a_context_work_too(bench: Bench) -> None:
    tool = bench.open()
    probe = tool.probe()
    assert probe.ok
    assert probe.fingerprint.startswith("text 1; python 3.")
    assert tool.sniff(SniffRequest(source=bench.source)).score == 0.9
    bench.source.write_text("yours")
    assert tool.sniff(SniffRequest(source=bench.source)).score == 0.0


def test_what_it_prints_is_no_answer(bench: Bench) -> None:
    with pytest.raises(StepError):
        bench.convert("fail")
    assert "garbage on stdout {" in bench.log


BAD = {
    "segfault": (StepError, "it was ended by SIGSEGV"),
    "abort": (StepError, "it was ended by SIGABRT"),
    "exit": (StepError, "it failed with exit code 7"),
    "leave": (PluginBrokenError, "it ended without an answer"),
    "sys_exit": (InternalError, "it crashed: SystemExit: 0"),
    "killed": (StepError, "it was ended by SIGKILL, most likely because memory ran out"),
    "bug": (InternalError, "it crashed: ZeroDivisionError: no luck"),
    "refuse": (ModelError, "layer 'Swish' is not supported"),
    "fail": (StepError, "the tool found no memory layout"),
    "lacking": (PluginBrokenError, "No module named 'numpy'"),
    "memory": (StepError, "memory ran out, its limit is 1073741824 bytes"),
    "one_file": (StepError, "it wrote more than 16777216 bytes"),
    "many_files": (StepError, "it wrote more than 16777216 bytes"),
    "talk": (StepError, "it wrote more than 16777216 bytes"),
    "fork": (StepError, "it started more than 256 processes"),
    "no_fork": (StepError, "it started more than 256 processes"),
    "missing": (PluginBrokenError, "it says that it wrote 'nothing.onnx', and there is no such file"),
    "outside": (PluginBrokenError, "it returned a file outside of its work folder: 'env'"),
    "above": (PluginBrokenError, "it returned a file outside of its work folder: 'log'"),
    "link": (PluginBrokenError, "it returned a file outside of its work folder: 'link'"),
    "empty": (PluginBrokenError, "it returned the empty file 'empty'"),
    "wrong_type": (PluginBrokenError, "its answer is no ConvertResult: model: "),
    "no_result": (PluginBrokenError, "its answer is no ConvertResult: "),
    "fake_answer": (PluginBrokenError, "its answer cannot be read: NaN is no number"),
    "long_answer": (PluginBrokenError, "its answer is longer than 4194304 bytes"),
    "linked_answer": (PluginBrokenError, "its answer cannot be read: "),
    "fifo_answer": (PluginBrokenError, "its answer is not a regular file"),
}


@pytest.mark.parametrize("fault", sorted(BAD))
def test_a_bad_end_is_a_typed_error_that_names_plugin_input_and_log(bench: Bench, fault: str) -> None:
    kind, text = BAD[fault]
    with pytest.raises(SdkpackError) as caught:
        bench.convert(fault)
    error = caught.value
    assert isinstance(error, kind)
    assert type(error) is kind or type(error).__mro__[1] is kind
    assert text in error.message
    assert "'test.text'" in error.where
    assert "'net'" in error.where
    named = Path(error.hint.rpartition("see its log: ")[2])
    assert named.is_file()
    assert list((bench.store.root / "work").glob("*/*")) == [], "the job folder is gone"


def test_odd_progress_harms_nobody(bench: Bench) -> None:
    bench.convert("odd_progress")
    assert all(text.isprintable() and (part is None or 0 <= part <= 1) for part, text in bench.reporter.texts)


def test_a_job_that_hangs_is_ended(bench: Bench) -> None:
    begin = time.monotonic()
    with pytest.raises(StepError, match="it took longer than 1 s and was ended"):
        bench.convert("hang", time_limit_s=1.0)
    assert time.monotonic() - begin < 15


def test_cancel_ends_a_job(bench: Bench) -> None:
    tool = bench.open()
    threading.Timer(0.5, bench.cancel.set).start()
    begin = time.monotonic()
    with pytest.raises(InterruptedRunError):
        bench.convert("hang", tool=tool)
    assert time.monotonic() - begin < 10


def test_nothing_outlives_its_job(bench: Bench) -> None:
    bench.convert("daemon")
    if bench.isolation["processes"].startswith("not enforced"):
        pytest.skip(f"processes without a namespace: {bench.isolation['processes']}")
    marker = str(bench.folder)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            assert marker not in command, command


def test_what_was_enforced_is_told(bench: Bench) -> None:
    bench.convert()
    assert set(bench.isolation) >= {"memory", "file size", "processes", "network", "files", "privileges"}


def test_a_fresh_home_and_nothing_of_the_users_environment(bench: Bench) -> None:
    bench.convert("environment")
    assert CANARY not in bench.found
    assert "/job-" in bench.found
    assert str(Path.home()) not in bench.found.replace(str(bench.folder), "")
    bench.convert("home")
    assert bench.found.endswith("/home")


def test_the_job_folder_is_its_owners_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from sdkpack.host import workers

    seen: list[int] = []
    real = workers.run_sandboxed

    def look(*args: object, **options: object) -> object:
        folder = options["folder"]
        assert isinstance(folder, Path)
        seen.append(stat.S_IMODE(folder.stat().st_mode))
        return real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(workers, "run_sandboxed", look)
    bench.convert()
    assert seen == [0o700]


# Other toolchains -----------------------------------------------------------------------------------------------------
SCRIPT = """#!/bin/sh
# A toolchain without Python: it answers every method.
job="$1"
if grep -q '"method": "probe"' "$job/job.json"; then
    echo '{"ok": true, "result": {"ok": true, "fingerprint": "script 1"}}' > "$job/answer/result.json"
    exit 0
fi
echo '{"fraction": 0.5, "text": "half"}' >> "$job/progress.ndjson"
echo converted > model.onnx
echo '{"ok": true, "result": {"model": "model.onnx"}}' > "$job/answer/result.json"
"""


def test_any_program_is_a_toolchain(bench: Bench) -> None:
    tools = bench.folder / "vendor" / "bin"
    tools.mkdir(parents=True)
    (tools / "acme-convert").write_text(SCRIPT)
    (tools / "acme-convert").chmod(0o755)
    half = Half(command=("acme-convert",), isolation="external")
    with pytest.raises(PluginError, match="needs the program 'acme-convert', not found in the PATH"):
        bench.open(toolchain.info(half=half))
    bench.host = replace(bench.host, environ={**bench.host.environ, "PATH": f"{tools}:/usr/bin:/bin"})
    tool = bench.open(toolchain.info(half=half))
    fingerprint = tool.probe().fingerprint
    assert fingerprint.startswith("script 1; acme-convert sha256:")
    result, content = bench.convert(tool=tool)
    assert (result.notes, content) == ((), b"converted\n")
    (tools / "acme-convert").write_text(SCRIPT + "\n# patched\n")
    assert tool.probe().fingerprint != fingerprint


OLD = """
import sys
from sdkpack_job import JobError, Record


class Converter:
    def probe(self):
        return Record(ok=True, fingerprint="old")

    def convert(self, request, context):
        if request.source.read_bytes() == b"bad":
            raise JobError("no such layer", hint="leave it out", kind="model")
        context.run([sys.executable, "-c", "open('made', 'w').write('made')"])
        path = context.work / "model.onnx"
        path.write_text((context.work / "made").read_text() + " %d.%d" % sys.version_info[:2])
        return Record(model=path, notes=["old"])
"""


def _old_python() -> bool:
    try:
        return find_python(">=3.8,<3.10", os.environ).version < (3, 10)
    except PluginError:
        return False


@pytest.mark.skipif(not _old_python(), reason="no Python 3.8 or 3.9 here; name one in SDKPACK_PYTHONS")
def test_the_job_entry_works_on_pythons_that_sdkpack_does_not(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    package = bench.folder / "site" / "old_toolchain"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "work.py").write_text(OLD)
    monkeypatch.syspath_prepend(str(package.parent))
    spec = EnvironmentSpec(requirements=(), smoke_test="import json", python=">=3.8,<3.10")
    half = Half(load="old_toolchain.work:Converter", isolation="environment", environment=spec)
    tool = bench.open(toolchain.info(half=half, params=None))
    with bench.context() as context:
        result = tool.convert(ConvertRequest(name="net", source=bench.source), context)
        assert result.model.read_text() in ("made 3.8", "made 3.9")
        assert result.notes == ("old",)
    bench.source.write_text("bad")
    with pytest.raises(ModelError, match="no such layer") as error, bench.context() as context:
        tool.convert(ConvertRequest(name="net", source=bench.source), context)
    assert error.value.hint.startswith("leave it out")


def test_a_missing_program_of_an_environment_is_told(bench: Bench) -> None:
    half = Half(command=("acme-convert",), isolation="environment", environment=toolchain.EMPTY)
    with pytest.raises(PluginError, match="needs the program 'acme-convert', not found in environment 'cp"):
        bench.open(toolchain.info(half=half))
    assert sys.version_info >= (3, 11)

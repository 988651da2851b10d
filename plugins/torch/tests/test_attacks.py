"""Files that would run code, given to the converters where they work: a canary is written where one got its way."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from plugins.torch.tests.bench import Bench
from plugins.torch.tests.craft import edited, pickled_member, saved, saved_before
from sdkpack.errors import ModelError, SdkpackError
from sdkpack.plugin import ConvertRequest
from sdkpack.types import TensorSpec

BARK = "open('canary', 'w').write('x')"


def barked(bench: Bench, name: str, source: Path, **options: Any) -> tuple[SdkpackError, bool]:
    """How a conversion failed, and whether the canary stands in its work folder, the only one that it can write to."""
    info = bench.registry.converter(name).info
    assert info.params is not None
    params = info.params(**options.pop("params", {}))
    request = ConvertRequest(
        name="net", source=source, params=params,
        inputs=(TensorSpec(name="x", dtype="float32", shape=(2, 3, 16, 24)),) if name != "torch.export" else (),
        **options,
    )  # fmt: skip
    with bench.context() as context:
        with pytest.raises(SdkpackError) as caught:
            bench.tool(name).convert(request, context)
        return caught.value, any(context.work.rglob("canary"))


def test_no_pickle_runs_by_itself_and_an_allowed_one_in_its_cage(bench: Bench, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    code = (
        f"{BARK}\ntry:\n    open({str(outside)!r}, 'w')\n"
        "except OSError as error:\n    raise RuntimeError(f'ran: {error}')"
    )
    for source in (saved(tmp_path / "a.pth", code), saved_before(tmp_path / "b.pth", code)):
        error, canary = barked(bench, "torch.state-dict", source)
        assert isinstance(error, ModelError)
        assert "runs code when it is read: it asks for exec" in error.message
        assert "allow_code = true" in error.hint
        assert not canary
        error, canary = barked(bench, "torch.state-dict", source, allow_code=True)
        assert canary, "the very same file, allowed: the canary sings where it may"
        assert "RuntimeError: ran: [Errno 13] Permission denied" in error.message
        assert not outside.exists()


@pytest.mark.parametrize(
    "member", ["data/sample_inputs/model.pt", "data/weights/model.pt", "data/constants/opaque_obj_0"]
)
def test_no_member_of_a_program_runs(member: str, bench: Bench, models: Path, tmp_path: Path) -> None:
    error, canary = barked(
        bench, "torch.export", pickled_member(models / "open.pt2", tmp_path / "crafted.pt2", member, BARK)
    )
    assert isinstance(error, ModelError)
    assert not canary


def test_no_text_of_a_program_runs(bench: Bench, models: Path, tmp_path: Path) -> None:
    """Each place is one that torch.export.load evaluates, imports or writes into Python source."""
    bark = f"exec({BARK!r})"

    def edit(program: Any) -> None:
        graph = program["graph_module"]["graph"]
        for value in graph["tensor_values"].values():
            for size in value["sizes"]:
                if "as_expr" in size:
                    size["as_expr"]["expr_str"] = bark
        graph["nodes"][0]["name"] = f"x={bark}"

    error, canary = barked(bench, "torch.export", edited(models / "open.pt2", tmp_path / "crafted.pt2", edit))
    assert "made to run code while it is loaded: the" in error.message
    assert not canary


def test_what_torch_alone_would_run(models: Path, toolchain: Any, tmp_path: Path) -> None:
    """The attack on a program's sizes is real: without the look before, torch runs it."""
    import subprocess

    def edit(program: Any) -> None:
        for value in program["graph_module"]["graph"]["tensor_values"].values():
            for size in value["sizes"]:
                if "as_expr" in size:
                    size["as_expr"]["expr_str"] = f"exec({BARK!r})"

    crafted = edited(models / "open.pt2", tmp_path / "crafted.pt2", edit)
    code = f"import torch; torch.export.load({str(crafted)!r})"
    subprocess.run(
        [toolchain.python, "-c", code], check=False, capture_output=True, cwd=tmp_path,
        env={"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert (tmp_path / "canary").exists()


def test_a_script_that_writes_files_is_refused(bench: Bench, models: Path) -> None:
    error, canary = barked(bench, "torch.script", models / "reaching.jit")
    assert "reads or writes files while it runs: torch.save" in error.message
    assert not canary


def test_the_author_s_module_runs_only_where_allowed(bench: Bench, models: Path, tmp_path: Path) -> None:
    code = tmp_path / "net.py"
    code.write_text(f"{BARK}\ndef make():\n    raise RuntimeError('ran')\n")
    shutil.copyfile(models / "zipped.pth", tmp_path / "zipped.pth")
    given: dict[str, Any] = {"files": {"code": code}, "params": {"factory": "net:make"}}
    error, canary = barked(bench, "torch.state-dict", tmp_path / "zipped.pth", **given)
    assert "'net:make' of 'net.py' would run" in error.message
    assert "allow_code = true" in error.hint
    assert not canary
    error, canary = barked(bench, "torch.state-dict", tmp_path / "zipped.pth", allow_code=True, **given)
    assert "the factory 'net:make' failed: RuntimeError: ran" in error.message
    assert canary
    assert not (tmp_path / "canary").exists()

"""What is looked through before torch sees a file: no torch is needed to refuse."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sdkpack_torch.archive import expect_kind, kind_of
from sdkpack_torch.safety import check_program

from plugins.torch.tests.craft import edited, pickled_member, rewritten, saved
from sdkpack.errors import ModelError

CALL = "__import__('os').system('id')"


def graph(program: Any) -> Any:
    return program["graph_module"]["graph"]


def entry(program: Any) -> Any:
    return program["graph_module"]["module_call_graph"][0]["signature"]


def set_in(place: Any, key: Any, value: Any) -> None:
    place[key] = value


def tree(**changes: Any) -> str:
    leaf = {"type": None, "context": None, "children_spec": []}
    return json.dumps([1, {"type": "builtins.tuple", "context": "null", "children_spec": [leaf], **changes}])


ENUM = json.dumps([{"__enum__": True, "fqn": "os:path", "name": "x"}])
EDITS: dict[str, Callable[[Any], None]] = {
    "a size that SymPy would evaluate": lambda p: set_in(p, "x", {"expr_str": CALL}),
    "a size that asks for an attribute": lambda p: set_in(p, "x", {"expr_str": "Symbol('a').__class__"}),
    "a size with a text that is no name": lambda p: set_in(p, "x", {"expr_str": f"Symbol({CALL!r})"}),
    "a size that calls something": lambda p: set_in(p, "x", {"expr_str": "exec('1')"}),
    "a size without end": lambda p: set_in(p, "x", {"expr_str": "1+" * 5000 + "1"}),
    "a function of torch's": lambda p: set_in(graph(p)["nodes"][0], "target", "torch.hub.load"),
    "a method of the operators": lambda p: set_in(graph(p)["nodes"][0], "target", "torch.ops.load_library.__call__"),
    "another module's function": lambda p: set_in(graph(p)["nodes"][0], "target", "os.system"),
    "an operator that calls": lambda p: set_in(graph(p)["nodes"][0], "target", "_operator.methodcaller"),
    "an operator's class": lambda p: set_in(graph(p)["nodes"][0], "target", "torch.ops.aten.relu.__class__"),
    "a file of the machine": lambda p: set_in(graph(p)["nodes"][0], "target", "torch.ops.aten.from_file.default"),
    "an operator as an argument": lambda p: set_in(p, "x", {"as_operator": "torch.hub.load"}),
    "a name that is Python": lambda p: set_in(graph(p)["nodes"][0], "name", f"x={CALL}"),
    "an input that is Python": lambda p: set_in(graph(p)["inputs"][0]["as_tensor"], "name", f"x={CALL}"),
    "a weight that is Python": lambda p: set_in(
        p["graph_module"]["signature"]["input_specs"][0]["parameter"], "parameter_name", f'"),{CALL}#'
    ),
    "an argument that is Python": lambda p: set_in(entry(p), "forward_arg_names", [f"x={CALL}"]),
    "a tree that imports": lambda p: set_in(entry(p), "in_spec", tree(type="collections.defaultdict")),
    "a tree of enumerations": lambda p: set_in(entry(p), "out_spec", tree(type="builtins.dict", context=ENUM)),
    "a tree with Python for a key": lambda p: set_in(
        entry(p), "in_spec", tree(type="builtins.dict", context=json.dumps([f"x={CALL}"]))
    ),
    "a tree that is none": lambda p: set_in(entry(p), "in_spec", "[2, {}]"),
    "a guard": lambda p: set_in(p, "guards_code", [CALL]),
    "a symbol that is Python": lambda p: set_in(p, "range_constraints", {CALL: {"min_val": 0, "max_val": 1}}),
    "an object of a class": lambda p: set_in(graph(p), "custom_obj_values", {"a": {"name": "a", "class_fqn": "x.Y"}}),
}


@pytest.mark.parametrize("what", EDITS)
def test_a_program_that_would_run_code_is_refused(what: str, models: Path, tmp_path: Path) -> None:
    crafted = edited(models / "open.pt2", tmp_path / "crafted.pt2", EDITS[what])
    with pytest.raises(ModelError, match="made to run code while it is loaded"):
        check_program(crafted)


@pytest.mark.parametrize(
    "member",
    [
        "data/constants/opaque_obj_0",
        "data/constants/custom_obj_0",
        "data/weights/model.pt",
        "data/aotinductor/model/a.so",
    ],
)
def test_pickles_and_native_code_are_refused(member: str, models: Path, tmp_path: Path) -> None:
    crafted = pickled_member(models / "open.pt2", tmp_path / "crafted.pt2", member, "pass")
    with pytest.raises(ModelError, match="made to run code"):
        check_program(crafted)


def test_a_weight_that_says_that_it_is_pickled_is_refused(models: Path, tmp_path: Path) -> None:
    def change(name: str, data: bytes) -> bytes:
        return data.replace(b'"use_pickle": false', b'"use_pickle": true') if name.endswith(".json") else data

    with pytest.raises(ModelError, match=r"the pickled weight 'conv\.weight'"):
        check_program(rewritten(models / "open.pt2", tmp_path / "crafted.pt2", change))


@pytest.mark.parametrize(
    "name", ["open.pt2", "fixed.pt2", "training.pt2", "unsayable.pt2", "dense.pt2", "two_stage.pt2"]
)
def test_what_torch_writes_passes(name: str, models: Path) -> None:
    check_program(models / name)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("open.pt2", "program"), ("traced.jit", "script"), ("flagged.jit", "script"), ("zipped.pth", "weights"),
        ("whole.pth", "weights"), ("legacy.pth", "legacy"), ("weights.safetensors", "safetensors"),
        ("photograph.png", ""),
    ],
)  # fmt: skip
def test_kinds_are_told_by_content(name: str, kind: str, models: Path, tmp_path: Path) -> None:
    copy = tmp_path / "model.bin"
    copy.write_bytes((models / name).read_bytes())
    assert kind_of(copy) == kind


@pytest.mark.parametrize("name", ["open.pt2", "traced.jit", "zipped.pth"])
def test_truncated_archives_are_told(name: str, models: Path, tmp_path: Path) -> None:
    whole = (models / name).read_bytes()
    for size in (20, len(whole) // 2, len(whole) - 1):
        cut = tmp_path / name
        cut.write_bytes(whole[:size])
        with pytest.raises(ModelError, match=f"{name!r} is a truncated or damaged ZIP archive"):
            kind_of(cut)


def test_archives_that_two_readers_could_read_in_two_ways_are_refused(models: Path, tmp_path: Path) -> None:
    """torch finds members without regard to case, Python takes the last one of a name."""
    crafted = rewritten(models / "zipped.pth", tmp_path / "twin.pth", lambda _, data: data, **{"DATA.PKL": b"."})
    with pytest.raises(ModelError, match="no archive of torch's"):
        kind_of(crafted)
    behind = tmp_path / "behind.pth"
    behind.write_bytes(b"PK\x03\x04 and more" + (models / "zipped.pth").read_bytes())
    with pytest.raises(ModelError, match=r"before or after its archive|truncated or damaged"):
        kind_of(behind)
    two = tmp_path / "two.pth"
    with zipfile.ZipFile(two, "w") as archive:
        archive.writestr("a/data.pkl", b".")
        archive.writestr("b/data.pkl", b".")
    with pytest.raises(ModelError, match="below 2 folders"):
        kind_of(two)


def test_a_file_of_another_kind_names_its_converter(models: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is a TorchScript module, expected a program of torch\.export") as caught:
        expect_kind(models / "traced.jit", "program")
    assert caught.value.hint == "set convert.converter = 'torch.script'"
    with pytest.raises(ModelError, match=r"is not a program of torch\.export"):
        expect_kind(models / "photograph.png", "program")
    assert kind_of(saved(tmp_path / "a.pth", "pass")) == "weights"
    assert kind_of(tmp_path) == ""

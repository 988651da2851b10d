"""THREATS rows 1 to 4: hostile external data in ONNX models is refused at pack."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import pytest
from onnx import SparseTensorProto, TensorProto, helper

from sdkpack.errors import ExternalDataError, ModelError, SdkpackError
from sdkpack.model import beneath
from sdkpack.model.beneath import NotBeneathError, Openat2Missing, open_beneath
from sdkpack.model.check import check_model
from sdkpack.model.external import ExternalFolder
from sdkpack.model.load import load_model
from sdkpack.model.split import split_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECRET = b"S" * 4096
SIZE = 1024  # bytes of float32 [16, 16]


def tensor(*pairs: tuple[str, str], name: str = "w", dims: tuple[int, ...] = (16, 16)) -> TensorProto:
    result = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in pairs:
        result.external_data.add(key=key, value=value)
    return result


def at(location: str, **more: str) -> TensorProto:
    return tensor(("location", location), *more.items())


def model_with(item: TensorProto) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["y"], "n")], "g", [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [16, 16])], [item],
    )  # fmt: skip
    return model_of(graph)


def model_of(graph: onnx.GraphProto, **more: object) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9, **more)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A model folder with a good file, and everything that a hostile model could point at around it."""
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "good.bin").write_bytes(bytes(4096))
    (folder / "sub" / "good.bin").write_bytes(bytes(4096))
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(SECRET)
    (folder / "link").symlink_to("../secret")
    (folder / "inner-link").symlink_to("good.bin")
    (folder / "linked-dir").symlink_to("../outside")
    (folder / "inner-dir").symlink_to("sub")
    (folder / "proc").symlink_to("/proc/self/fd")
    os.link(tmp_path / "secret", folder / "hard")
    os.mkfifo(folder / "fifo")
    (folder / "zero").symlink_to("/dev/zero")
    return folder


def pack(folder: Path, model: onnx.ModelProto) -> bytes:
    """What packing does with a model file, as far as external data matters; the weights that it would pack."""
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    loaded = load_model(path)
    with ExternalFolder(loaded.folder) as files:
        check_model(loaded, files)
        split = split_model(loaded, files)
        return split.graph + split.weights.read_all()


# Rows 1 to 3: each of these in the plainest place, an initializer of the main graph -------------------------------
HOSTILE: dict[str, Callable[[Path], TensorProto]] = {
    "parent": lambda f: at("../secret"),
    "nested parent": lambda f: at("sub/../../secret"),
    "parent that stays inside": lambda f: at("sub/../good.bin"),
    "many parents": lambda f: at("../" * 40 + "etc/passwd"),
    "parent at the end": lambda f: at("sub/.."),
    "absolute": lambda f: at(str(f.parent / "secret")),
    "absolute with two slashes": lambda f: at("/" + str(f.parent / "secret")),
    "absolute to the good file": lambda f: at(str(f / "good.bin")),
    "device": lambda f: at("/dev/zero"),
    "symlink to a device": lambda f: at("zero"),
    "symlink": lambda f: at("link"),
    "symlink inside": lambda f: at("inner-link"),
    "symlinked folder": lambda f: at("linked-dir/secret"),
    "symlinked folder inside": lambda f: at("inner-dir/good.bin"),
    "magic link": lambda f: at("proc/0"),
    "hard link": lambda f: at("hard"),
    "fifo": lambda f: at("fifo"),
    "folder": lambda f: at("sub"),
    "folder with a slash": lambda f: at("sub/"),
    "file as a folder": lambda f: at("good.bin/x"),
    "current folder": lambda f: at("."),
    "empty": lambda f: at(""),
    "absent": lambda f: at("nothing.bin"),
    "no location": lambda f: tensor(("offset", "0")),
    "nothing at all": lambda f: tensor(),
    "backslash parent": lambda f: at("..\\secret"),
    "drive": lambda f: at("C:\\secret"),
    "url": lambda f: at("file:///etc/passwd"),
    "double slash": lambda f: at("sub//good.bin"),
    "inner dot": lambda f: at("sub/./good.bin"),
    "NUL": lambda f: at("good.bin\0.png"),
    "NUL before parent": lambda f: at("good.bin\0/../../secret"),
    "overlong component": lambda f: at("x" * 5000),
    "percent-encoded parent": lambda f: at("%2e%2e/secret"),
    "length 2^50": lambda f: at("good.bin", length=str(1 << 50)),
    "length 2^64 + right": lambda f: at("good.bin", length=str((1 << 64) + SIZE)),
    "length too short": lambda f: at("good.bin", length=str(SIZE - 1)),
    "length zero": lambda f: at("good.bin", length="0"),
    "length negative": lambda f: at("good.bin", length=f"-{SIZE}"),
    "length with a sign": lambda f: at("good.bin", length=f"+{SIZE}"),
    "length with space": lambda f: at("good.bin", length=f" {SIZE}"),
    "length in hex": lambda f: at("good.bin", length=hex(SIZE)),
    "length with underscore": lambda f: at("good.bin", length="1_024"),
    "length in other digits": lambda f: at("good.bin", length="١٠٢٤"),
    "length as a float": lambda f: at("good.bin", length="1024.0"),
    "length empty": lambda f: at("good.bin", length=""),
    "length of a million digits": lambda f: at("good.bin", length="9" * 1_000_000),
    "offset negative": lambda f: at("good.bin", offset="-1"),
    "offset past the end": lambda f: at("good.bin", offset="4096"),
    "offset so that the last byte is past the end": lambda f: at("good.bin", offset=str(4096 - SIZE + 1)),
    "offset 2^63": lambda f: at("good.bin", offset=str(1 << 63)),
    "offset + length overflows": lambda f: at("good.bin", offset=str((1 << 63) - 1), length=str(SIZE)),
    "unknown key": lambda f: at("good.bin", basepath="/etc"),
    "duplicate location": lambda f: tensor(("location", "good.bin"), ("location", "../secret")),
    "duplicate offset": lambda f: tensor(("location", "good.bin"), ("offset", "0"), ("offset", "64")),
    "wrong checksum": lambda f: at("good.bin", checksum="0" * 40),
    "malformed checksum": lambda f: at("good.bin", checksum="zz"),
}


@pytest.mark.parametrize("kernel_walks", [True, False], ids=["openat2", "stepwise"])
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_external_data_is_refused(
    case: str, kernel_walks: bool, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kernel_walks:
        monkeypatch.setattr(beneath, "openat2", _missing)
    with pytest.raises(ExternalDataError) as caught:
        pack(place, model_with(HOSTILE[case](place)))
    assert "'w'" in caught.value.where
    assert caught.value.hint
    assert len(str(caught.value)) < 1000
    assert sorted(p.name for p in place.parent.iterdir()) == ["model", "outside", "secret"]


def _missing(*_: object) -> int:
    raise Openat2Missing


def test_at_least_twenty_hostile_models_are_tried() -> None:
    assert len(HOSTILE) >= 20


@pytest.mark.parametrize("kernel_walks", [True, False], ids=["openat2", "stepwise"])
@pytest.mark.parametrize("location", ["good.bin", "./good.bin", "sub/good.bin"])
def test_what_is_not_hostile_is_read(
    location: str, kernel_walks: bool, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusals above would mean nothing if everything were refused."""
    if not kernel_walks:
        monkeypatch.setattr(beneath, "openat2", _missing)
    (place / location).write_bytes(b"#" * 64 + b"G" * SIZE)
    packed = pack(place, model_with(at(location, offset="64", length=str(SIZE))))
    assert packed.endswith(b"G" * SIZE)
    assert b"#" not in packed[-SIZE:]


def test_a_right_checksum_is_accepted(place: Path) -> None:
    pack(place, model_with(at("good.bin", checksum="1ceaf73df40e531df3bfb26b4fb7cd95fb7bff1d")))


def test_a_socket_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)  # socket names are short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("sock")
        with pytest.raises(ExternalDataError, match="socket"):
            pack(place, model_with(at("sock")))


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.__setattr__("raw_data", bytes(SIZE)),
        lambda t: t.float_data.extend([0.0] * 256),
        lambda t: t.__setattr__("data_location", TensorProto.DEFAULT),
        lambda t: t.__setattr__("data_type", TensorProto.STRING),
        lambda t: t.dims.append(1 << 62),
        lambda t: t.dims.append(-1),
        lambda t: t.segment.SetInParent(),
    ],
    ids=["raw data too", "typed data too", "not marked external", "strings", "huge", "negative", "segment"],
)
def test_contradictory_tensors_are_refused(change: Callable[[TensorProto], None], place: Path) -> None:
    item = at("good.bin")
    change(item)
    with pytest.raises(ModelError):
        pack(place, model_with(item))


# Row 1: the same hostile tensor in every place where ONNX allows one -----------------------------------------------
def _branch(item: TensorProto) -> onnx.GraphProto:
    return helper.make_graph(
        [helper.make_node("Identity", [item.name], ["o"], "i")], "branch", [],
        [helper.make_tensor_value_info("o", TensorProto.FLOAT, [16, 16])], [item],
    )  # fmt: skip


def _main(nodes: list[onnx.NodeProto]) -> onnx.GraphProto:
    return helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [16, 16])],
    )  # fmt: skip


def _in_subgraph(item: TensorProto, depth: int = 1) -> onnx.ModelProto:
    graph = _branch(item)
    for _ in range(depth):
        node = helper.make_node("If", ["c"], ["o"], "if", then_branch=graph, else_branch=graph)
        graph = helper.make_graph([node], "outer", [], list(graph.output))
    graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    return model_of(graph)


def _in_attribute(item: TensorProto) -> onnx.ModelProto:
    return model_of(_main([helper.make_node("Constant", [], ["y"], "k", value=item)]))


def _in_tensor_list(item: TensorProto) -> onnx.ModelProto:
    node = helper.make_node("Identity", ["c"], ["y"], "n")
    node.attribute.append(onnx.AttributeProto(name="x", type=onnx.AttributeProto.TENSORS, tensors=[item]))
    return model_of(_main([node]))


def _in_graph_list(item: TensorProto) -> onnx.ModelProto:
    node = helper.make_node("Identity", ["c"], ["y"], "n")
    node.attribute.append(onnx.AttributeProto(name="x", type=onnx.AttributeProto.GRAPHS, graphs=[_branch(item)]))
    return model_of(_main([node]))


def _sparse(values: TensorProto, indices: TensorProto) -> SparseTensorProto:
    return SparseTensorProto(values=values, indices=indices, dims=[16, 16])


def _indices() -> TensorProto:
    return helper.make_tensor("i", TensorProto.INT64, [1], [0])


def _in_sparse_values(item: TensorProto) -> onnx.ModelProto:
    model = model_with(helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0]))
    model.graph.sparse_initializer.append(_sparse(item, _indices()))
    return model


def _in_sparse_indices(item: TensorProto) -> onnx.ModelProto:
    model = model_with(helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0]))
    values = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    model.graph.sparse_initializer.append(_sparse(values, item))
    return model


def _in_sparse_attribute(item: TensorProto) -> onnx.ModelProto:
    node = helper.make_node("Constant", [], ["y"], "k")
    node.attribute.append(
        onnx.AttributeProto(
            name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR, sparse_tensor=_sparse(item, _indices())
        )
    )
    return model_of(_main([node]))


def _function(nodes: list[onnx.NodeProto]) -> onnx.FunctionProto:
    return helper.make_function("acme", "f", ["x"], ["y"], nodes, [helper.make_opsetid("", 17)])


def _with_function(function: onnx.FunctionProto) -> onnx.ModelProto:
    model = model_of(_main([helper.make_node("f", ["c"], ["y"], "n", domain="acme")]), functions=[function])
    model.opset_import.add(domain="acme", version=1)
    return model


def _in_function(item: TensorProto) -> onnx.ModelProto:
    return _with_function(_function([helper.make_node("Constant", [], ["y"], "k", value=item)]))


def _in_function_subgraph(item: TensorProto) -> onnx.ModelProto:
    branch = _branch(item)
    return _with_function(
        _function([helper.make_node("If", ["x"], ["y"], "if", then_branch=branch, else_branch=branch)])
    )


def _in_function_default(item: TensorProto) -> onnx.ModelProto:
    function = _function([helper.make_node("Identity", ["x"], ["y"], "n")])
    function.attribute_proto.append(helper.make_attribute("d", item))
    return _with_function(function)


def _in_training_info(item: TensorProto, field: str) -> onnx.ModelProto:
    model = model_with(helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0]))
    getattr(model.training_info.add(), field).CopyFrom(_branch(item))
    return model


PLACES: dict[str, Callable[[TensorProto], onnx.ModelProto]] = {
    "initializer": model_with,
    "subgraph": _in_subgraph,
    "subgraph of a subgraph": lambda t: _in_subgraph(t, 5),
    "constant": _in_attribute,
    "list of tensors": _in_tensor_list,
    "list of graphs": _in_graph_list,
    "sparse values": _in_sparse_values,
    "sparse indices": _in_sparse_indices,
    "sparse attribute": _in_sparse_attribute,
    "function": _in_function,
    "subgraph of a function": _in_function_subgraph,
    "default of a function": _in_function_default,
    "training initialization": lambda t: _in_training_info(t, "initialization"),
    "training algorithm": lambda t: _in_training_info(t, "algorithm"),
}


@pytest.mark.parametrize("hostile", ["../secret", "link", "hard", "linked-dir/secret", "fifo"])
@pytest.mark.parametrize("spot", PLACES)
def test_hostile_external_data_is_found_everywhere(spot: str, hostile: str, place: Path) -> None:
    with pytest.raises(ExternalDataError, match="external data"):
        pack(place, PLACES[spot](at(hostile, length=str(SIZE))))


@pytest.mark.parametrize("spot", PLACES)
def test_harmless_external_data_is_read_everywhere(spot: str, place: Path) -> None:
    (place / "good.bin").write_bytes(b"GOOD" * (SIZE // 4))
    assert b"GOOD" * (SIZE // 4) in pack(place, PLACES[spot](at("good.bin", length=str(SIZE))))


# Row 4: the file is swapped for a link between check and open -----------------------------------------------------
@pytest.fixture
def swapping(place: Path) -> Iterator[Path]:
    """While it lives, `racy` and `racy-dir/f` keep changing between a good file and a link to a secret."""
    (place / "racy-good").write_bytes(b"G" * SIZE)
    (place.parent / "outside" / "f").write_bytes(b"S" * SIZE)
    (place / "real-dir").mkdir()
    (place / "real-dir" / "f").write_bytes(b"G" * SIZE)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            _rename_over(place, lambda p: p.write_bytes(b"G" * SIZE), "racy")
            _rename_over(place, lambda p: p.symlink_to("../secret"), "racy")
            (place / "real-dir").rename(place / "racy-dir")
            (place / "racy-dir").rename(place / "real-dir")
            (place / "racy-dir").symlink_to("../outside")
            (place / "racy-dir").unlink()

    thread = threading.Thread(target=swap)
    thread.start()
    yield place
    stop.set()
    thread.join()


def _rename_over(folder: Path, make: Callable[[Path], object], name: str) -> None:
    new = folder / "new"
    make(new)
    new.replace(folder / name)


@pytest.mark.parametrize("kernel_walks", [True, False], ids=["openat2", "stepwise"])
@pytest.mark.parametrize("location", ["racy", "racy-dir/f"])
def test_a_file_swapped_for_a_link_never_leaks(
    location: str, kernel_walks: bool, swapping: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kernel_walks:
        monkeypatch.setattr(beneath, "openat2", _missing)
    model = at(location, length=str(SIZE))
    read = refused = 0
    until = time.monotonic() + 60  # on a busy machine the swapping process is starved for seconds
    while min(read, refused) < 200 and time.monotonic() < until:
        with ExternalFolder(swapping) as folder:
            try:
                content = folder.resolve(model, "w").read(0, SIZE)
            except SdkpackError:
                refused += 1
            else:
                read += 1
                assert content in (b"G" * SIZE, b"")
    # Both sides of the race were met, so the test saw what it is about.
    assert read
    assert refused


def test_the_file_that_was_checked_is_the_file_that_is_read(place: Path) -> None:
    """Swapped after the open, before the read: the open file is what counts."""
    (place / "good.bin").write_bytes(b"G" * SIZE)
    with ExternalFolder(place) as folder:
        source = folder.resolve(at("good.bin"), "w")
        _rename_over(place, lambda p: p.symlink_to("../secret"), "good.bin")
        assert source.read(0, SIZE) == b"G" * SIZE
        assert folder.resolve(at("good.bin"), "w").read(0, SIZE) == b"G" * SIZE


def test_no_descriptor_is_left_open(place: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for case in HOSTILE.values():
        with pytest.raises(ExternalDataError):
            pack(place, model_with(case(place)))
    pack(place, model_with(at("good.bin")))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_open_beneath_states_its_reason(place: Path) -> None:
    folder = os.open(place, os.O_RDONLY)
    try:
        for name, reason in {
            "link": "symbolic link",
            "hard": "2 hard links",
            "fifo": "a fifo",
            "sub": "a folder",
        }.items():
            with pytest.raises(NotBeneathError, match=reason):
                open_beneath(folder, name)
    finally:
        os.close(folder)

"""The weight split: nothing lost, nothing moved in meaning, same bytes every time."""

from __future__ import annotations

import itertools
import resource
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from sdkpack.errors import ExternalDataError, GraphError, ModelError
from sdkpack.model.check import check_model, check_split
from sdkpack.model.elements import ELEMENTS, raw_bytes
from sdkpack.model.external import ExternalFolder
from sdkpack.model.join import join_external, join_inline
from sdkpack.model.load import parse_model
from sdkpack.model.split import split_model
from sdkpack.model.table import read_table, write_table
from tests.unit.model.models import external_tensor, holder, loaded, matmul, model_of, raw_tensor

if TYPE_CHECKING:
    from pathlib import Path

    from sdkpack.model.split import SplitModel

MIB = 1 << 20
FIXED = sorted(code for code, element in ELEMENTS.items() if element.name != "string")


def split(model: onnx.ModelProto, folder: Path | None = None, **options: int) -> SplitModel:
    with ExternalFolder(folder) as files:
        result = split_model(loaded(model, folder), files, **options)
        result.weights.read_all()
        return result


def parts(model: onnx.ModelProto, folder: Path | None = None, **options: int) -> tuple[bytes, bytes, bytes]:
    with ExternalFolder(folder) as files:
        result = split_model(loaded(model, folder), files, **options)
        return result.graph, write_table(result.tensors), result.weights.read_all()


def rejoined(graph: bytes, table: bytes, weights: bytes) -> onnx.ModelProto:
    whole = b"".join(join_inline(graph, read_table(table, len(weights)), weights))
    return onnx.ModelProto.FromString(whole)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from(FIXED), st.lists(st.integers(0, 9), max_size=3), st.integers(0, 2)), max_size=8
    ),
    threshold=st.sampled_from([1, 64, 1024]),
)
def test_split_then_join_gives_every_tensor_back(rows: list[tuple[int, list[int], int]], threshold: int) -> None:
    tensors = [raw_tensor(f"t{i}", code, tuple(dims), seed) for i, (code, dims, seed) in enumerate(rows)]

    back = rejoined(*parts(holder(tensors), inline_below_bytes=threshold))

    found = {t.name: (t.data_type, tuple(t.dims), raw_bytes(t, t.name)) for t in back.graph.initializer}
    assert found == {t.name: (t.data_type, tuple(t.dims), t.raw_data) for t in tensors}


@pytest.mark.parametrize("code", [c for c in FIXED if ELEMENTS[c].bits >= 8], ids=lambda code: ELEMENTS[code].name)
def test_typed_fields_give_the_bytes_of_numpy(code: int) -> None:
    """Against onnx's own reading of the same tensor, negative and large values included."""
    element = ELEMENTS[code]
    kind = helper.tensor_dtype_to_np_dtype(code)
    raw = np.random.default_rng(7).integers(0, 2 if element.name == "bool" else 256, 24 * element.bits // 8)
    values = raw.astype(np.uint8).view(kind)
    values = np.where(np.isnan(values), np.ones(1, kind), values) if values.dtype.kind in "fc" else values
    typed = TensorProto(name="t", data_type=code, dims=[24])
    _fill(typed, element.field, values)

    assert raw_bytes(typed, "t") == values.tobytes()
    assert numpy_helper.to_array(typed).tobytes() == values.tobytes()


def _fill(tensor: TensorProto, field: str, values: np.ndarray) -> None:
    size = values.dtype.itemsize
    if field == "float_data":
        tensor.float_data.extend(values.view("<f4").tolist())
    elif field == "double_data":
        tensor.double_data.extend(values.view("<f8").tolist())
    elif field == "int64_data":
        tensor.int64_data.extend(values.tolist())
    elif field == "uint64_data":
        tensor.uint64_data.extend(values.tolist())
    elif values.dtype.kind == "i":
        tensor.int32_data.extend(values.tolist())
    else:
        tensor.int32_data.extend(values.view(f"<u{size}").tolist())


def test_large_tensors_are_page_aligned_and_small_ones_aligned_to_64() -> None:
    tensors = [
        raw_tensor("z", TensorProto.UINT8, (MIB,), 1),
        raw_tensor("y", TensorProto.UINT8, (MIB - 1,), 2),
        raw_tensor("x", TensorProto.UINT8, (1025,), 3),
        raw_tensor("v", TensorProto.UINT8, (1023,), 4),
        raw_tensor("a", TensorProto.FLOAT, (1024, 300), 5),
    ]
    graph, table, weights = parts(holder(tensors))
    entries = {entry.name: entry for entry in read_table(table, len(weights))}

    assert set(entries) == {"z", "y", "x", "a"}  # v is small enough to stay
    assert all(entry.offset % (65536 if entry.length >= MIB else 64) == 0 for entry in entries.values())
    assert len(graph) < 4096
    ends = sorted((e.offset, e.offset + e.length) for e in entries.values())
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(ends))
    used = bytearray(len(weights))
    for start, end in ends:
        used[start:end] = b"\1" * (end - start)
    assert all(weights[i] == 0 for i in range(len(weights)) if not used[i])


def test_equal_tensors_are_stored_once_whatever_their_shape() -> None:
    one, two = raw_tensor("a", TensorProto.FLOAT, (32, 32)), raw_tensor("b", TensorProto.FLOAT, (1024,))
    other = raw_tensor("c", TensorProto.FLOAT, (1024,), seed=9)
    graph, table, weights = parts(holder([one, two, other]))
    entries = {entry.name: entry.offset for entry in read_table(table, len(weights))}

    assert entries["a"] == entries["b"] != entries["c"]
    assert len(weights) == 2 * 4096
    back = {t.name: t.raw_data for t in rejoined(graph, table, weights).graph.initializer}
    assert back == {"a": one.raw_data, "b": two.raw_data, "c": other.raw_data}


def test_the_same_model_gives_the_same_bytes_wherever_its_weights_stand(tmp_path: Path) -> None:
    model = matmul(rows=200, cols=200)
    inline = parts(model)
    outside = onnx.ModelProto.FromString(model.SerializeToString())
    onnx.save(
        outside, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0,
        convert_attribute=True,
    )  # fmt: skip
    external = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    assert all(tensor.data_location == TensorProto.EXTERNAL for tensor in external.graph.initializer)

    assert parts(external, tmp_path) == inline
    reordered = onnx.ModelProto.FromString(model.SerializeToString())
    reordered.graph.initializer.reverse()
    assert parts(reordered)[1:] == inline[1:]


def test_weights_in_constant_nodes_are_moved_and_the_model_still_computes_the_same() -> None:
    from onnx.reference import ReferenceEvaluator

    weights = np.random.default_rng(3).standard_normal((64, 64)).astype("float32")
    value = numpy_helper.from_array(weights, "unrelated name")
    model = model_of(
        helper.make_graph(
            [
                helper.make_node("Constant", [], ["w"], value=value),
                helper.make_node("Constant", [], ["kept"], value=value),
                helper.make_node("MatMul", ["x", "w"], ["y"]),
            ],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 64])],
            [
                helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 64]),
                helper.make_tensor_value_info("kept", TensorProto.FLOAT, [64, 64]),
            ],
        )
    )
    graph, table, data = parts(model)
    back = rejoined(graph, table, data)

    assert [node.op_type for node in back.graph.node] == ["Constant", "MatMul"]
    assert [entry.name for entry in read_table(table, len(data))] == ["w"]
    x = np.ones((2, 64), "float32")
    for got, expected in zip(
        ReferenceEvaluator(back).run(None, {"x": x}), ReferenceEvaluator(model).run(None, {"x": x}), strict=True
    ):
        np.testing.assert_array_equal(got, expected)


def test_nameless_nodes_get_stable_unique_names() -> None:
    model = matmul()
    model.graph.node[1].name = "MatMul_0"  # what the nameless first node would be called
    graph, _, _ = parts(model)
    names = [node.name for node in onnx.ModelProto.FromString(graph).graph.node]
    assert names == ["MatMul_0_1", "MatMul_0"]


def test_subgraphs_keep_their_tensors_and_external_ones_are_read_in(tmp_path: Path) -> None:
    data = np.arange(256, dtype="float32")
    (tmp_path / "w.bin").write_bytes(data.tobytes())
    branch = helper.make_graph(
        [helper.make_node("Identity", ["inner"], ["out"])],
        "branch",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [16, 16])],
        [external_tensor("inner", location="w.bin")],
    )
    graph = helper.make_graph(
        [helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)],
        "g",
        [helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [16, 16])],
    )
    result, table, weights = parts(model_of(graph), tmp_path)

    assert weights == b""
    assert read_table(table, 0) == ()
    back = onnx.ModelProto.FromString(result)
    for attribute in back.graph.node[0].attribute:
        assert attribute.g.initializer[0].raw_data == data.tobytes()
        assert not attribute.g.initializer[0].external_data
        assert attribute.g.node[0].name


def test_string_sparse_and_four_bit_tensors_stay() -> None:
    strings = helper.make_tensor("s", TensorProto.STRING, [200], [b"0123456789"] * 200)
    four_bit = raw_tensor("i4", TensorProto.INT4, (4096,))
    graph, table, weights = parts(holder([strings, four_bit]))
    assert (read_table(table, 0), weights) == ((), b"")
    assert [t.name for t in onnx.ModelProto.FromString(graph).graph.initializer] == ["s", "i4"]


def test_join_external_makes_a_model_that_onnx_loads(tmp_path: Path) -> None:
    graph, table, weights = parts(matmul())
    (tmp_path / "bundle").write_bytes(b"#" * 4096 + weights)
    entries = read_table(table, len(weights))
    (tmp_path / "m.onnx").write_bytes(join_external(graph, entries, "bundle", base=4096))

    back = onnx.load(tmp_path / "m.onnx")

    expected = {t.name: numpy_helper.to_array(t) for t in matmul().graph.initializer}
    for tensor in back.graph.initializer:
        np.testing.assert_array_equal(numpy_helper.to_array(tensor), expected[tensor.name])


def test_a_graph_without_its_weights_does_not_pass_the_checker() -> None:
    result = split(matmul())
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(onnx.ModelProto.FromString(result.graph))
    check_split(result)


def test_the_checker_finds_an_unknown_operator_and_names_it() -> None:
    model = matmul()
    model.graph.node[0].op_type = "MatMull"
    with pytest.raises(GraphError, match="MatMull"):
        check_split(split(model))


def test_own_checks_find_double_names_and_missing_outputs() -> None:
    model = matmul()
    model.graph.initializer.append(model.graph.initializer[0])
    with ExternalFolder(None) as folder:
        with pytest.raises(GraphError, match="initializer 'w' stands twice"):
            check_model(loaded(model), folder)
        del model.graph.initializer[2:]
        del model.graph.output[:]
        with pytest.raises(GraphError, match="no outputs"):
            check_model(loaded(model), folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"raw_data": b"123"}, "wrong amount of data, got 3 bytes, expected 16384"),
        ({"dims": [-1, 4]}, "negative dimension"),
        ({"dims": [1 << 62, 1 << 62]}, "needs more than 2\\^40 bytes"),
        ({"data_type": 99}, "unknown element type, got number 99"),
        ({"float_data": [1.0]}, "both raw_data and float_data"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused(change: dict[str, object], message: str) -> None:
    model = matmul()
    tensor = model.graph.initializer[0]
    for key, value in change.items():
        if isinstance(value, list):
            tensor.ClearField(key)
            getattr(tensor, key).extend(value)
        else:
            setattr(tensor, key, value)
    with pytest.raises(ModelError, match=message):
        split(model)


def test_a_source_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(3 * MIB))
    model = holder([external_tensor("w", dims=(3 * MIB // 4,), location="w.bin")])
    with ExternalFolder(tmp_path) as folder:
        blocks = split_model(loaded(model, tmp_path), folder).weights.blocks()
        next(blocks)
        (tmp_path / "w.bin").write_bytes(b"\1" * (3 * MIB))
        with pytest.raises(ExternalDataError, match="changed while it was read"):
            list(blocks)


def test_a_source_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(3 * MIB))
    model = holder([external_tensor("w", dims=(3 * MIB // 4,), location="w.bin")])
    with ExternalFolder(tmp_path) as folder:
        blocks = split_model(loaded(model, tmp_path), folder).weights.blocks()
        (tmp_path / "w.bin").write_bytes(b"")
        with pytest.raises(ExternalDataError, match="became shorter"):
            list(blocks)


def test_more_than_two_gibibytes_of_weights_stream_through(tmp_path: Path) -> None:
    """Sparse files, so that no disk is filled; two lengths, so that no tensor needs hashing twice."""
    gib = 1 << 30
    sizes = {"a": gib + 4096, "b": gib + 8192, "c": 4096}
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(sum(sizes.values()))
        file.seek(sizes["a"])
        file.write(b"begin of b")
    tensors, at = [], 0
    for name, size in sizes.items():
        entry = {"location": "w.bin", "offset": at, "length": size}
        tensors.append(external_tensor(name, dims=(size // 4,), **entry))
        at += size
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    total = largest = 0
    with ExternalFolder(tmp_path) as folder:
        result = split_model(loaded(holder(tensors), tmp_path), folder)
        rows = {entry.name: entry for entry in result.tensors}
        marker = b""
        for block in result.weights.blocks():
            if total <= rows["b"].offset < total + len(block):
                marker = block[rows["b"].offset - total :][:10]
            total += len(block)
            largest = max(largest, len(block))
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024

    assert total == result.weights.size_bytes > 2 * gib
    assert marker == b"begin of b"
    assert largest <= MIB
    assert grown_mib < 64


def test_read_table_refuses_what_write_table_would_not_write() -> None:
    _, table, weights = parts(matmul(rows=64, cols=512))
    assert write_table(read_table(table, len(weights))) == table
    for bad in (
        table + b" ",
        table[:-1],
        b"{}",
        b"[]",
        table.replace(b'"float32"', b'"float31"', 1),
        table.replace(b'"float32"', b'"int4"', 1),
        table.replace(b"[64,512]", b"[64,65]"),
        table.replace(b"[64,512]", b"[64,-64]"),
        table.replace(b"[64,512]", b"[64,true]"),
        table.replace(b'{"tensors"', b'{"tensors":[],"tensors"'),
        table.replace(b'["w"', b'["b"'),
        b'{"tensors":' + b"[" * 100_000,
    ):
        with pytest.raises(ModelError, match="weights table"):
            read_table(bad, len(weights))
    with pytest.raises(ModelError, match="do not fit"):
        read_table(table, len(weights) - 1)


def test_an_external_tensor_in_a_model_from_bytes_is_refused() -> None:
    model = holder([external_tensor(location="w.bin")])
    with ExternalFolder(None) as folder, pytest.raises(ExternalDataError, match="no folder") as caught:
        split_model(parse_model(model.SerializeToString()), folder)
    assert "path" in caught.value.hint


def test_what_nothing_reads_stays_in_the_graph() -> None:
    """onnxruntime drops such an initializer on loading, and then refuses to be given its value."""
    model = matmul()
    model.graph.initializer.append(raw_tensor("unread", TensorProto.FLOAT, (64, 64), 3))
    inner = helper.make_graph(
        [helper.make_node("Identity", ["outer"], ["o"])],
        "b",
        [],
        [helper.make_tensor_value_info("o", TensorProto.FLOAT, [64, 64])],
    )
    model.graph.initializer.append(raw_tensor("outer", TensorProto.FLOAT, (64, 64), 4))
    model.graph.input.add().CopyFrom(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    model.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [64, 64]))

    result = split(model)

    assert [entry.name for entry in result.tensors] == ["outer", "w"]
    assert [t.name for t in onnx.ModelProto.FromString(result.graph).graph.initializer] == ["b", "unread"]

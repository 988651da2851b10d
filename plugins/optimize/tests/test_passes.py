"""Each pass on the smallest graph that it changes, and on one that it has to leave alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser
from sdkpack_optimize.params import FoldParams, InformationParams, OpsetParams

from plugins.optimize.tests.chain import differences, edited, evaluate, interface, operators, run_pass

HEAD = '<ir_version: 9, opset_import: ["" : 20]>'


def text(body: str, head: str = HEAD) -> onnx.ModelProto:
    return parser.parse_model(head + body)


def agree(one: onnx.ModelProto, other: onnx.ModelProto, **inputs: np.ndarray) -> None:
    assert not list(differences(evaluate(one, inputs), evaluate(other, inputs)))


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# Initializers -----------------------------------------------------------------------------------------------------
def test_initializers_are_no_inputs(tmp_path: Path) -> None:
    model = text("g (float[N] x, float[1] w = {2}, float[1] free) => (float[N] y) { a = Mul(x, w) y = Add(a, free) }")
    made = edited("initializers-not-inputs", model, tmp_path)
    assert [value.name for value in made.graph.input] == ["x", "free"]
    assert [tensor.name for tensor in made.graph.initializer] == ["w"]


def test_models_of_ir_3_become_ir_4(tmp_path: Path) -> None:
    """Before it, an initializer that is no input is not allowed."""
    model = text("g (float[N] x, float[1] w = {2}) => (float[N] y) { y = Mul(x, w) }")
    model.ir_version = 3
    assert edited("initializers-not-inputs", model, tmp_path).ir_version == 4


def test_same_initializers_are_merged_and_others_not(tmp_path: Path) -> None:
    model = text(
        "g (float[N] x) => (float[N] y) <float[1] a = {1}, float[1] b = {1}, float[1] c = {2}>"
        "{ p = Mul(x, a) q = Mul(p, b) y = Mul(q, c) }"
    )
    made = edited("duplicate-initializers", model, tmp_path)
    assert [tensor.name for tensor in made.graph.initializer] == ["a", "c"]
    agree(made, model, x=numbers(3))


def test_signed_zeros_are_two(tmp_path: Path) -> None:
    """They are equal and not the same: 1 / -0 is another infinity."""
    model = text("g (float[N] x) => (float[N] y) <float[1] a = {0}, float[1] b = {0}> { p = Add(x, a) y = Div(p, b) }")
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.array([-0.0], np.float32), "b"))
    assert not run_pass("duplicate-initializers", model, tmp_path).modified


# Dependency and functions -----------------------------------------------------------------------------------------
def test_unused_nodes_and_imports_go(tmp_path: Path) -> None:
    model = text("g (float[N] x) => (float[N] y) <float[1] w = {1}> { dead = Add(x, w) y = Relu(x) }")
    model.opset_import.append(helper.make_opsetid("acme", 1))
    made = edited("unused", model, tmp_path)
    assert operators(made) == ["Relu"]
    assert not made.graph.initializer
    assert [entry.domain for entry in made.opset_import] == [""]


def test_functions_are_inlined(tmp_path: Path) -> None:
    model = text(
        "g (float[N] x) => (float[N] y) { h = own.twice(x) y = own.twice(h) }\n"
        '<domain: "own", opset_import: ["" : 20]> twice (a) => (b) { b = Add(a, a) }',
        '<ir_version: 9, opset_import: ["" : 20, "own" : 1]>',
    )
    made = edited("inline-functions", model, tmp_path)
    assert operators(made) == ["Add", "Add"]
    assert not made.functions
    agree(made, model, x=numbers(3))


# Constant folding -------------------------------------------------------------------------------------------------
SHAPES = """g (float[N,6] x) => (float[N,2,3] y) {
  two = Constant<value_ints=[2]>() three = Add(one, two) one = Constant<value_ints=[1]>()
  open = Constant<value_ints=[-1]>() all = Concat<axis=0>(open, two, three) y = Reshape(x, all) }"""


def test_constants_are_folded(tmp_path: Path) -> None:
    body = SHAPES.replace("three = Add(one, two) one = Constant<value_ints=[1]>()",
                          "one = Constant<value_ints=[1]>() three = Add(one, two)")  # fmt: skip
    model = text(body)
    made = edited("fold-constants", model, tmp_path)
    assert operators(made) == ["Reshape"]
    agree(made, model, x=numbers(5, 6))


def test_folding_stops_at_large_tensors(tmp_path: Path) -> None:
    model = text("g (float[N] x) => (float[N,40] y) <int64[2] shape = {40, 1}, float[1] w = {1}>"
                 "{ wide = Expand(w, shape) flat = Transpose(wide) y = Mul(flat, c) }".replace("c)", "w)")
                 .replace("y = Mul(flat, w)", "z = Unsqueeze(x, axis) y = Add(z, flat)")
                 .replace("float[1] w = {1}", "float[1] w = {1}, int64[1] axis = {1}"))  # fmt: skip
    assert not run_pass("fold-constants", model, tmp_path, params=FoldParams(max_elements=10)).modified
    assert operators(edited("fold-constants", model, tmp_path)) == ["Unsqueeze", "Add"]


def test_branches_that_return_outer_values_load(tmp_path: Path) -> None:
    """onnxruntime refuses a branch whose output is a value of the graph around it."""
    import onnxruntime

    model = text(
        "g (float[N] x, bool c) => (float[N] y) { h = Relu(x) y = If(c) <"
        "then_branch = t () => (float[N] p) { p = Identity(h) },"
        "else_branch = e () => (float[N] q) { k = Identity(h) q = Neg(k) }> }"
    )
    for name in ("fold-constants", "rewrite", "common-subexpressions", "unused"):
        result = run_pass(name, model, tmp_path)
        onnxruntime.InferenceSession(str(result.model), providers=["CPUExecutionProvider"])
        agree(onnx.load(result.model), model, x=numbers(3), c=np.array(True))


# Arithmetic -------------------------------------------------------------------------------------------------------
def test_identities_are_rewritten(tmp_path: Path) -> None:
    model = text(
        "g (float[N,2] x) => (float[N,2] y) <float zero = {0}, float one = {1}>"
        "{ a = Add(x, zero) b = Mul(a, one) y = Relu(b) }"
    )
    made = edited("rewrite", model, tmp_path)
    assert operators(made) == ["Relu"]
    agree(made, model, x=numbers(3, 2))


def test_what_is_computed_twice_is_computed_once(tmp_path: Path) -> None:
    model = text("g (float[N] x) => (float[N] y) { a = Exp(x) b = Exp(x) y = Add(a, b) }")
    made = edited("common-subexpressions", model, tmp_path)
    assert operators(made) == ["Exp", "Add"]
    agree(made, model, x=numbers(3))


CHAIN = """g (float[N,3,4] x) => (float[N,4,1,3] y) <
  int64[2] flat = {-1, 12}, int64[1] axis = {1}, int64[3] back = {-1, 3, 4}, int64[4] last = {-1, 4, 3, 1}> {
  a = Reshape(x, flat) b = Unsqueeze(a, axis) c = Reshape(b, back) d = Reshape(c, last)
  y = Transpose<perm=[0,1,3,2]>(d) }"""


def test_a_chain_of_reshapes_is_one(tmp_path: Path) -> None:
    """The last Transpose moves a dimension of size 1 only, so it is a Reshape too."""
    model = text(CHAIN)
    made = edited("reshapes", model, tmp_path)
    assert operators(made) == ["Reshape"]
    for rows in (1, 2, 5):
        agree(made, model, x=numbers(rows, 3, 4))


def test_a_chain_that_leads_back_is_none(tmp_path: Path) -> None:
    model = text(
        "g (float[N,3,4] x) => (float[N,3,4] y) <int64[2] flat = {-1, 12}, int64[3] back = {-1, 3, 4}>"
        "{ a = Reshape(x, flat) b = Reshape(a, back) y = Relu(b) }"
    )
    assert operators(edited("reshapes", model, tmp_path)) == ["Relu"]


def test_reshapes_of_two_open_dimensions_stay(tmp_path: Path) -> None:
    """Of [N, M, 1] nobody can say with one -1 where N ends."""
    model = text(
        "g (float[N,M] x) => (float[N,1,M,1] y) <int64[1] one = {1}, int64[1] end = {3}>"
        "{ a = Unsqueeze(x, one) y = Unsqueeze(a, end) }"
    )
    assert not run_pass("reshapes", model, tmp_path).modified


def test_transposes_that_move_elements_stay(tmp_path: Path) -> None:
    model = text(
        "g (float[N,3,4] x) => (float[N,12] y) <int64[2] flat = {-1, 12}>"
        "{ a = Transpose<perm=[0,2,1]>(x) y = Reshape(a, flat) }"
    )
    assert not run_pass("reshapes", model, tmp_path).modified


def test_shapes_that_the_exporter_got_wrong_are_not_believed(tmp_path: Path) -> None:
    """The inner value says [N, 12], and is [N, 3, 4]: believed, the Reshape would be nothing."""
    model = text("g (float[N,3,4] x) => (float[N,12] z) <int64[2] flat = {-1, 12}>"
                 "{ a = Relu(x) y = Reshape(a, flat) z = Neg(y) }")  # fmt: skip
    model.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, ["N", 12]))
    assert not run_pass("reshapes", model, tmp_path).modified


def test_slices_of_everything_go(tmp_path: Path) -> None:
    model = text("g (float[N,4] x) => (float[N,4] y) <int64[2] from = {0, 0}, int64[2] to = {2147483647, 2147483647}>"
                 "{ a = Slice(x, from, to) y = Relu(a) }")  # fmt: skip
    assert operators(edited("reshapes", model, tmp_path)) == ["Relu"]
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array([0, 1]), "from"))
    assert not run_pass("reshapes", model, tmp_path).modified


def test_concatenations_of_one_axis_are_one(tmp_path: Path) -> None:
    model = text("g (float[N,2] x, float[N,3] z) => (float[N,K] y) "
                 "{ a = Concat<axis=1>(x, z) b = Relu(z) y = Concat<axis=1>(a, b, x) }")  # fmt: skip
    made = edited("concats", model, tmp_path)
    assert list(made.graph.node[-1].input) == ["x", "z", "b", "x"]
    agree(made, model, x=numbers(3, 2), z=numbers(3, 3))


@pytest.mark.parametrize("inner", ["axis=0", "axis=-1"])
def test_concatenations_of_other_axes_stay(tmp_path: Path, inner: str) -> None:
    model = text(f"g (float[N,2] x) => (float[M,K] y) {{ a = Concat<{inner}>(x, x) y = Concat<axis=1>(a, a) }}")
    assert not run_pass("concats", model, tmp_path).modified


QUANTIZED = """g (uint8[N,4] q) => (uint8[N,4] y) <float s = {0.1}, float t = {0.1}, uint8 z = {7}>
  { f = DequantizeLinear(q, s, z) r = QuantizeLinear(f, t, z) y = Max(r, q) }"""


def test_quantised_again_is_as_it_was(tmp_path: Path) -> None:
    model = text(QUANTIZED)
    made = edited("quantize-pairs", model, tmp_path)
    assert operators(made) == ["Max"]
    agree(made, model, q=np.arange(256, dtype=np.uint8).reshape(64, 4))


def test_pairs_of_other_scales_stay(tmp_path: Path) -> None:
    assert not run_pass("quantize-pairs", text(QUANTIZED.replace("t = {0.1}", "t = {0.2}")), tmp_path).modified


def test_pairs_that_round_stay(tmp_path: Path) -> None:
    model = text("g (float[N] x) => (float[N] y) <float s = {0.1}, uint8 z = {7}>"
                 "{ q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }")  # fmt: skip
    assert not run_pass("quantize-pairs", model, tmp_path).modified


# Fusion -----------------------------------------------------------------------------------------------------------
GELUS = {
    "half last": "d = Div(x, root) e = Erf(d) p = Add(e, one) m = Mul(x, p) y = Mul(m, half)",
    "half first": "d = Mul(inverse, x) e = Erf(d) p = Add(one, e) h = Mul(x, half) y = Mul(h, p)",
    "half inside": "d = Div(x, root) e = Erf(d) p = Add(e, one) m = Mul(half, p) y = Mul(m, x)",
}
NUMBERS = "<float root = {1.4142135}, float inverse = {0.70710677}, float one = {1}, float half = {0.5}>"


@pytest.mark.parametrize("body", GELUS.values(), ids=GELUS)
def test_gelu_is_found(tmp_path: Path, body: str) -> None:
    model = text(f"g (float[N,8] x) => (float[N,8] y) {NUMBERS} {{ {body} }}")
    made = edited("fuse-gelu", model, tmp_path)
    assert operators(made) == ["Gelu"]
    agree(made, model, x=numbers(4, 8))


OTHERS = [("half = {0.5}", "half = {0.6}"), ("one = {1}", "one = {2}"), ("Mul(x, p)", "Mul(d, p)")]


@pytest.mark.parametrize("change", OTHERS)
def test_what_is_no_gelu_stays(tmp_path: Path, change: tuple[str, str]) -> None:
    body = f"g (float[N,8] x) => (float[N,8] y) {NUMBERS} {{ {GELUS['half last']} }}".replace(*change)
    assert not run_pass("fuse-gelu", text(body), tmp_path).modified


def test_gelu_needs_its_opset(tmp_path: Path) -> None:
    model = text(f"g (float[N,8] x) => (float[N,8] y) {NUMBERS} {{ {GELUS['half last']} }}", HEAD.replace("20", "19"))
    result = run_pass("fuse-gelu", model, tmp_path)
    assert not result.modified
    assert result.notes == ("Gelu needs opset 20",)


NORM = """g (float[N,5,8] x) => (float[N,5,8] y) <float two = {2}, float eps = {0.00001}> {
  m = ReduceMean<axes=[-1]>(x) d = Sub(x, m) s = Pow(d, two) v = ReduceMean<axes=[2]>(s) a = Add(v, eps) r = Sqrt(a)
  n = Div(d, r) k = Mul(n, scale) y = Add(k, bias) }"""


def layer_norm() -> onnx.ModelProto:
    model = text(NORM, HEAD.replace("20", "17"))
    for name in ("scale", "bias"):
        model.graph.initializer.append(numpy_helper.from_array(numbers(8, seed=len(name)), name))
    return model


def test_layer_normalisation_is_found(tmp_path: Path) -> None:
    model = layer_norm()
    made = edited("fuse-layer-norm", model, tmp_path)
    assert operators(made) == ["LayerNormalization"]
    agree(made, model, x=numbers(2, 5, 8))


def test_another_axis_is_no_layer_normalisation(tmp_path: Path) -> None:
    model = text(NORM.replace("[2]", "[1]"), HEAD.replace("20", "17"))
    model.graph.initializer.extend(layer_norm().graph.initializer[-2:])
    assert not run_pass("fuse-layer-norm", model, tmp_path).modified


ATTENTION_SHAPES = "float[N,2,5,8] q, float[N,2,7,8] k, float[N,2,7,4] v"
ATTENTIONS = {
    "scores are scaled": "t = Transpose<perm=[0,1,3,2]>(k) s = MatMul(q, t) c = Mul(s, half)",
    "scores are divided": "t = Transpose<perm=[0,1,3,2]>(k) s = MatMul(q, t) c = Div(s, two)",
    "both are scaled": "a = Mul(root, q) b = Mul(k, root) t = Transpose<perm=[0,1,3,2]>(b) c = MatMul(a, t)",
    "the turned one is scaled": "t = Transpose<perm=[0,1,3,2]>(k) b = Mul(t, half) c = MatMul(q, b)",
}
FACTORS = "<float half = {0.5}, float two = {2}, float root = {0.70710678}>"


def attention(body: str, *, mask: bool = False, rest: str = "", opset: str = "23") -> onnx.ModelProto:
    inputs = ATTENTION_SHAPES + (", float[5,7] m" if mask else "")
    added = "c2 = Add(c, m)" if mask else "c2 = Identity(c)"
    graph = f"g ({inputs}) => (float[N,2,5,4] y{rest}) {FACTORS} {{ {body} {added} p = Softmax(c2) y = MatMul(p, v) }}"
    model = text(graph.replace("c2 = Identity(c)", "").replace("Softmax(c2)", "Softmax(c2)" if mask else "Softmax(c)"),
                 HEAD.replace("20", opset))  # fmt: skip
    model.ir_version = 11
    return model


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("body", ATTENTIONS.values(), ids=ATTENTIONS)
def test_attention_is_found(body: str, mask: bool, tmp_path: Path) -> None:
    model = attention(body, mask=mask)
    made = edited("fuse-attention", model, tmp_path)
    assert operators(made) == ["Attention"]
    given = {"q": numbers(3, 2, 5, 8), "k": numbers(3, 2, 7, 8, seed=1), "v": numbers(3, 2, 7, 4, seed=2)}
    agree(made, model, **given, **({"m": numbers(5, 7, seed=3)} if mask else {}))


def test_what_is_no_attention_stays(tmp_path: Path) -> None:
    plain = ATTENTIONS["scores are scaled"]
    assert not run_pass("fuse-attention", attention(plain.replace("0,1,3,2", "0,1,2,3"), opset="23"), tmp_path).modified
    assert not run_pass("fuse-attention", attention(plain, rest=", float[N,2,5,7] p"), tmp_path).modified
    old = run_pass("fuse-attention", attention(plain, opset="22"), tmp_path)
    assert old.notes == ("Attention needs opset 23",)


def test_onnxslim_fuses_and_keeps_the_interface(tmp_path: Path) -> None:
    """It drops inputs that nothing reads, where it is let."""
    model = text("g (float[N,4] x, float[N,4] idle) => (float[N,4] y) <float[4] b = {1, 2, 3, 4}>"
                 "{ k = Transpose(x) t = Transpose(k) m = MatMul(t, w) y = Add(m, b) }")  # fmt: skip
    model.graph.initializer.append(numpy_helper.from_array(numbers(4, 4), "w"))
    made = edited("onnxslim", model, tmp_path)
    assert operators(made) in (["Gemm"], ["MatMul", "Add"])
    assert interface(made) == interface(model)
    agree(made, model, x=numbers(3, 4), idle=numbers(3, 4))


# Information ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("window", "wanted"), [((7, 18), 18), ((21, 22), 21), ((7, 28), 20), (None, 20)])
def test_the_opset_comes_into_the_window(tmp_path: Path, window: tuple[int, int] | None, wanted: int) -> None:
    model = text("g (float[N,4] x) => (float[N] y) <int64[1] axes = {1}> { y = ReduceMax<keepdims=0>(x, axes) }")
    result = run_pass("opset", model, tmp_path, opsets=window)
    made = onnx.load(result.model)
    assert made.opset_import[0].version == wanted
    assert result.modified == (wanted != 20)
    agree(made, model, x=numbers(3, 4))


def test_the_recipe_may_name_the_opset(tmp_path: Path) -> None:
    model = text("g (float[N] x) => (float[N] y) { y = Relu(x) }")
    made = edited("opset", model, tmp_path, params=OpsetParams(target=22))
    assert made.opset_import[0].version == 22


def talkative() -> onnx.ModelProto:
    model = text("g (float[N] x) => (float[N] y) { a = Relu(x) b = Neg(a) y = Abs(b) }")
    model.producer_name, model.doc_string = "exporter", "how it was trained"
    model.graph.doc_string = "Copyright (c) its author"
    for key, value in (("character", "abc"), ("License", "MIT"), ("model_licence_url", "LICENSE")):
        model.metadata_props.add(key=key, value=value)
    for node in model.graph.node:
        node.metadata_props.add(key="stack_trace", value="/home/author/net.py:3")
    model.graph.node[0].name = model.graph.node[1].name = "same"
    model.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, ["N"]))
    model.graph.value_info.append(helper.make_tensor_value_info("gone", TensorProto.FLOAT, ["N"]))
    model.opset_import.append(helper.make_opsetid("acme", 1))
    return model


def test_information_is_dropped_but_for_what_counts(tmp_path: Path) -> None:
    made = edited("information", talkative(), tmp_path)
    assert {entry.key: entry.value for entry in made.metadata_props} == {
        "character": "abc", "License": "MIT", "model_licence_url": "LICENSE",
    }  # fmt: skip
    assert made.doc_string == ""
    assert made.graph.doc_string == "Copyright (c) its author"
    assert made.producer_name == "exporter"
    assert b"/home/author" not in made.SerializeToString()
    assert [node.name for node in made.graph.node] == ["same", "Neg_0", "Abs_1"]
    assert not made.graph.value_info
    assert [entry.domain for entry in made.opset_import] == [""]


def test_information_is_kept_or_dropped_by_choice(tmp_path: Path) -> None:
    less = InformationParams(metadata="licence", producer="drop", shapes="drop", names="all")
    made = edited("information", talkative(), tmp_path, params=less)
    assert [entry.key for entry in made.metadata_props] == ["License", "model_licence_url"]
    assert made.producer_name == ""
    assert not made.graph.value_info
    assert [node.name for node in made.graph.node] == ["Relu_0", "Neg_1", "Abs_2"]
    more = InformationParams(docs="keep", node_metadata="keep", shapes="keep")
    made = edited("information", talkative(), tmp_path, params=more)
    assert made.doc_string == "how it was trained"
    assert [info.name for info in made.graph.value_info] == ["a"]
    assert all(node.metadata_props for node in made.graph.node)


def test_shapes_behind_foreign_operators_are_kept(tmp_path: Path) -> None:
    """Nothing can infer them."""
    model = text("g (float[N] x) => (float[N] y) { a = acme.Magic(x) b = Relu(a) y = Neg(b) }",
                 '<ir_version: 9, opset_import: ["" : 20, "acme" : 1]>')  # fmt: skip
    for name in "ab":
        model.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]))
    made = edited("information", model, tmp_path)
    assert [info.name for info in made.graph.value_info] == ["a"]


def test_a_castlike_that_does_not_saturate_is_not_folded(tmp_path: Path) -> None:
    """onnxscript makes a Cast of it that does."""
    model = text("g (float[N] x) => (float[N] y) <float one = {1}> { y = CastLike<saturate=0>(x, one) }")
    result = run_pass("fold-constants", model, tmp_path)
    assert not result.modified
    assert "CastLike" in result.notes[0]


def test_params_refuse_nonsense() -> None:
    with pytest.raises(ValueError, match="max_elements"):
        FoldParams(max_elements=0)
    with pytest.raises(ValueError, match="target"):
        OpsetParams(target=3)

"""Looks through a .pt2 program for what would run while torch loads it, before torch sees it.

`torch.export.load` unpickles members, hands texts of the program to `eval` (by way of SymPy), looks names up from the
top of the torch package and calls what it finds, imports modules that a tree's description names, and writes names into
Python source that it then runs. Each of these has a narrow form in files that torch itself writes; nothing else passes.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sdkpack.errors import ModelError
from sdkpack_torch.archive import Archive, open_archive
from sdkpack_torch.words import words

__all__ = ["check_program"]

_MODELS: Final = "models/"
_NATIVE: Final = ("data/aotinductor/", "data/executorch/", "data/mtia")
_NAME: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_WORD: Final = re.compile(r"[A-Za-z_]\w*|-?[0-9.]+(e[+-]?\d+)?", re.ASCII)
_PATH: Final = re.compile(r"[\w.\-]*", re.ASCII)
"""Names of weights: they end up in quotes in Python source."""
_OPERATOR: Final = re.compile(r"torch\.ops\.(\w+)\.(\w+)(?:\.(\w+))?", re.ASCII)
_SPACES: Final = frozenset({"aten", "prim", "prims", "quantized_decomposed", "higher_order"})
_PYTHON: Final = words(
    "_operator.getitem _operator.add _operator.sub _operator.mul _operator.truediv _operator.floordiv _operator.mod "
    "_operator.pow _operator.neg _operator.pos _operator.eq _operator.ne _operator.lt _operator.le _operator.gt "
    "_operator.ge _operator.and_ _operator.or_ _operator.not_ _operator.xor _operator.lshift _operator.rshift "
    "math.trunc math.ceil math.floor math.sqrt torch.sym_not torch.sym_int torch.sym_float torch.sym_ite torch.sym_max "
    "torch.sym_min torch.sym_sqrt torch.sym_sum torch._sym_sqrt torch._check torch._check_is_size"
)
"""What a program may call beside operators."""
_DUNDERS: Final = words("__and__ __or__ __xor__ __lshift__ __rshift__ __iand__ __ior__ __ixor__")
_FUNCTIONS: Final = words(
    "FloorDiv ModularIndexing Where PythonMod Mod CleanDiv CeilToInt FloorToInt CeilDiv LShift RShift PowByNatural "
    "FloatPow FloatTrueDiv IntTrueDiv IsNonOverlappingAndDenseIndicator TruncToFloat TruncToInt RoundToInt "
    "RoundDecimal ToFloat Identity Max Min Eq Ne Lt Le Gt Ge And Or Not Abs Pow Add Mul floor ceiling sqrt Symbol "
    "Integer Rational Float Equality Unequality StrictLessThan LessThan StrictGreaterThan GreaterThan"
)
"""What a size may call: torch's own functions over sizes, and SymPy's of arithmetic."""
_EXPRESSION: Final = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Call, ast.Name, ast.Constant, ast.operator,
    ast.unaryop, ast.boolop, ast.cmpop, ast.Load, ast.keyword,
)  # fmt: skip
_TREES: Final = frozenset({None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"})
_MAX_SHOWN: Final = 10
_MAX_EXPRESSION: Final = 2000


def check_program(path: Path) -> None:
    """
    Raises:
        ModelError: the file is damaged, holds what would run, or operators that are not torch's; all of them named.
    """
    archive = open_archive(path)
    models = [name for name in archive.names if name.startswith(_MODELS)]
    if "archive_format" not in archive.names or f"{_MODELS}model.json" not in models:
        raise ModelError(
            f"{path.name!r} holds no program 'model'", hint="write it with torch.export.save of torch 2.8 or later"
        )
    findings = [f"the compiled code {name!r}" for name in archive.names if name.startswith(_NATIVE)]
    custom: list[str] = []
    for name in models:
        for kind, text in _findings(_json(archive, name)):
            (custom if kind == "custom" else findings).append(text)
    findings += _pickles(archive)
    if findings:
        raise ModelError(
            f"{path.name!r} is made to run code while it is loaded: {_listed(findings)}",
            hint="do not trust where it came from; torch.export.save writes nothing of this kind",
        )
    if custom:
        raise ModelError(
            f"{path.name!r} uses operators that are not torch's own: {_listed(custom)}",
            hint="register a decomposition of them before torch.export, or replace them in the model",
        )


def _json(archive: Archive, name: str) -> Any:
    try:
        return json.loads(archive.read(name))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"the archive's member {name!r} is no JSON: {error}") from error


def _pickles(archive: Archive) -> Iterator[str]:
    """Members that are pickles, other than the sample inputs and tensors, which are read as tensors or not at all."""
    for folder in ("data/weights/", "data/constants/"):
        for name in (each for each in archive.names if each.startswith(folder)):
            if name.removeprefix(folder).startswith(("custom_obj_", "opaque_obj_")):
                yield f"the pickled object {name!r}"
            elif name.endswith(".pt"):
                yield f"the pickle {name!r}"
            elif name.endswith(".json"):
                for weight, facts in dict(_json(archive, name).get("config", {})).items():
                    if not _PATH.fullmatch(weight):
                        yield f"the weight's name {weight[:60]!r}"
                    if not isinstance(facts, dict) or facts.get("use_pickle"):
                        yield f"the pickled weight {weight[:60]!r}"


def _findings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """What is not as torch writes it: (`code` or `custom`, text) of each place."""
    if isinstance(value, dict):
        for name, item in value.items():
            if key == "range_constraints" and not _NAME.fullmatch(name):
                yield "code", f"the symbol {name[:60]!r}"
            yield from _findings(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _findings(item, key)
    elif isinstance(value, str):
        yield from _text(key, value)


def _text(key: str, text: str) -> Iterator[tuple[str, str]]:
    if key == "expr_str":
        if not _is_expression(text):
            yield "code", f"the size {text[:60]!r}"
    elif key in ("target", "as_operator"):
        kind = _target(text)
        if kind:
            yield kind, repr(text.removeprefix("torch.ops.")[:60]) if kind == "custom" else f"a call of {text[:60]!r}"
    elif key in ("in_spec", "out_spec"):
        if not _is_tree(text, strict=key == "in_spec"):
            yield "code", f"the tree {text[:60]!r}"
    elif key in ("name", "as_name", "forward_arg_names", "field_names"):
        if text and not _NAME.fullmatch(text):
            yield "code", f"the name {text[:60]!r}"
    elif key == "guards_code":
        yield "code", f"the guard {text[:60]!r}"
    elif key == "class_fqn":
        yield "code", f"an object of class {text[:60]!r}"
    elif (key == "fqn" or key.endswith("_name")) and not _PATH.fullmatch(text):
        yield "code", f"the name {text[:60]!r}"


def _target(text: str) -> str:
    """Empty for what a program may call, else `code`, or `custom` for an operator of somebody else's."""
    if text in _PYTHON:
        return ""
    match = _OPERATOR.fullmatch(text)
    if match is None or any(
        part.startswith("_") and "__" in part and part not in _DUNDERS for part in match.groups("")
    ):
        return "code"
    if match[1] == "aten" and match[2] == "from_file":
        return "code"
    # Only names of operators' libraries are of three parts at least; torch.ops has methods of its own.
    if match[1] in _SPACES:
        return ""
    return "custom" if match[3] else "code"


def _is_expression(text: str) -> bool:
    """Whether a size is arithmetic over names: SymPy's reader would run anything else."""
    if len(text) > _MAX_EXPRESSION:
        return False
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return all(isinstance(node, _EXPRESSION) and _is_plain(node) for node in nodes)


def _is_plain(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        # Texts: the names of symbols and the digits of numbers.
        return isinstance(node.value, bool | int | float) or bool(_WORD.fullmatch(str(node.value)))
    if isinstance(node, ast.Name):
        return "__" not in node.id
    return not isinstance(node, ast.Call) or (isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS)


def _is_tree(text: str, *, strict: bool) -> bool:
    """Whether a tree's description consists of tuples, lists and dictionaries with texts as keys."""
    try:
        version, schema = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return False
    return version == 1 and _is_node(schema, strict)


def _is_node(node: Any, strict: bool) -> bool:
    if not isinstance(node, dict) or set(node) != {"type", "context", "children_spec"} or node["type"] not in _TREES:
        return False
    try:
        context = json.loads(node["context"]) if isinstance(node["context"], str) else node["context"]
    except (ValueError, RecursionError):
        return False
    keys = context if isinstance(context, list) else []
    if not (context is None or isinstance(context, list)) or not all(isinstance(key, str) for key in keys):
        return False
    # Keys of inputs are written into Python source as names of arguments.
    if strict and not all(_NAME.fullmatch(key) for key in keys):
        return False
    return isinstance(node["children_spec"], list) and all(_is_node(child, strict) for child in node["children_spec"])


def _listed(items: list[str]) -> str:
    unique = list(dict.fromkeys(items))
    more = f" and {len(unique) - _MAX_SHOWN} more" if len(unique) > _MAX_SHOWN else ""
    return ", ".join(unique[:_MAX_SHOWN]) + more

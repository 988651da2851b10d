"""Inputs and outputs of a source: which of them, under which names, with which shapes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Final

from sdkpack.errors import ModelError, Problem
from sdkpack.plugin import ConvertRequest
from sdkpack.types import TensorSpec
from sdkpack_tensorflow.onnx_writer import Port

__all__ = ["apply_request", "named_shape", "near", "selected"]

_RANK_4: Final = 4
_WORD: Final = re.compile(r"[^A-Za-z0-9_]+")


def named_shape(name: str, dims: Sequence[int | None]) -> tuple[int | str, ...]:
    """Sizes, and names for the open ones: the first is the batch `N`, which all inputs share; others are the input's
    own."""
    word = _WORD.sub("_", name).strip("_") or "input"
    word = word if not word[0].isdigit() else f"_{word}"
    return tuple(
        dim if dim is not None and dim >= 0 else "N" if index == 0 else f"{word}_dim{index}"
        for index, dim in enumerate(dims)
    )


def near(word: str, known: Sequence[str]) -> str:
    """` (did you mean 'x'?)`, or nothing."""
    found = get_close_matches(word, known, n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""


def selected(ports: Sequence[Port], names: Sequence[str], request: ConvertRequest) -> tuple[Port, ...]:
    """The outputs that the author keeps, in the source's order.

    Raises:
        ModelError: names that there are not, all of them.
    """
    known = [port.name for port in ports]
    wrong = [name for name in names if name not in known]
    if wrong:
        raise ModelError(
            f"{request.name!r} has no outputs {', '.join(f'{name!r}{near(name, known)}' for name in wrong)}; "
            f"it has {', '.join(known)}",
            hint=f"models.{request.name}.convert.with.outputs names them",
        )
    return tuple(port for port in ports if not names or port.name in names)


def apply_request(ports: Sequence[Port], as_nchw: Sequence[str], request: ConvertRequest) -> tuple[Port, ...]:
    """The inputs with what the author says of them: sizes or names for open dimensions, NCHW.

    A declared shape is the one of the ONNX model, so that of an NCHW input is NCHW.

    Raises:
        ModelError: what is declared does not fit the source, or the source leaves a rank open; all findings.
    """
    known = {port.name: port for port in ports}
    findings = [
        Problem(path=f"inputs_as_nchw.{name}", message=f"there is no such input{near(name, list(known))}",
                expected=", ".join(known))
        for name in as_nchw if name not in known
    ]  # fmt: skip
    changed = dict(known)
    for port in ports:
        if port.name in as_nchw:
            if port.shape is not None and len(port.shape) != _RANK_4:
                findings.append(
                    Problem(path=f"inputs_as_nchw.{port.name}", message="only inputs of 4 dimensions can be NCHW",
                            got=f"{len(port.shape)}")
                )  # fmt: skip
            else:
                changed[port.name] = replace(port, as_nchw=True)
    for spec in request.inputs:
        if spec.name not in known:
            findings.append(
                Problem(path=f"inputs.{spec.name}", message=f"there is no such input{near(spec.name, list(known))}",
                        expected=", ".join(known))
            )  # fmt: skip
            continue
        port, found = _declared(changed[spec.name], spec)
        changed[spec.name] = port
        findings += found
    findings += [
        Problem(path=f"inputs.{port.name}", message="the source does not say how many dimensions it has",
                hint=f"declare its shape: models.{request.name}.inputs.{port.name}")
        for port in changed.values() if port.shape is None
    ]  # fmt: skip
    if findings:
        raise ModelError(
            f"the inputs of {request.name!r} do not fit what is said of them",
            hint=f"models.{request.name}.inputs and .convert.with say what they are",
            problems=findings,
        )
    return tuple(changed.values())


def _declared(port: Port, spec: TensorSpec) -> tuple[Port, list[Problem]]:
    findings = []
    if port.dtype and spec.dtype and spec.dtype != port.dtype:
        findings.append(
            Problem(path=f"inputs.{port.name}", message="another element type", got=spec.dtype, expected=port.dtype)
        )
    shape = tuple(spec.shape)
    if port.as_nchw and len(shape) == _RANK_4:
        shape = (shape[0], shape[2], shape[3], shape[1])
    fits = port.shape is None or (
        len(shape) == len(port.shape)
        and all(not isinstance(mine, int) or mine == theirs for mine, theirs in zip(port.shape, shape, strict=True))
    )
    if not fits:
        findings.append(
            Problem(path=f"inputs.{port.name}", message="another shape", got=str(list(spec.shape)),
                    expected=str(list(port.shape or ())))
        )  # fmt: skip
        return port, findings
    named = tuple(
        mine if theirs == "?" else theirs for mine, theirs in zip(port.shape or ("?",) * len(shape), shape, strict=True)
    )
    return replace(port, shape=named), findings

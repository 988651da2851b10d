"""The built-in operators' descriptors."""

from __future__ import annotations

from typing import Any, Final

from sdkpack.builtin.operators import params
from sdkpack.plugin import OperatorInfo, Port

__all__ = ["operator_rows"]

_SCORES: Final = Port(name="scores", type="tensor(float32, [1, ?])")
_ITEMS: Final = Port(name="items", type="list(any)")
_ORDER: Final = Port(name="order", type="list(int)")
_QUADS: Final = Port(name="boxes", type="list(quad)")
ZIP_PORTS: Final = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")


def _row(
    name: str,
    summary: str,
    load: str,
    made_with: type[Any] | None,
    inputs: tuple[Port, ...],
    outputs: tuple[Port, ...],
) -> OperatorInfo:
    return OperatorInfo(
        name=name, summary=summary, load=f"sdkpack.builtin.operators.{load}", params=made_with, inputs=inputs,
        outputs=outputs, requires=("numpy>=2.0",),
    )  # fmt: skip


def operator_rows() -> list[OperatorInfo]:
    return [*_score_rows(), *_list_rows(), *_box_rows()]


def _score_rows() -> list[OperatorInfo]:
    tensor = Port(name="tensor", type="tensor(float32)")
    return [
        _row(
            "scores.softmax", "Turns scores into probabilities along an axis.", "scores:Softmax",
            params.SoftmaxParams, (tensor,), (tensor,),
        ),
        _row(
            "scores.argmax", "The best class and its score.", "scores:ArgMax", None, (_SCORES,),
            (Port(name="index", type="int"), Port(name="score", type="float")),
        ),
        _row(
            "scores.above", "Whether one class's score is above a threshold.", "scores:Above", params.AboveParams,
            (_SCORES,), (Port(name="answer", type="bool"),),
        ),
        _row(
            "scores.top_k", "The k best classes with labels and scores.", "scores:TopK", params.TopKParams,
            (_SCORES,), (Port(name="classes", type="list(record(index: int, label: string, score: float))"),),
        ),
        _row(
            "labels.lookup", "The label of a class.", "scores:Lookup", params.LookupParams,
            (Port(name="index", type="int"),), (Port(name="label", type="string"),),
        ),
        _row(
            "text.ctc_greedy", "Reads text off a CTC network's best path.", "text:CtcGreedy", params.CtcGreedyParams,
            (Port(name="scores", type="tensor(float32, [1, ?, ?])"),),
            (Port(name="text", type="string"), Port(name="score", type="float")),
        ),
    ]  # fmt: skip


def _list_rows() -> list[OperatorInfo]:
    return [
        _row(
            "list.filter", "Keeps the items on one side of a threshold.", "lists:Filter", params.FilterParams,
            (_ITEMS,), (_ITEMS,),
        ),
        _row(
            "list.sort", "Sorts items and says where each came from.", "lists:Sort", params.SortParams, (_ITEMS,),
            (_ITEMS, _ORDER),
        ),
        _row(
            "list.restore", "Undoes a sort or gather.", "lists:Restore", None, (_ITEMS, _ORDER), (_ITEMS,)
        ),
        _row(
            "list.gather", "Takes items by their places.", "lists:Gather", None, (_ITEMS, _ORDER), (_ITEMS,)
        ),
        _row(
            "list.zip", "Joins up to eight lists into one list of records.", "lists:Zip", params.ZipParams,
            tuple(Port(name=name, type="list(any)", optional=number > 0) for number, name in enumerate(ZIP_PORTS)),
            (Port(name="records", type="list(record)"),),
        ),
    ]  # fmt: skip


def _box_rows() -> list[OperatorInfo]:
    return [
        _row(
            "boxes.reading_order", "Sorts boxes from top to bottom, on one line from left to right.",
            "boxes:ReadingOrder", params.ReadingOrderParams, (_QUADS,), (_QUADS, _ORDER),
        ),
        _row(
            "boxes.map_back", "Maps boxes to the image before a resize, padding or cut.", "boxes:MapBack", None,
            (_QUADS, Port(name="geometry", type="geometry")), (_QUADS,),
        ),
    ]  # fmt: skip

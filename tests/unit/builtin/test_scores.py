"""Operators on scores, and reading text off a CTC network."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sdkpack.builtin.operators.params import (
    AboveParams,
    CtcGreedyParams,
    LookupParams,
    SoftmaxParams,
    TopKParams,
)
from sdkpack.builtin.operators.scores import Above, ArgMax, Lookup, Softmax, TopK
from sdkpack.builtin.operators.text import CtcGreedy
from sdkpack.errors import InputError
from sdkpack.types import ValueType

ROW = np.array([[0.1, 0.7, 0.2]], np.float32)
LETTERS = CtcGreedyParams(alphabet=("a", "b"), add_space=True)


def path(*classes: int, count: int = 4) -> np.ndarray:
    """Scores whose best path is `classes`, each with a score of 0.9."""
    scores = np.full((1, len(classes), count), 0.1, np.float32)
    for position, best in enumerate(classes):
        scores[0, position, best] = 0.9
    return scores


@given(
    arrays(
        np.float32, st.tuples(st.integers(1, 3), st.integers(1, 5)), elements=st.floats(-(2.0**90), 2.0**90, width=32)
    )
)
def test_softmax_gives_probabilities_in_the_order_of_the_scores(scores: np.ndarray) -> None:
    result = Softmax(SoftmaxParams()).run(scores)
    assert result.dtype == np.float32
    assert np.allclose(result.sum(axis=1), 1, atol=1e-6)
    # Scores that differ in the last bit may share a probability, so the greatest is compared, not its place.
    assert (result[np.arange(len(scores)), scores.argmax(axis=1)] == result.max(axis=1)).all()


def test_softmax_equals_its_definition() -> None:
    scores = np.random.default_rng(1).normal(0, 5, (4, 9)).astype(np.float32)
    exact = np.exp(scores.astype(np.float64) / 2)
    exact /= exact.sum(axis=0, keepdims=True)
    assert np.abs(Softmax(SoftmaxParams(axis=0, temperature=2.0)).run(scores) - exact).max() <= 2e-7


def test_softmax_of_nothing_is_nothing() -> None:
    assert Softmax(SoftmaxParams()).run(np.zeros((0, 5), np.float32)).shape == (0, 5)


def test_softmax_checks_its_axis_before_a_run() -> None:
    with pytest.raises(ValueError, match="axis is 2, but the tensor has 2 axes"):
        Softmax(SoftmaxParams(axis=2)).infer({"tensor": ValueType.parse("tensor(float32, [1, 5])")})


def test_argmax_takes_the_first_of_equals() -> None:
    assert ArgMax().run(ROW) == (1, pytest.approx(0.7))
    assert ArgMax().run(np.zeros((1, 3), np.float32)) == (0, 0.0)


@pytest.mark.parametrize(
    "scores", [np.zeros((2, 3), np.float32), np.zeros((1, 0), np.float32), np.zeros(3, np.float32)]
)
def test_one_sample_is_expected(scores: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"expected the scores of one sample, \[1, classes\]"):
        ArgMax().run(scores)


@pytest.mark.parametrize(
    ("score", "answer"), [(0.91, True), (0.9, False), (0.89, False), (float("nan"), False), (float("inf"), True)]
)
def test_above_is_strict_in_the_precision_of_the_scores(score: float, answer: bool) -> None:
    scores = np.array([[0.0, score]], np.float32)
    assert Above(AboveParams(index=1, threshold=0.9)).run(scores) is answer


def test_above_checks_its_index() -> None:
    above = Above(AboveParams(index=3))
    with pytest.raises(ValueError, match="index is 3, but there are 3 classes"):
        above.infer({"scores": ValueType.parse("tensor(float32, [1, 3])")})
    with pytest.raises(InputError, match="more than 3 classes, got 3"):
        above.run(ROW)


def test_top_k_is_best_first() -> None:
    best = TopK(TopKParams(k=2, labels=("cat", "dog", "cow"))).run(ROW)
    assert [(entry["index"], entry["label"]) for entry in best] == [(1, "dog"), (2, "cow")]
    assert best[0]["score"] == pytest.approx(0.7)


def test_top_k_gives_all_when_there_are_fewer_and_numbers_without_labels() -> None:
    assert [entry["label"] for entry in TopK(TopKParams(k=9)).run(ROW)] == ["1", "2", "0"]


def test_top_k_wants_a_label_for_each_class() -> None:
    top = TopK(TopKParams(labels=("a", "b")))
    with pytest.raises(ValueError, match="there are 2 labels for 3 classes"):
        top.infer({"scores": ValueType.parse("tensor(float32, [N, 3])")})
    with pytest.raises(InputError, match="expected 2 classes"):
        top.run(ROW)


def test_lookup() -> None:
    lookup = Lookup(LookupParams(labels=("a", "b")))
    assert lookup.run(1) == "b"
    for wrong in (-1, 2):
        with pytest.raises(InputError, match=f"from 0 to 1, got {wrong}"):
            lookup.run(wrong)


@pytest.mark.parametrize(
    ("classes", "text"),
    [
        ((1, 1, 0, 1, 2), "aab"),
        ((1, 3, 3, 2), "a b"),
        ((0, 0, 0), ""),
        ((2,), "b"),
        ((1, 2, 1), "aba"),
        ((0, 1, 1, 1, 0), "a"),
    ],
)
def test_ctc_joins_repeats_and_drops_blanks(classes: tuple[int, ...], text: str) -> None:
    read, score = CtcGreedy(LETTERS).run(path(*classes))
    assert read == text
    assert score == pytest.approx(0.9 if text else 0.0)


def test_ctc_blank_may_stand_last() -> None:
    params = CtcGreedyParams(alphabet=("a", "b"), blank="last")
    assert CtcGreedy(params).run(path(0, 2, 0, 1, count=3))[0] == "aab"


def test_ctc_score_is_the_mean_of_the_characters_alone() -> None:
    scores = path(1, 0, 2)
    scores[0, 0, 1], scores[0, 1, 0] = 0.5, 0.2
    assert CtcGreedy(LETTERS).run(scores)[1] == pytest.approx(0.7)


def test_ctc_of_no_positions_is_empty() -> None:
    assert CtcGreedy(LETTERS).run(np.zeros((1, 0, 4), np.float32)) == ("", 0.0)


def test_ctc_checks_the_alphabet_before_a_run() -> None:
    with pytest.raises(ValueError, match=r"expected 4 classes \(blank and alphabet\), got 3"):
        CtcGreedy(LETTERS).infer({"scores": ValueType.parse("tensor(float32, [1, T, 3])")})
    CtcGreedy(LETTERS).infer({"scores": ValueType.parse("tensor(float32, [N, T, 4])")})
    with pytest.raises(InputError, match="expected 4 classes"):
        CtcGreedy(LETTERS).run(path(1, count=3))
    with pytest.raises(InputError, match="one text"):
        CtcGreedy(LETTERS).run(np.zeros((2, 3, 4), np.float32))


@given(st.lists(st.integers(0, 3), max_size=30))
def test_ctc_equals_its_definition(classes: list[int]) -> None:
    expected = "".join(
        " ab "[best] if best == 3 else "-ab "[best]
        for place, best in enumerate(classes)
        if best and (place == 0 or classes[place - 1] != best)
    )
    assert CtcGreedy(LETTERS).run(path(*classes) if classes else np.zeros((1, 0, 4), np.float32))[0] == expected

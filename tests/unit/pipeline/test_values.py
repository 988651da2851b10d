"""Whether a value is what its type says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sdkpack.pipeline.values import described, nonconformity
from sdkpack.types import ValueType

IMAGE = np.zeros((2, 3, 3), np.uint8)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("image", IMAGE),
        ("image/encoded", b"\xff"),
        ("bytes", memoryview(b"")),
        ("string", ""),
        ("int", 3),
        ("int", np.int64(3)),
        ("float", 3),
        ("float", np.float32(3)),
        ("bool", np.True_),
        ("quad", np.zeros((4, 2), np.float32)),
        ("tensor", np.zeros(1)),
        ("tensor(int64, [])", np.array(3)),
        ("tensor(string, [N])", np.array(["a"])),
        ("tensor(float32, [2, N, N])", np.zeros((2, 3, 3), np.float32)),
        ("list(tensor(float32, [N]))", [np.zeros(1, np.float32), np.zeros(2, np.float32)]),
        ("record(a: int)", {"a": 1, "b": None}),
        ("any", None),
        ("acme.mesh", object()),
    ],
)
def test_accepts(kind: str, value: Any) -> None:
    assert nonconformity(ValueType.parse(kind), value, {}) == ""


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        ("image", IMAGE.astype(np.float32), "got float32 [2, 3, 3], expected an image: uint8 [height, width, 3]"),
        ("image", IMAGE[:, :, :2], "got uint8 [2, 3, 2], expected an image: uint8 [height, width, 3]"),
        ("image/encoded", "a.jpg", "got a str, expected the bytes of an encoded image"),
        ("int", True, "got a bool, expected int"),
        ("int", 1.0, "got a float, expected int"),
        ("float", "1", "got a str, expected float"),
        ("bool", 1, "got a int, expected bool"),
        ("string", None, "got None, expected string"),
        ("quad", np.zeros((4, 2)), "got float64 [4, 2], expected four corners: float32 [4, 2]"),
        ("tensor(float32)", [1.0], "got a list of 1, expected an array: tensor(float32)"),
        ("tensor(float32, [N, N])", np.zeros((1, 2), np.float32),
         "got float32 [1, 2], expected tensor(float32, [N, N]): axis 1 is 2, N is already 1"),
        ("list(int)", (1,), "got a tuple of 1, expected list(int)"),
        ("list(int)", [1, "x"], "item 1: got a str, expected int"),
        ("record(a: int)", [], "got a list of 0, expected record(a: int)"),
        ("record(a: int)", {}, "field 'a' is missing"),
        ("record(a: int)", {"a": "x"}, "field 'a': got a str, expected int"),
    ],
)  # fmt: skip
def test_says_why_not(kind: str, value: Any, reason: str) -> None:
    assert nonconformity(ValueType.parse(kind), value, {}) == reason


def test_a_description_never_holds_content() -> None:
    secret = "4929 1234"
    assert secret not in described(secret) + described([secret]) + described({"a": secret}) + described(
        np.array([secret])
    )

"""Damaged bytes: a network or a ModelError, never another exception."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest
from sdkpack_caffe.network import convert_network
from sdkpack_caffe.params import CaffeParams

from plugins.caffe.tests.nets import write
from plugins.caffe.tests.test_files import NET, weights
from sdkpack.errors import ModelError

SIGNS = b'0123456789-"{}:\\x\xffazM '


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("which", ["prototxt", "caffemodel"])
def test_changed_bytes(which: str, seed: int, tmp_path: Path) -> None:
    files = write(tmp_path, NET, weights())
    path = files[0] if which == "prototxt" else files[1]
    whole = path.read_bytes()
    choose = random.Random(seed)
    refused = 0
    for number in range(40):
        content = bytearray(whole)
        # The beginning of a caffemodel is structure, the rest numbers.
        room = 60 if which == "caffemodel" and number % 2 else len(content)
        for _ in range(choose.choice((1, 1, 3))):
            content[choose.randrange(room)] = choose.choice(SIGNS) if which == "prototxt" else choose.randrange(256)
        path.write_bytes(content)
        with contextlib.suppress(ModelError):
            convert_network(*files, CaffeParams())
            continue
        refused += 1
    assert refused


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"conv"', '"\\377"'),
        ('name: "conv"', 'name: "\\000\\n"'),
        ("dim: 6", "dim: 99999999999"),
        ("dim: 6", "dim: -6"),
    ],
)
def test_odd_names_and_sizes(old: str, new: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        convert_network(*write(tmp_path, NET.replace(old, new), weights()), CaffeParams())

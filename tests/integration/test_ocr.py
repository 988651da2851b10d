"""The OCR example on real models and real images, against another program for the same job."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import sdkpack as sdk

if TYPE_CHECKING:
    from sdkpack.session.session import Session
    from tests.integration.conftest import Ocr

ROOT = Path(__file__).resolve().parents[2]
PEER = ROOT / "build/envs/ocr-peer"
IMAGES = Path(os.environ.get("SDKPACK_TEST_MODELS", ROOT.parent / "shared/models")) / "text-images"


@pytest.fixture(scope="module")
def session(ocr: Ocr) -> Iterator[Session]:
    with sdk.open(ocr.bundle, trust=ocr.trust, keys=[ocr.key]) as opened:
        yield opened


@pytest.fixture(scope="module")
def peer_lines(ocr: Ocr) -> dict[str, list[Any]]:
    """What the peer reads, by image."""
    if not (PEER / ".complete").exists():
        pytest.skip("build/envs/ocr-peer is not there: tools/environments.py builds it")
    from subprocess import run

    images = [ocr.page, *sorted(IMAGES.glob("*.[jp][pn]g"))]
    command = [str(PEER / "bin/python"), str(ROOT / "tests/integration/peer_ocr.py"), *map(str, images)]
    printed = run(command, capture_output=True, text=True, check=True).stdout
    answer: dict[str, list[Any]] = json.loads(printed.split("RESULT ", 1)[1])
    return answer


def test_text_equals_the_peers_on_every_image(session: Session, peer_lines: dict[str, list[Any]]) -> None:
    different = {}
    for image, lines in peer_lines.items():
        ours = [line["text"] for line in session.run("read", image=image)["lines"]]
        if ours != [text for text, _, _ in lines]:
            different[image] = ours
    assert different == {}
    if IMAGES.exists():
        assert len(peer_lines) == 13
    assert sum(map(len, peer_lines.values())) >= 5


def test_corners_equal_the_peers_on_the_page(session: Session, ocr: Ocr, peer_lines: dict[str, list[Any]]) -> None:
    import numpy as np

    ours = [line["box"] for line in session.run("read", image=ocr.page)["lines"]]
    theirs = [corners for _, _, corners in peer_lines[str(ocr.page)]]
    # The peer rounds to whole pixels.
    np.testing.assert_allclose(np.array(ours), np.array(theirs), atol=1.0)


def test_run_time_params_change_what_is_found(session: Session, ocr: Ocr) -> None:
    most = session.run("read", image=ocr.page, params={"text_score": 0.0})["lines"]
    fewest = session.run("read", image=ocr.page, params={"text_score": 0.96})["lines"]
    assert len(most) >= 5 > len(fewest) > 0


def test_everything_recorded_replays(session: Session) -> None:
    from sdkpack.session.golden import replay

    results = replay(session)
    assert {(result.kind, result.name) for result in results} == {
        ("model", "det"), ("model", "cls"), ("model", "rec"), ("pipeline", "read"),
    }  # fmt: skip
    assert [result for result in results if not result.passed] == []

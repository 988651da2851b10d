from __future__ import annotations

import io

from sdkpack.cli.progress import TerminalReporter, rate_text


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def test_finished_steps_stay_and_the_moving_line_goes() -> None:
    stream = io.StringIO()
    with TerminalReporter(stream, clock=Clock()) as reporter:
        reporter.planned(2)
        reporter.started("det/import")
        reporter.finished("det/import", 1.25)
        reporter.cached("cls/import")
        reporter.warned("the sample is small")
    text = stream.getvalue()
    assert "  done    det/import  1.2 s\n" in text
    assert "  stored  cls/import\n" in text
    assert "  note    the sample is small\n" in text
    assert "2/2 " in text
    assert text.endswith("\r\x1b[K")


def test_writing_tells_rate_and_remaining_time() -> None:
    stream = io.StringIO()
    with TerminalReporter(stream, clock=Clock()) as reporter:
        reporter.wrote(1 << 20, 4 << 20)
    assert "[######..................] 1.0 MiB of 4.0 MiB" in stream.getvalue()


def test_rate_text() -> None:
    assert rate_text(2 << 20, 4 << 20, 2.0) == "2.0 MiB of 4.0 MiB, 1.0 MiB/s, 2 s left"
    assert rate_text(0, 4 << 20, 0.0) == "0 B of 4.0 MiB"

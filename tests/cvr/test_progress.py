"""Progress as lines, where there is no terminal."""

from __future__ import annotations

import io
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from cvr import progress
from cvr.progress import Progress, clock, engineering


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (75, "1:15"), (3700, "1:01:40"), (59.6, "1:00"), (-3, "0:00")]
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes on four seconds per step, and lines every ten seconds at most."""
    now = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    stream = io.StringIO()
    shown = Progress(total_steps=10, stream=stream)
    for _ in range(10):
        now[0] += 4.0
        shown.update(100, "loss 0.5")
    shown.say("done")
    shown.close()
    lines = stream.getvalue().splitlines()
    assert [line.split()[1] for line in lines[:-1]] == ["3/10", "6/10", "9/10"]
    assert "loss 0.5" in lines[0] and "(30 %)" in lines[0] and "left" in lines[0]
    assert lines[-1] == "done"
    assert shown.items_per_second == pytest.approx(25.0)  # after the first step, which compiles


def test_a_pause_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    shown = Progress(total_steps=3, stream=io.StringIO())
    for _ in range(3):
        now[0] += 5.0
        shown.update(100, "")
        with shown.paused():
            now[0] += 1000.0
    assert shown.items_per_second == pytest.approx(20.0)


@pytest.mark.parametrize(("value", "text"), [(12.0, "12 "), (1234.0, "1.23 k"), (4.56e9, "4.56 G"), (7.2e13, "72 T")])
def test_engineering(value: float, text: str) -> None:
    assert engineering(value) == text


def test_waiting_for_input_and_operations_per_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch takes one second to come and three to train on; the first of each is not counted."""
    now = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def slow() -> Iterator[int]:
        for number in range(5):
            now[0] += 1.0
            yield number

    stream = io.StringIO()
    shown = Progress(total_steps=5, flops_per_item=2e6, stream=stream)
    for _ in shown.waiting_for(slow()):
        now[0] += 3.0
        shown.update(100, "")
    assert shown.values() == pytest.approx({"items_per_second": 25.0, "flops_per_second": 5e7, "input_wait_share": 0.25})
    assert "25 items/s  50 MFLOP/s  input wait 25 %" in stream.getvalue()

"""A progress bar for a terminal, or a line now and then for a log file."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TextIO

from tqdm import tqdm


def clock(seconds: float) -> str:
    """`75` -> `1:15`, `3700` -> `1:01:40`."""
    whole = max(int(round(seconds)), 0)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


class Progress:
    """Shows steps done, items/s, loss and time left. On a terminal a bar; elsewhere one line every `every` seconds."""

    def __init__(self, total_steps: int, done_steps: int = 0, every: float = 10.0, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._total, self._done, self._every = total_steps, done_steps, every
        self._warm = self._last = time.monotonic()
        self._first, self._items = done_steps, 0
        interactive = self._stream.isatty()
        self._bar = (
            tqdm(total=total_steps, initial=done_steps, unit="step", file=self._stream, dynamic_ncols=True) if interactive else None
        )

    @property
    def items_per_second(self) -> float:
        """Items per second since the end of the first step, which compiles; 0 before the second."""
        return self._items / max(time.monotonic() - self._warm, 1e-9)

    def update(self, items: int, note: str) -> None:
        """One more step with `items` items; `note` is shown with it, such as the loss."""
        self._done += 1
        if self._done == self._first + 1:
            self._warm = time.monotonic()
        else:
            self._items += items
        if self._bar is not None:
            self._bar.set_postfix_str(f"{self.items_per_second:,.0f} items/s {note}", refresh=False)
            self._bar.update(1)
            return
        now = time.monotonic()
        timed_steps = self._done - self._first - 1
        if now - self._last >= self._every and timed_steps:
            self._last = now
            left = (now - self._warm) / timed_steps * max(self._total - self._done, 0)
            share = 100.0 * self._done / max(self._total, 1)
            line = f"step {self._done}/{self._total} ({share:.0f} %)  {self.items_per_second:,.0f} items/s  {note}  {clock(left)} left"
            print(line, file=self._stream, flush=True)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the time of the block out of the speed and of the time left."""
        before = time.monotonic()
        yield
        self._warm += time.monotonic() - before

    def say(self, line: str) -> None:
        """Prints a line without breaking the bar."""
        if self._bar is not None:
            self._bar.write(line, file=self._stream)
        else:
            print(line, file=self._stream, flush=True)

    def close(self) -> None:
        """Ends the bar."""
        if self._bar is not None:
            self._bar.close()

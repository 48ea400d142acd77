"""A progress bar for a terminal, or a line now and then for a log file."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TextIO, TypeVar

from tqdm import tqdm

Value = TypeVar("Value")


def clock(seconds: float) -> str:
    """`75` -> `1:15`, `3700` -> `1:01:40`."""
    whole = max(int(round(seconds)), 0)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def engineering(value: float) -> str:
    """`1.23e9` -> `1.23 G`, three digits and the prefix of a unit."""
    for factor, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}"
    return f"{value:.3g} "


class Progress:
    """Shows steps done, items/s, FLOP/s, the share of time that steps wait for input, loss, and time left.

    On a terminal a bar; elsewhere one line every `every` seconds. `flops_per_item` are those of a training step.
    """

    def __init__(
        self, total_steps: int, done_steps: int = 0, flops_per_item: float = 0.0, every: float = 10.0, stream: TextIO | None = None
    ) -> None:
        self._stream = stream or sys.stderr
        self._total, self._done, self._every = total_steps, done_steps, every
        self._warm = self._last = time.monotonic()
        self._first, self._items, self._waited = done_steps, 0, 0.0
        self._flops_per_item = flops_per_item
        self._bar = (
            tqdm(total=total_steps, initial=done_steps, unit="step", file=self._stream, dynamic_ncols=True)
            if self._stream.isatty()
            else None
        )

    @property
    def _seconds(self) -> float:
        return max(time.monotonic() - self._warm, 1e-9)

    @property
    def items_per_second(self) -> float:
        """Items per second since the end of the first step, which compiles; 0 before the second."""
        return self._items / self._seconds

    @property
    def input_wait_share(self) -> float:
        """Share of that time in which no step ran because its batch was not there yet."""
        return self._waited / self._seconds if self._items else 0.0

    def values(self) -> dict[str, float]:
        """What is measured, by name: items_per_second, flops_per_second, input_wait_share."""
        return {
            "items_per_second": self.items_per_second,
            "flops_per_second": self.items_per_second * self._flops_per_item,
            "input_wait_share": self.input_wait_share,
        }

    def waiting_for(self, batches: Iterable[Value]) -> Iterator[Value]:
        """The same batches; the time until each is there counts as waiting for input."""
        source = iter(batches)
        while True:
            before = time.monotonic()
            try:
                batch = next(source)
            except StopIteration:
                return
            self._waited += time.monotonic() - before
            yield batch

    def update(self, items: int, note: str) -> None:
        """One more step with `items` items; `note` is shown with it, such as the loss."""
        self._done += 1
        if self._done == self._first + 1:
            self._warm, self._waited = time.monotonic(), 0.0
        else:
            self._items += items
        if self._bar is not None:
            self._bar.set_postfix_str(f"{self._speed()}  {note}", refresh=False)
            self._bar.update(1)
            return
        now = time.monotonic()
        timed_steps = self._done - self._first - 1
        if now - self._last >= self._every and timed_steps:
            self._last = now
            left = self._seconds / timed_steps * max(self._total - self._done, 0)
            share = 100.0 * self._done / max(self._total, 1)
            line = f"step {self._done}/{self._total} ({share:.0f} %)  {self._speed()}  {note}  {clock(left)} left"
            print(line, file=self._stream, flush=True)

    def _speed(self) -> str:
        flops = f"  {engineering(self.items_per_second * self._flops_per_item)}FLOP/s" if self._flops_per_item else ""
        return f"{self.items_per_second:,.0f} items/s{flops}  input wait {100.0 * self.input_wait_share:.0f} %"

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

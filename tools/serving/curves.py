"""Service times: how long a server works on a batch by its rows, or on a request by its items."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cvr.errors import CvrError

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Curve:
    """Mean milliseconds at some sizes; linear between them and beyond the last, constant below the first.

    A time that is drawn is the mean times one of `spread`, factors of mean 1, each as likely as the others.
    """

    rows: tuple[float, ...]
    ms: tuple[float, ...]
    spread: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        """Raises CvrError for a curve that is none."""
        rising = all(a < b for a, b in zip(self.rows, self.rows[1:], strict=False))
        if not self.rows or len(self.rows) != len(self.ms) or not rising or min(self.ms) < 0 or not self.spread or min(self.spread) < 0:
            raise CvrError(f"a service-time curve needs rising rows and as many times of 0 ms or more: rows {self.rows}, ms {self.ms}")

    def seconds(self, rows: float) -> float:
        """Mean time of a size."""
        if len(self.rows) > 1 and rows > self.rows[-1]:
            slope = (self.ms[-1] - self.ms[-2]) / (self.rows[-1] - self.rows[-2])
            return max(0.0, self.ms[-1] + slope * (rows - self.rows[-1])) / 1000
        return float(np.interp(rows, self.rows, self.ms)) / 1000

    def scaled(self, factor: float) -> Curve:
        """The same shape, all times multiplied."""
        return dataclasses.replace(self, ms=tuple(factor * value for value in self.ms))


NOTHING = Curve((1,), (0.0,))


@dataclasses.dataclass(frozen=True)
class Machine:
    """A server as the simulation sees it. Times are CPU milliseconds of work; work in progress shares `cpus` cores evenly.

    `batch`: a batch by its padded rows, on the same cores or, with `device`, on one device that the batches of all threads share evenly.
    `handler`: work on a request by its items outside the batch that may run beside anything; `serial`: work of which only one request has
    its turn at a time (Python's lock). `client`: a load generator on the same cores, one thread, per request; half of it sends.
    `workers`: requests in the server at a time; 0 for any number.
    """

    batch: Curve
    handler: Curve = NOTHING
    serial: Curve = NOTHING
    client: Curve = NOTHING
    cpus: int = 1
    device: bool = False
    workers: int = 0


_CURVES = ("batch", "handler", "serial", "client")


def write_machine(path: Path, machine: Machine, about: Mapping[str, Any]) -> None:
    """Stores a machine as JSON, with `about` beside it."""
    found = {"format": FORMAT, "about": about, **dataclasses.asdict(machine)}
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def read_machine(path: Path) -> Machine:
    """Reads what `write_machine` wrote, or by hand: {"batch": {"rows": [...], "ms": [...]}, ...}, the rest by default.

    Raises CvrError naming the file and the key that is wrong.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CvrError(f"--curve={path}: {error}; expected service times, such as simulate_serving --measure writes") from error
    if not isinstance(found, dict) or "batch" not in found:
        raise CvrError(f'--curve={path}: expected an object with at least "batch": {{"rows": [1, 32], "ms": [0.8, 1.1]}}')
    known = {field.name for field in dataclasses.fields(Machine)}
    unknown = set(found) - known - {"format", "about"}
    if unknown:
        raise CvrError(f"--curve={path}: unknown key {min(unknown)!r}; there are {', '.join(sorted(known))}")
    given: dict[str, Any] = {name: value for name, value in found.items() if name in known}
    return Machine(**(given | {name: _curve(path, name, found[name]) for name in _CURVES if name in found}))


def _curve(path: Path, name: str, found: Any) -> Curve:
    try:
        return Curve(tuple(found["rows"]), tuple(found["ms"]), tuple(found.get("spread", (1.0,))))
    except (TypeError, KeyError, AttributeError) as error:
        raise CvrError(f'--curve={path}: {name} must be {{"rows": [...], "ms": [...]}} ({error})') from error


def curve_of(samples: Mapping[int, Sequence[float]]) -> Curve:
    """Measured seconds by size -> a curve; its spread is 99 quantiles, 1 to 99 %, of all times over their size's median."""
    sizes = sorted(samples)
    medians = np.array([np.median(samples[size]) for size in sizes])
    factors = np.concatenate([np.asarray(samples[size]) / median for size, median in zip(sizes, medians, strict=True)])
    spread = np.quantile(factors, np.linspace(0.01, 0.99, 99))
    means = 1000 * medians * spread.mean()
    return Curve(tuple(sizes), tuple(means.tolist()), tuple((spread / spread.mean()).tolist()))

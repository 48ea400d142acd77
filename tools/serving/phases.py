"""Phases of load and what came of them, from the side that asks for them."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hdrh.histogram import HdrHistogram

from cvr.errors import CvrError
from tools.serving.generator import Phase, Saturation
from tools.serving.payloads import Payloads
from tools.source_tree import ROOT

QUANTILES = (0.5, 0.9, 0.99, 0.999, 1.0)
MOST_LAG_SHARE, LEAST_LAG_MS, MOST_CPU = 0.2, 5.0, 0.9


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a phase. `counts`: requests by status; `items_per_second`: items ranked within it; `cpu`: the generator's cores."""

    phase: Phase | Saturation
    counts: Mapping[str, int]
    items_per_second: float
    cpu: float
    latency: HdrHistogram
    lag: HdrHistogram

    @property
    def requests(self) -> int:
        """Requests that were meant to arrive in the phase."""
        return sum(self.counts.values())

    @property
    def failed(self) -> int:
        """Those without a good answer."""
        return self.requests - self.counts.get("OK", 0)

    def quantile_ms(self, q: float) -> float:
        """Latency quantile over all requests in ms, a failed one counting as never answered: infinite where it is among them."""
        good = self.counts.get("OK", 0)
        if not good or q * self.requests > good:
            return float("inf")
        return self.latency.get_value_at_percentile(100 * q * self.requests / good) / 1000

    @property
    def lag_ms(self) -> float:
        """How late 99 % of the requests were sent at most, in ms."""
        return self.lag.get_value_at_percentile(99) / 1000 if self.requests else 0.0

    @property
    def kept_up(self) -> bool:
        """Whether the generator was not what was measured: lag P99 within 5 ms or a fifth of the latency's, at most 0.9 of a core."""
        good = self.latency.get_value_at_percentile(99) / 1000 if self.counts.get("OK") else 0.0
        return self.lag_ms <= max(LEAST_LAG_MS, MOST_LAG_SHARE * good) and self.cpu <= MOST_CPU

    def to_json(self) -> dict[str, Any]:
        """A readable entry; quantiles that failed requests make infinite are null."""
        values = {f"p{100 * q:g}" if q < 1 else "max": self.quantile_ms(q) for q in QUANTILES}
        return {
            **dataclasses.asdict(self.phase),
            "requests": self.requests,
            "counts": dict(self.counts),
            "items_per_second": round(self.items_per_second, 1),
            "latency_ms": {name: round(value, 3) if value < float("inf") else None for name, value in values.items()},
            "generator": {"kept_up": self.kept_up, "lag_p99_ms": round(self.lag_ms, 3), "cores": round(self.cpu, 3)},
        }


def outcome_of(found: Mapping[str, Any], phase: Phase | Saturation) -> Outcome:
    """The generator's answer as an Outcome."""
    latency, lag = (HdrHistogram.decode(base64.b64decode(found[name])) for name in ("latency", "lag"))
    return Outcome(phase, found["counts"], found["items"] / phase.seconds, found["cpu"] / found["wall"], latency, lag)


def merged(outcomes: Sequence[Outcome]) -> Outcome:
    """Phases of one kind as one: counts and histograms added, rates averaged."""
    first, counts = outcomes[0], dict[str, int]()
    latency, lag = HdrHistogram.decode(first.latency.encode()), HdrHistogram.decode(first.lag.encode())
    for outcome in outcomes:
        for code, count in outcome.counts.items():
            counts[code] = counts.get(code, 0) + count
    for outcome in outcomes[1:]:
        latency.add(outcome.latency)
        lag.add(outcome.lag)
    mean = [sum(values) / len(outcomes) for values in zip(*((o.items_per_second, o.cpu) for o in outcomes), strict=True)]
    return Outcome(first.phase, counts, mean[0], mean[1], latency, lag)


class Generator:
    """A running load generator for one server."""

    def __init__(self, process: subprocess.Popen[str], target: str) -> None:
        self._process, self._target = process, target

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def run(self, phase: Phase | Saturation) -> Outcome:
        """Plays a phase. Raises CvrError where the generator ended, or not one request was answered because no server is there."""
        assert self._process.stdin and self._process.stdout
        line = ""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(dataclasses.asdict(phase)) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        if not line:
            raise CvrError(f"the load generator for {self._target} ended with exit code {self._process.wait()}; see above")
        found = outcome_of(json.loads(line), phase)
        if found.requests and set(found.counts) <= {"UNAVAILABLE"} and found.quantile_ms(0.0) == float("inf"):
            raise CvrError(f"no server answers at {self._target}; start one: python -m export.serve --model_base_path=DIR")
        return found


@contextlib.contextmanager
def generator(payloads: Payloads, target: str) -> Iterator[Generator]:
    """Starts a generator, and ends it with the block."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "payloads"
        payloads.write(path)
        command = [sys.executable, "-m", "tools.serving.generator", str(path), target]
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            yield Generator(process, target)
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]

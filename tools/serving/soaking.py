"""A soak's cycles: steady load, a new version in each, the server's memory sampled; and the verdict."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from scipy import stats
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

from cvr.errors import CvrError
from export.versions import published
from tools.serving.generator import Phase
from tools.serving.local_server import LocalServer
from tools.serving.phases import Generator, Outcome
from tools.serving.rebatch import batching_of, rebatch

MIB = 2**20
KEPT = 2
"""Versions that stay in the folder."""
_PAUSE = 0.5
_AVAILABLE = get_model_status_pb2.ModelVersionStatus.AVAILABLE


@dataclasses.dataclass(frozen=True)
class Cycle:
    """One cycle.

    `samples`: (seconds since the soak's start, resident bytes of the server). `switched`: seconds from publishing the version to serving
    it alone, None where that did not happen within the cycle. `cores`: what the server used.
    """

    version: int
    published: float
    switched: float | None
    outcome: Outcome
    samples: list[tuple[float, int]]
    cores: float

    @property
    def memory(self) -> float:
        """Median of the resident bytes in the second half, when the version before is gone."""
        values = [size for _, size in self.samples]
        return float(np.median(values[len(values) // 2 :]))

    def to_json(self) -> dict[str, Any]:
        """As a report keeps it."""
        return {
            "version": self.version,
            "published": round(self.published, 2),
            "switched_seconds": self.switched and round(self.switched, 2),
            "memory_mib": round(self.memory / MIB, 1),
            "cores": round(self.cores, 3),
            "load": self.outcome.to_json(),
            "samples": [[round(at, 2), size] for at, size in self.samples],
        }


def served_versions(channel: grpc.Channel, model_name: str) -> list[int]:
    """Versions that the server says are available. Raises CvrError where it does not answer."""
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = model_name
    try:
        answer = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request, timeout=10.0)
    except grpc.RpcError as error:
        raise CvrError(f"the server does not say which versions it has: {error.code().name} {error.details()}") from error
    return sorted(entry.version for entry in answer.model_version_status if entry.state == _AVAILABLE)


class Soak:
    """Publishes copies of a version under rising numbers into `base`, while a load plays."""

    def __init__(self, server: LocalServer, load: Generator, channel: grpc.Channel, base: Path, model_name: str = "cvr") -> None:
        self._server, self._load, self._channel, self._base, self._name = server, load, channel, base, model_name
        self._began = time.monotonic()

    def cycle(self, phase: Phase) -> Cycle:
        """Plays a phase; a quarter into it publishes the next version, and looks at memory and versions until its end."""
        number, newest = max(published(self._base).items())
        began, spent = self._seconds(), self._server.cpu_seconds()
        samples, appeared, switched = list[tuple[float, int]](), 0.0, None
        with futures.ThreadPoolExecutor(1) as pool:
            playing = pool.submit(self._load.run, phase)
            while not playing.done():
                now = self._seconds()
                samples.append((now, self._server.resident_bytes()))
                if not appeared and now - began > phase.seconds / 4:
                    rebatch(newest, self._base, number + 1, batching_of(newest))
                    appeared = self._seconds()
                if appeared and switched is None and served_versions(self._channel, self._name) == [number + 1]:
                    switched = self._seconds() - appeared
                    self._forget()
                time.sleep(_PAUSE)
            outcome = playing.result()
        cores = (self._server.cpu_seconds() - spent) / (self._seconds() - began)
        return Cycle(number + 1, appeared, switched, outcome, samples, cores)

    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _forget(self) -> None:
        for number in sorted(published(self._base))[:-KEPT]:
            shutil.rmtree(self._base / str(number))


@dataclasses.dataclass(frozen=True)
class Growth:
    """Memory over the counted cycles: least squares of each cycle's memory; `low`, `high`: its 95 % interval. All in MiB per cycle."""

    slope: float
    low: float
    high: float
    cycles: int
    memory: float

    @property
    def share(self) -> float:
        """The most that memory may have grown over the cycles: upper end of the interval, as a share of the median memory."""
        return max(0.0, self.high) * (self.cycles - 1) / self.memory

    def to_json(self) -> dict[str, Any]:
        """As a report keeps it."""
        return {**dataclasses.asdict(self), "most_growth_share": self.share}


def growth(memory: Sequence[float]) -> Growth:
    """From bytes per cycle. Raises CvrError for fewer than 4 cycles, whose interval says nothing."""
    if len(memory) < 4:
        raise CvrError(f"{len(memory)} cycles after the first ones are too few to judge memory by; give more --minutes")
    sizes = np.asarray(memory) / MIB
    fit = stats.linregress(np.arange(len(sizes)), sizes)
    half = float(stats.t.ppf(0.975, len(sizes) - 2) * fit.stderr)
    slope = float(fit.slope)
    return Growth(slope, slope - half, slope + half, len(sizes), float(np.median(sizes)))


def faults(cycles: Sequence[Cycle], found: Growth, most_growth: float) -> list[str]:
    """What was wrong, in words; empty for a soak that passed."""
    wrong = []
    failed = {code: count for cycle in cycles for code, count in cycle.outcome.counts.items() if code != "OK"}
    total = sum(cycle.outcome.failed for cycle in cycles)
    if total:
        wrong.append(f"{total} requests failed ({', '.join(sorted(failed))})")
    late = [cycle.version for cycle in cycles if cycle.switched is None]
    if late:
        wrong.append(f"versions {', '.join(map(str, late))} did not take over within their cycle")
    if found.share > most_growth:
        wrong.append(
            f"memory may have grown by {100 * found.share:.1f} % over {found.cycles} cycles "
            f"({found.slope:+.2f} MiB a cycle, 95 % interval {found.low:+.2f} to {found.high:+.2f}); {100 * most_growth:g} % are allowed"
        )
    return wrong



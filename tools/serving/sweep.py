"""Several local servers of one model with different batching, each with a load generator of its own, to be loaded in turns."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from export.batching import Batching
from tools.serving.generator import Phase
from tools.serving.local_server import LocalServer, local_server
from tools.serving.payloads import Payloads
from tools.serving.peak import Peak, Play, Probe
from tools.serving.phases import Generator, generator
from tools.serving.rebatch import rebatch

PAPER = {0: (4.2, 4.6), 5: (14.0, 17.1), 10: (13.6, 20.1), 15: (13.8, 19.9), 20: (7.0, 14.0), 25: (6.1, 11.7), 30: (5.6, 9.7)}
"""The paper's Table 6: thousand items a second at P99 within 50 and 75 ms, by batch timeout in ms; on their GPU, of their model."""
PAPER_LIMITS = (50.0, 75.0)


@dataclasses.dataclass(frozen=True)
class Timing:
    """How long phases of load are, in seconds: what counts, what comes before, and each call's deadline."""

    seconds: float = 4.0
    warm_up: float = 1.0
    deadline: float = 5.0

    def phase(self, rate: float, seed: int) -> Phase:
        """A phase of such lengths."""
        return Phase(rate, self.seconds, self.warm_up, seed, self.deadline)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A running server of one batching."""

    server: LocalServer
    load: Generator
    timing: Timing

    def probe(self, rate: float, seed: int) -> Probe:
        """Plays one phase."""
        found = self.load.run(self.timing.phase(rate, seed))
        return Probe(rate, found.quantile_ms(0.99), found.items_per_second, found.kept_up)

    @property
    def play(self) -> Play:
        """`probe`, for a search."""
        return self.probe


@contextlib.contextmanager
def candidate(version: Path, batching: Batching, work: Path, payloads: Payloads, timing: Timing, threads: int) -> Iterator[Candidate]:
    """Serves a copy of an exported version with other batching, made in the new folder `work`, until the block ends."""
    work.mkdir(parents=True)
    rebatch(version, work / "export", 1, batching)
    with local_server(work / "export", work / "serve.log", threads) as server, generator(payloads, server.target) as load:
        yield Candidate(server, load, timing)


def table6_head(limits_ms: Sequence[float]) -> list[str]:
    """Columns of the sweep's table: ours, then the paper's where it has the limit."""
    theirs = [f"paper's, their GPU: <= {limit:g} ms" for limit in limits_ms if limit in PAPER_LIMITS]
    return ["timeout ms", *(f"ours: items/s at P99 <= {limit:g} ms" for limit in limits_ms), *theirs]


def table6_row(timeout_ms: float, peaks: Sequence[Peak]) -> list[str]:
    """One timeout's row; `*` where the load generator may have been the limit."""
    ours = [f"{peak.items_per_second:,.0f}{'*' * peak.of_generator}" for peak in peaks]
    theirs = []
    for peak in peaks:
        if peak.limit_ms in PAPER_LIMITS:
            known = PAPER.get(int(timeout_ms)) if timeout_ms == int(timeout_ms) else None
            theirs.append(f"{1000 * known[PAPER_LIMITS.index(peak.limit_ms)]:,.0f}" if known else "")
    return [f"{timeout_ms:g}", *ours, *theirs]

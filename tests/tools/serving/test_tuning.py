"""Successive halving over made-up servers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from cvr.errors import CvrError
from export.batching import Batching
from tools.serving.peak import Play, Probe
from tools.serving.tuning import candidates, flagfile, halve, name_of


class _Servers:
    """P99 is over the limit of 50 above a capacity by batching: 100 + 40 * threads - 8 * |timeout - 5|, requests of 10 items."""

    def __init__(self) -> None:
        self.running: set[str] = set()
        self.most = 0
        self.phases: dict[str, int] = {}

    @contextlib.contextmanager
    def open(self, batching: Batching) -> Iterator[Play]:
        name = name_of(batching)
        capacity = 100 + 40 * batching.threads - 8 * abs(batching.timeout_ms - 5)
        self.running.add(name)
        self.most = max(self.most, len(self.running))

        def play(rate: float, seed: int) -> Probe:
            assert name in self.running
            self.phases[name] = self.phases.get(name, 0) + 1
            return Probe(rate, 20.0 if rate <= capacity else 60.0, 10 * min(rate, capacity))

        yield play
        self.running.discard(name)


def test_the_best_candidate_wins_and_the_worse_half_is_dropped() -> None:
    servers, before = _Servers(), Batching()
    chosen = candidates(before, [0, 5, 10, 15], [(32, 128, 512)], [1, 2])
    assert len(chosen) == 8 and chosen[0] == before
    found = halve(chosen, servers.open, 50.0, 50.0)
    assert found[0].batching == Batching(timeout_ms=5, threads=2)
    low, high = found[0].bounds
    assert low <= 1800 < high <= 1.07 * low
    assert servers.most == 8 and not servers.running
    assert sorted(tuned.rounds for tuned in found) == [1] * 4 + [2] * 2 + [3] * 2
    last = next(tuned for tuned in found if tuned.batching == Batching(timeout_ms=15, threads=1))
    assert last.rounds == 1 and servers.phases[name_of(last.batching)] < servers.phases[name_of(found[0].batching)] / 3


def test_no_candidate_holds_the_limit() -> None:
    @contextlib.contextmanager
    def never(batching: Batching) -> Iterator[Play]:
        yield lambda rate, seed: Probe(rate, 99.0, 1.0)

    with pytest.raises(CvrError, match="no batching keeps P99 within 50 ms"):
        halve([Batching()], never, 50.0, 10.0)


def test_flags_by_hand() -> None:
    text = flagfile(Batching((8, 64), 2.5, 3, 9, 100)).split()
    assert text == [
        "--allowed_batch_sizes=8,64", "--batch_timeout_ms=2.5", "--batch_threads=3", "--max_enqueued_batches=9", "--max_request_items=100",
    ]  # fmt: skip
    assert name_of(Batching((8, 64), 2.5, 1)) == "2.5 ms, 8-64, 1 thread"

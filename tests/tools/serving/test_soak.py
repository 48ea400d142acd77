"""The soak's verdict from made-up cycles."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram

from cvr.errors import CvrError
from tools.serving.generator import Phase
from tools.serving.phases import Outcome
from tools.serving.soaking import MIB, Cycle, faults, growth


def _cycle(version: int, mib: float, counts: dict[str, int] | None = None, switched: float | None = 2.0) -> Cycle:
    outcome = Outcome(Phase(5, 60), counts or {"OK": 300}, 1.0, 0.0, HdrHistogram(1, 10**8, 3), HdrHistogram(1, 10**8, 3))
    samples = [(0.0, int(3 * mib * MIB)), (1.0, int(3 * mib * MIB)), (2.0, int(mib * MIB)), (3.0, int(mib * MIB))]
    return Cycle(version, 1.0, switched, outcome, samples, 0.1)


def test_memory_is_that_after_the_switch() -> None:
    assert _cycle(2, 500.0).memory == 500 * MIB


def test_growth_by_hand() -> None:
    """Sizes 10, 11, 13, 14 over 0..3: slope 1.4, residuals 0.1, -0.3, 0.3, -0.1; stderr sqrt(0.2 / 2 / 5), t(0.975, 2) = 4.3027."""
    found = growth([size * MIB for size in (10, 11, 13, 14)])
    assert found.slope == pytest.approx(1.4) and found.memory == 12
    assert found.high - found.slope == pytest.approx(4.3027 * np.sqrt(0.1 / 5), rel=1e-4)
    assert found.share == pytest.approx(found.high * 3 / 12)
    with pytest.raises(CvrError, match="too few"):
        growth([1.0, 2.0, 3.0])


def test_a_good_soak_passes_and_every_fault_is_told() -> None:
    good = [_cycle(number, 800 + 2 * (number % 3)) for number in range(2, 40)]
    assert faults(good, growth([cycle.memory for cycle in good]), 0.05) == []
    leaking = [_cycle(number, 800 + 2.0 * number) for number in range(2, 40)]
    (fault,) = faults(leaking, growth([cycle.memory for cycle in leaking]), 0.05)
    assert "+2.00 MiB a cycle" in fault
    failing = [_cycle(2, 800, {"OK": 9, "UNAVAILABLE": 1}), *good, dataclasses.replace(good[0], version=77, switched=None)]
    told = faults(failing, growth([cycle.memory for cycle in good]), 0.05)
    assert told[0] == "1 requests failed (UNAVAILABLE)" and "versions 77 did not take over" in told[1] and len(told) == 2

"""Plans from simulated servers, service-time files, and the command."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from cvr.errors import CvrError
from export.batching import Batching
from tests.commands import run_main
from tools import simulate_serving
from tools.serving.curves import Curve, Machine, curve_of, read_machine, write_machine
from tools.serving.peak import Effort
from tools.serving.planning import Traffic, peaks_by_timeout, plan

SIZES = (16, 32, 64, 128, 256, 512, 1024, 2048)
GPU = Machine(Curve(SIZES, tuple(3 + 0.03 * size for size in SIZES)), cpus=16, device=True)
"""A batch costs 3 ms, and 0.03 ms a row; 8 threads share the device: without a timeout, many small batches do."""


def test_peak_by_timeout_is_an_inverted_u_on_a_gpu() -> None:
    batching = Batching(SIZES, threads=8, max_enqueued=1000)
    peaks = peaks_by_timeout(GPU, batching, [0, 10, 45], range(5, 20), [50.0, 75.0], 2_000, Effort(200, 1, 1.1))
    for place in range(2):
        none, best, long = (peaks[timeout][place].items_per_second for timeout in (0, 10, 45))
        assert best > 2 * none
        assert best > 1.2 * long
    assert all(one.items_per_second <= 1.1 * other.items_per_second for one, other in peaks.values())


def test_fleet_by_hand() -> None:
    """Requests of one row, each 1 ms on one core: with P99 <= 20 ms an instance holds some 890 a second.

    M/D/1 at load r has about P(wait > t) = exp(-2 (1 - r) t / (r s)) in the tail, so P99 - s = 4.6 s r / (2 (1 - r)): 19 ms at r = 0.89.
    """
    machine, batching = Machine(Curve((1,), (1.0,))), Batching((1,), threads=1, max_enqueued=10**6)
    (found,) = plan(machine, batching, [0.0], [1], Traffic(5000, 20.0, 2.5, spare=2), 6_000, Effort(600, 1, 1.05))
    assert found.peak_rate == pytest.approx(890, rel=0.08)
    assert found.instances == int(np.ceil(5000 / found.peak_rate)) + 2 == 8
    assert found.cost_per_hour == 20.0 and found.cost_per_million == pytest.approx(20 / (3600 * 5000) * 1e6)
    assert found.p99_ms < found.p99_ms_without_spare <= 20 * 1.5
    assert found.cores == pytest.approx(5000 / 8 / 1000, rel=0.05)


def test_no_fleet_where_no_instance_holds_the_limit() -> None:
    batching = Batching((2,), threads=1)
    slow, fast = plan(Machine(Curve((2,), (4.0,))), batching, [8.0, 0.0], [1], Traffic(10, 6.0, 1.0), 500, Effort(1, 1, 1.5))[::-1]
    assert slow.timeout_ms == 8.0 and slow.instances == 0 and slow.to_json()["cost_per_hour"] is None
    assert fast.timeout_ms == 0.0 and fast.instances >= 2


def test_curves() -> None:
    curve = Curve((10, 20), (1.0, 3.0))
    assert [1000 * curve.seconds(rows) for rows in (5, 10, 15, 30)] == pytest.approx([1.0, 1.0, 2.0, 5.0])
    measured = curve_of({1: [0.9e-3, 1.0e-3, 1.1e-3], 4: [2.0e-3] * 3})
    assert measured.rows == (1, 4) and measured.ms[1] / measured.ms[0] == pytest.approx(2)
    assert np.mean(measured.spread) == pytest.approx(1) and measured.seconds(4) == pytest.approx(2e-3, rel=0.02)
    for rows, ms in (((2, 1), (1.0, 1.0)), ((1,), (1.0, 2.0)), ((), ()), ((1,), (-1.0,))):
        with pytest.raises(CvrError, match="rising rows"):
            Curve(rows, ms)


def test_service_times_as_a_file(tmp_path: Path) -> None:
    path, machine = tmp_path / "curve.json", dataclasses.replace(GPU, workers=3, serial=Curve((1,), (0.5,), (0.5, 1.5)))
    write_machine(path, machine, {"by": "hand"})
    assert read_machine(path) == machine
    path.write_text('{"batch": {"rows": [1, 8], "ms": [1, 2]}, "device": true}')
    assert read_machine(path) == Machine(Curve((1, 8), (1, 2)), device=True)
    for text, message in (("[", "expected service times"), ("{}", "batch"), ('{"batch": {"rows": [1]}}', "batch must be"),
                          ('{"batch": {"rows": [1], "ms": [1]}, "gpu": 1}', "unknown key 'gpu'")):  # fmt: skip
        path.write_text(text)
        with pytest.raises(CvrError, match=message):
            read_machine(path)


def test_the_command_plans(tmp_path: Path) -> None:
    curve, out = tmp_path / "curve.json", tmp_path / "plan.json"
    write_machine(curve, GPU, {})
    given = ["--plan", "--traffic=900", "--p99_ms=60", "--price=3", "--sweep_timeouts=0,10", "--num_simulated=800", "--sizes=10"]
    given += ["--batch_threads=8", "--allowed_batch_sizes=16,64,256,1024", f"--plot={tmp_path / 'plan.svg'}", f"--json={out}"]
    assert run_main(simulate_serving, f"--curve={curve}", *given) == 0
    best, other = json.loads(out.read_text())["results"]
    assert best["timeout_ms"] == 10 and best["instances"] < other["instances"] and best["cost_per_hour"] == 3 * best["instances"]
    assert (tmp_path / "plan.svg").read_text().count("<svg") == 1

"""A served model's latency and peak load by simulation, from service times that were measured; and the fleet that some traffic needs.

    python -m tools.simulate_serving --export=DIR --lists=DIR --measure=curve.json          service times on this machine
    python -m tools.simulate_serving --curve=curve.json --lists=DIR --rates=50,100,200      latency by load
    python -m tools.simulate_serving --curve=curve.json --lists=DIR --sweep_timeouts=0,5,10 peaks by batch timeout
    python -m tools.simulate_serving --export=DIR --curve=curve.json --lists=DIR --validate the same loads on a real server, beside it
    python -m tools.simulate_serving --curve=gpu.json --plan --traffic=2000 --p99_ms=50 --price=3.5

docs/capacity.md says what is simulated, and how a curve for another machine is written by hand.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import app, flags

from cvr.errors import CvrError, run_main
from export.batching import Batching
from export.lists import read_lists
from export.versions import newest
from tools.benchmarks.command import define_json_flag, deliver, parse_flags
from tools.load_test import define_request_flags, numbers, payloads_of_flags, report, say, timing_of_flags
from tools.serving.curves import Machine, read_machine, write_machine
from tools.serving.measuring import measure
from tools.serving.peak import Effort
from tools.serving.phases import merged
from tools.serving.planning import Traffic, peaks_by_timeout, plan, run
from tools.serving.rebatch import batching_of, batching_of_flags, define_batching_flags
from tools.serving.simulation_report import plot, shown
from tools.serving.sweep import candidate, table6_row
from tools.stages import interrupt_on_termination

FLAGS = flags.FLAGS
WITHIN = 0.2
"""How far a simulated P99 may lie from the measured one."""


def define_flags() -> None:
    """The command's flags."""
    define_request_flags()
    define_batching_flags()
    define_json_flag()
    flags.DEFINE_string("curve", None, "JSON file of service times, as --measure writes.")
    flags.DEFINE_string("measure", None, "Measures the service times of --export on this machine and writes them to this file.")
    flags.DEFINE_integer("max_workers", 16, "Requests that the measured server handles at a time, as export.serve's flag.", lower_bound=1)
    flags.DEFINE_list("rates", ["20", "50", "100"], "Arrivals, requests a second.")
    flags.DEFINE_list("sweep_timeouts", [], "Batch timeouts in ms to find the peak of, or to plan with.")
    flags.DEFINE_list("limits_ms", ["50", "75"], "Latency limits of the sweep, P99.")
    flags.DEFINE_bool("validate", False, "Also loads a real server at --rates; exit code 1 where a P99 differs by more than 20 %.")
    flags.DEFINE_bool("plan", False, "The cheapest fleet for --traffic.")
    flags.DEFINE_float("traffic", 1000.0, "Requests a second that the fleet must hold.", lower_bound=0.1)
    flags.DEFINE_float("p99_ms", 50.0, "Its latency limit.", lower_bound=0.1)
    flags.DEFINE_float("price", 1.0, "Price of an instance-hour.", lower_bound=0.0)
    flags.DEFINE_integer("spare", 1, "Instances that may fail without breaking the limit.", lower_bound=0)
    flags.DEFINE_integer("num_simulated", 20_000, "Simulated requests of a load.", lower_bound=100)
    flags.DEFINE_string("plot", None, "Draws a plot to this file (PNG or SVG).")


def _lengths() -> list[int]:
    """How many items requests have."""
    if FLAGS.lists is None:
        return [int(size) for size in numbers("sizes", least=1)]
    found = read_lists(FLAGS.lists, FLAGS.split, FLAGS.num_requests)
    return [len(found.row(number).item) for number in range(len(found.records))]


def _quantiles(machine: Machine, batching: Batching, lengths: Sequence[int]) -> list[dict[str, Any]]:
    found = []
    for rate in numbers("rates", least=0.01):
        one = run(machine, batching, lengths, rate, FLAGS.num_simulated, 1)
        found.append(
            {
                "rate": rate,
                "latency_ms": {f"p{100 * q:g}": one.quantile_ms(q) for q in (0.5, 0.9, 0.99, 0.999)},
                "refused": one.refused,
                "rows_per_batch": float(one.batches.mean()),
                "cores": one.cores,
                "device": one.device,
            }
        )
    return found


def _validated(simulated: list[dict[str, Any]], batching: Batching, work: Path) -> list[dict[str, Any]]:
    """Adds what a real server does at the same rates, and the ratio of the P99s."""
    timing, payloads = timing_of_flags(), payloads_of_flags()
    with candidate(newest(FLAGS.export), batching, work / "server", payloads, timing, FLAGS.threads) as real:
        phases: dict[float, list[Any]] = {entry["rate"]: [] for entry in simulated}
        for repeat in range(FLAGS.repeats):
            for rate, outcomes in phases.items():
                outcomes.append(real.load.run(timing.phase(rate, repeat)))
    found = []
    for entry in simulated:
        measured = merged(phases[entry["rate"]])
        ratio = entry["latency_ms"]["p99"] / measured.quantile_ms(0.99)
        found.append({**entry, "measured": measured.to_json(), "ratio": ratio, "within": abs(ratio - 1) <= WITHIN})
    return found


def _machine(lengths: Sequence[int], work: Path) -> Machine:
    """The service times that the flags name, or measured now."""
    if FLAGS.curve:
        return read_machine(Path(FLAGS.curve))
    if not FLAGS.export:
        raise CvrError("give --curve=FILE, or --export=DIR to measure service times on this machine")
    version = newest(FLAGS.export)
    machine = measure(version, batching_of(version), lengths, FLAGS.threads, FLAGS.max_workers, work)
    if FLAGS.measure:
        about = report("service_times", {"export": str(version), "threads": FLAGS.threads})
        write_machine(Path(FLAGS.measure), machine, about)
        say(f"service times written to {FLAGS.measure}")
    return machine


def _simulated(machine: Machine, lengths: Sequence[int], work: Path) -> tuple[str, list[dict[str, Any]]]:
    """The mode that the flags ask for, and its results."""
    batching = batching_of_flags(batching_of(newest(FLAGS.export)) if FLAGS.export else Batching())
    effort, count = Effort(numbers("rates", least=0.01)[0], 3), FLAGS.num_simulated
    if FLAGS.plan:
        traffic = Traffic(FLAGS.traffic, FLAGS.p99_ms, FLAGS.price, FLAGS.spare)
        timeouts = numbers("sweep_timeouts") if FLAGS.sweep_timeouts else [batching.timeout_ms]
        return "plan", [found.to_json() for found in plan(machine, batching, timeouts, lengths, traffic, count, effort)]
    if FLAGS.sweep_timeouts:
        limits = numbers("limits_ms", least=0.001)
        peaks = peaks_by_timeout(machine, batching, numbers("sweep_timeouts"), lengths, limits, count, effort)
        return "sweep", [
            {"timeout_ms": timeout, "row": table6_row(timeout, found), "peaks": [peak.to_json() for peak in found]}
            for timeout, found in peaks.items()
        ]
    found = _quantiles(machine, batching, lengths)
    return ("validate", _validated(found, batching, work)) if FLAGS.validate else ("rates", found)


def main(argv: Sequence[str]) -> int:
    """Simulates what the flags ask for; exit code 1 where a validation failed or no fleet holds the limit."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; every option is a flag (--name=value)")
    if FLAGS.measure and FLAGS.curve:
        raise CvrError("--measure writes service times and --curve reads them; give one")
    if FLAGS.validate and not FLAGS.export:
        raise CvrError("--validate loads a real server; give --export=DIR")
    interrupt_on_termination()
    lengths = _lengths()
    with tempfile.TemporaryDirectory() as work:
        machine = _machine(lengths, Path(work))
        mode, results = _simulated(machine, lengths, Path(work))
    settings = {
        "mode": mode,
        "limits_ms": numbers("limits_ms", least=0.001),
        "machine": dataclasses.asdict(machine),
        "traffic": {"rate": FLAGS.traffic, "p99_ms": FLAGS.p99_ms, "price": FLAGS.price, "spare": FLAGS.spare},
        "num_simulated": FLAGS.num_simulated,
    }
    found = report("simulate_serving", settings) | {"results": results}
    if FLAGS.plot:
        plot(found, Path(FLAGS.plot))
    deliver(found, lambda: shown(found))
    held = {"validate": lambda: all(e["within"] for e in results), "plan": lambda: any(e["instances"] for e in results)}
    return 0 if held.get(mode, lambda: True)() else 1


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main, flags_parser=parse_flags)


if __name__ == "__main__":
    entry()

"""A bounded soak of the local server: steady low load, a version switch every minute, no failed request, flat memory (docs/capacity.md).

    python -m tools.soak --export=DIR [--lists=DIR] --minutes=60 --json=soak.json --plot=soak.svg

Copies of the version are published under rising numbers into a temporary folder. Exit code 1 where a request failed, a version did not take
over, or memory may have grown by more than --most_growth over the run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
from absl import app, flags
from matplotlib.axes import Axes

from cvr.errors import CvrError, run_main
from export.versions import newest
from pipelines.validation.figures import SOFT, colour_of
from tools.benchmarks.command import define_json_flag, deliver, parse_flags
from tools.load_test import define_request_flags, payloads_of_flags, report, say
from tools.serving.generator import Phase
from tools.serving.local_server import local_server
from tools.serving.phases import generator
from tools.serving.plots import save
from tools.serving.rebatch import batching_of, rebatch
from tools.serving.soaking import MIB, Cycle, Growth, Soak, faults, growth
from tools.stages import interrupt_on_termination

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command's flags."""
    define_request_flags()
    define_json_flag()
    flags.DEFINE_float("minutes", 60.0, "Length of the soak.", lower_bound=0.5, upper_bound=24 * 60)
    flags.DEFINE_float("switch_seconds", 60.0, "Length of a cycle, in which one version is published.", lower_bound=5.0)
    flags.DEFINE_float("rate", 5.0, "Requests a second.", lower_bound=0.1)
    flags.DEFINE_integer("skip_cycles", 3, "First cycles whose memory does not count: pools and allocators still fill.", lower_bound=0)
    flags.DEFINE_float("most_growth", 0.05, "Most that memory may have grown over the counted cycles, as a share.", lower_bound=0.0)
    flags.DEFINE_string("plot", None, "Draws a plot to this file (PNG or SVG).")


def soak(version: Path, work: Path) -> list[Cycle]:
    """All cycles, one line of progress each."""
    base = work / "export"
    rebatch(version, base, 1, batching_of(version))
    count = max(1, round(60 * FLAGS.minutes / FLAGS.switch_seconds))
    payloads, cycles = payloads_of_flags(), list[Cycle]()
    say(f"{count} cycles of {FLAGS.switch_seconds:g} s; {payloads.described}")
    serving = ("--file_system_poll_seconds=1", f"--model_name={FLAGS.model_name}")
    with local_server(base, work / "serve.log", FLAGS.threads, serving) as server, generator(payloads, server.target) as load:
        with grpc.insecure_channel(server.target) as channel:
            whole = Soak(server, load, channel, base, FLAGS.model_name)
            for number in range(count):
                cycle = whole.cycle(Phase(FLAGS.rate, FLAGS.switch_seconds, 0.0, number, FLAGS.deadline))
                cycles.append(cycle)
                took = "did not take over" if cycle.switched is None else f"served alone after {cycle.switched:.1f} s"
                p99 = cycle.outcome.quantile_ms(0.99)
                say(
                    f"version {cycle.version} {took}; {cycle.outcome.requests} requests, {cycle.outcome.failed} failed, "
                    f"P99 {p99:.1f} ms; {cycle.memory / MIB:.0f} MiB, {cycle.cores:.2f} cores"
                )
    return cycles


def shown(found: dict[str, Any]) -> str:
    """The report in words."""
    cycles, grown = found["cycles"], found["growth"]
    requests = sum(cycle["load"]["requests"] for cycle in cycles)
    switches = [cycle["switched_seconds"] for cycle in cycles if cycle["switched_seconds"] is not None]
    lines = [
        f"{len(cycles)} cycles, {requests:,} requests, {len(switches)} switches, the slowest {max(switches, default=0):.1f} s",
        f"memory {grown['memory']:.0f} MiB, {grown['slope']:+.3f} MiB a cycle (95 % interval {grown['low']:+.3f} to {grown['high']:+.3f})",
        f"server {sum(cycle['cores'] for cycle in cycles) / len(cycles):.3f} cores on average",
        *(f"FAILED: {fault}" for fault in found["faults"]),
    ]
    return "\n".join(lines if found["faults"] else [*lines, "passed"])


def draw(cycles: Sequence[Cycle], grown: Growth, path: Path) -> None:
    """Memory over time with the switches, and P99 by cycle."""

    def memory(ax: Axes) -> None:
        points = [point for cycle in cycles for point in cycle.samples]
        ax.plot([at / 60 for at, _ in points], [size / MIB for _, size in points], color=colour_of(0), linewidth=1.2)
        for cycle in cycles:
            if cycle.switched is not None:
                ax.axvline((cycle.published + cycle.switched) / 60, color=SOFT, linewidth=0.5, alpha=0.5)
        ax.set_ylim(bottom=0)
        ax.set_title(f"Resident memory, {grown.slope:+.2f} MiB a switch")
        ax.set_xlabel("minutes; vertical: a version took over")
        ax.set_ylabel("MiB")

    def latency(ax: Axes) -> None:
        for place, q in enumerate((0.5, 0.99)):
            values = [cycle.outcome.quantile_ms(q) for cycle in cycles]
            ax.plot([cycle.published / 60 for cycle in cycles], values, "o-", markersize=3, color=colour_of(place), label=f"p{100 * q:g}")
        ax.set_ylim(bottom=0)
        ax.set_title("Latency by cycle")
        ax.set_xlabel("minutes")
        ax.set_ylabel("ms")

    save(path, 3.4, [memory, latency])


def main(argv: Sequence[str]) -> int:
    """Soaks and judges."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; every option is a flag (--name=value)")
    if not FLAGS.export:
        raise CvrError("say which model to serve: --export=DIR")
    interrupt_on_termination()
    with tempfile.TemporaryDirectory() as work:
        cycles = soak(newest(FLAGS.export), Path(work))
    grown = growth([cycle.memory for cycle in cycles[FLAGS.skip_cycles :]])
    settings = {name: FLAGS[name].value for name in ("minutes", "switch_seconds", "rate", "skip_cycles", "most_growth", "threads")}
    found = report("soak", settings) | {
        "faults": faults(cycles, grown, FLAGS.most_growth),
        "growth": grown.to_json(),
        "cycles": [cycle.to_json() for cycle in cycles],
    }
    if FLAGS.plot:
        draw(cycles, grown, Path(FLAGS.plot))
    deliver(found, lambda: shown(found))
    return 1 if found["faults"] else 0


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main, flags_parser=parse_flags)


if __name__ == "__main__":
    entry()

"""Open-loop load on a served model: latency quantiles by arrival rate, and the greatest load within a latency limit (docs/capacity.md).

    python -m tools.load_test --export=DIR --lists=DIR --rates=50,100,200 [--json[=FILE]] [--plot=FILE.svg]
    python -m tools.load_test --target=host:port --lists=DIR --rates=50
    python -m tools.load_test --export=DIR --lists=DIR --sweep_timeouts=0,5,10,15,20,25,30

With --export, `export.serve` runs beside it in a process of its own with --threads threads. Arrivals are a Poisson process and never wait
for answers; latency counts from the intended arrival. --sweep_timeouts serves the model once per batch timeout.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags

from cvr.errors import CvrError, run_main
from export.versions import newest
from tools.benchmarks.command import define_json_flag, deliver, parse_flags
from tools.benchmarks.machine import report_head
from tools.benchmarks.tables import table
from tools.serving.local_server import LocalServer, local_server
from tools.serving.payloads import KINDS, Payloads, export_spec, make_payloads
from tools.serving.peak import Effort, search
from tools.serving.phases import generator, merged
from tools.serving.plots import latency_plot, peak_plot
from tools.serving.rebatch import batching_of
from tools.serving.sweep import Timing, candidate, table6_head, table6_row
from tools.stages import interrupt_on_termination

FLAGS = flags.FLAGS


def define_request_flags() -> None:
    """Which requests are sent, for how long; shared with the other commands that load a server."""
    flags.DEFINE_string("export", None, "Base folder of versions (the newest is served) or a version folder.")
    flags.DEFINE_string("lists", None, "Folder of list records; requests have the lengths of its lists.")
    flags.DEFINE_string("split", "validation", "Split of --lists.")
    flags.DEFINE_enum("requests", "raw", list(KINDS), "Made-up raw requests, or the stored lists themselves.")
    flags.DEFINE_integer("num_requests", 500, "Different requests.", lower_bound=1)
    flags.DEFINE_list("sizes", ["10", "30", "100"], "Items of the requests where no --lists are given.")
    flags.DEFINE_string("model_name", "cvr", "The model's name on the server.")
    flags.DEFINE_float("seconds", Timing.seconds, "Length of a phase of load.", lower_bound=0.1)
    flags.DEFINE_float("warm_up", Timing.warm_up, "Seconds of the same load before it that do not count.", lower_bound=0.0)
    flags.DEFINE_float("deadline", Timing.deadline, "Deadline of a request in seconds.", lower_bound=0.01)
    flags.DEFINE_integer("repeats", 3, "Phases of each rate, with other arrivals.", lower_bound=1)
    flags.DEFINE_integer("threads", 1, "Threads of TensorFlow's pools in servers that are started here.", lower_bound=1)


def define_flags() -> None:
    """The command's flags."""
    define_request_flags()
    define_json_flag()
    flags.DEFINE_string("target", None, "host:port of a running server, in place of one that is started for --export.")
    flags.DEFINE_list("rates", ["20", "50", "100"], "Arrivals, requests a second.")
    flags.DEFINE_list("sweep_timeouts", [], "Batch timeouts in ms to find the peak of; needs --export.")
    flags.DEFINE_list("limits_ms", ["50", "75"], "Latency limits of the sweep, P99.")
    flags.DEFINE_float("first_rate", Effort.first, "Where the sweep begins to look, requests a second.", lower_bound=0.5)
    flags.DEFINE_float("tolerance", Effort.tolerance, "Ratio of arrival rates at which the sweep has found a peak.", lower_bound=1.001)
    flags.DEFINE_string("plot", None, "Draws a plot to this file (PNG or SVG).")


def numbers(flag: str, most: float = 1e7, least: float = 0.0) -> list[float]:
    """The flag's list as numbers. Raises CvrError."""
    try:
        found = [float(text) for text in FLAGS[flag].value]
    except ValueError as error:
        raise CvrError(f"--{flag}={','.join(FLAGS[flag].value)}: expected numbers ({error})") from error
    if not found or min(found) < least or max(found) > most:
        raise CvrError(f"--{flag}={','.join(FLAGS[flag].value)}: expected numbers from {least:g} to {most:g}")
    return found


def payloads_of_flags() -> Payloads:
    """The requests that the flags ask for."""
    spec = export_spec(newest(FLAGS.export)) if FLAGS.export else None
    sizes = [int(size) for size in numbers("sizes", least=1)]
    return make_payloads(FLAGS.requests, spec, FLAGS.lists, FLAGS.split, FLAGS.num_requests, sizes, FLAGS.model_name)


def timing_of_flags() -> Timing:
    """Lengths of phases."""
    return Timing(FLAGS.seconds, FLAGS.warm_up, FLAGS.deadline)


def say(line: str) -> None:
    """A line of progress."""
    print(line, file=sys.stderr, flush=True)


def report(benchmark: str, settings: dict[str, Any]) -> dict[str, Any]:
    """What every report of a load begins with."""
    return report_head(benchmark, os.cpu_count() or 1, ("tensorflow", "grpcio", "numpy"), settings)


@contextlib.contextmanager
def _server(work: Path) -> Iterator[tuple[str, LocalServer | None]]:
    if FLAGS.target:
        yield FLAGS.target, None
    else:
        with local_server(Path(FLAGS.export), work / "serve.log", FLAGS.threads, (f"--model_name={FLAGS.model_name}",)) as server:
            yield server.target, server


def rates_measured(payloads: Payloads, work: Path) -> list[dict[str, Any]]:
    """Every rate's phases, in turns, as one entry each."""
    rates, timing = numbers("rates", least=0.01), timing_of_flags()
    phases: dict[float, list[Any]] = {rate: [] for rate in rates}
    cpu = dict.fromkeys(rates, 0.0)
    with _server(work) as (target, server), generator(payloads, target) as load:
        for repeat in range(FLAGS.repeats):
            for rate in rates:
                before = server.cpu_seconds() if server else 0.0
                phases[rate].append(load.run(timing.phase(rate, repeat)))
                cpu[rate] += server.cpu_seconds() - before if server else 0.0
    found = []
    for rate in rates:
        whole = merged(phases[rate])
        lasted = FLAGS.repeats * (timing.seconds + timing.warm_up)
        server_ms = {"server_ms": round(1000 * cpu[rate] / (rate * lasted), 3)} if server else {}
        found.append({**whole.to_json(), "repeats": FLAGS.repeats, **server_ms})
    return found


def shown(found: dict[str, Any]) -> str:
    """The report as text."""
    if found["settings"]["sweep"]:
        text = table(table6_head(found["settings"]["limits_ms"]), [entry["row"] for entry in found["results"]], markdown=False)
        return text + ("\n* the load generator may have been the limit" if "*" in text else "")
    quantiles = ("p50", "p90", "p99", "p99.9", "max")
    rows = []
    for entry in found["results"]:
        latency = [entry["latency_ms"][name] for name in quantiles]
        errors = ", ".join(f"{code} {count}" for code, count in sorted(entry["counts"].items()) if code != "OK") or "0"
        cells = [f"{value:.1f}" if value is not None else "failed" for value in latency]
        keeps = "yes" if entry["generator"]["kept_up"] else f"NO: {entry['generator']['lag_p99_ms']:.1f} ms late"
        rows.append([f"{entry['rate']:g}", f"{entry['requests']:,}", f"{entry['items_per_second']:,.0f}", *cells, errors, keeps])
    return table(["requests/s", "sent", "items/s", *(f"{name} ms" for name in quantiles), "errors", "generator kept up"], rows, False)


def swept(payloads: Payloads, work: Path, timeouts: Sequence[float], limits: Sequence[float]) -> list[dict[str, Any]]:
    """Peaks by batch timeout, all servers running and loaded in turns."""
    version = newest(FLAGS.export)
    before = batching_of(version)
    with contextlib.ExitStack() as stack:
        servers = {}
        for timeout in timeouts:
            batching = dataclasses.replace(before, timeout_ms=timeout)
            running = candidate(version, batching, work / f"{timeout:g}", payloads, timing_of_flags(), FLAGS.threads)
            servers[timeout] = stack.enter_context(running).play
        peaks = search(servers, limits, Effort(FLAGS.first_rate, FLAGS.repeats, FLAGS.tolerance), say=say)
    return [
        {"timeout_ms": timeout, "row": table6_row(timeout, peaks[timeout]), "peaks": [peak.to_json() for peak in peaks[timeout]]}
        for timeout in timeouts
    ]


def _plot(found: dict[str, Any], path: Path) -> None:
    results, limits = found["results"], found["settings"]["limits_ms"]
    if found["settings"]["sweep"]:
        lines = {
            f"P99 within {limit:g} ms": [(entry["timeout_ms"], entry["peaks"][place]["items_per_second"]) for entry in results]
            for place, limit in enumerate(limits)
        }
        peak_plot(path, lines, "Peak by batch timeout")
        return
    quantiles = {
        name: [(entry["rate"], entry["latency_ms"][name] or float("inf")) for entry in results] for name in ("p50", "p90", "p99", "p99.9")
    }
    latency_plot(path, quantiles, "Latency by load")


def main(argv: Sequence[str]) -> int:
    """Loads a server and says what came of it; exit code 1 where the generator did not keep up or every request failed."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; every option is a flag (--name=value)")
    if bool(FLAGS.export) + bool(FLAGS.target) == 0 or (FLAGS.sweep_timeouts and (FLAGS.target or not FLAGS.export)):
        raise CvrError("give --export=DIR, which a local server serves, or --target=host:port; a sweep needs --export alone")
    interrupt_on_termination()
    payloads = payloads_of_flags()
    say(payloads.described)
    sweep = numbers("sweep_timeouts") if FLAGS.sweep_timeouts else []
    limits = numbers("limits_ms", least=0.001)
    batching = None if FLAGS.target else dataclasses.asdict(batching_of(newest(FLAGS.export)))
    settings = {
        "sweep": bool(sweep),
        "limits_ms": limits,
        "requests": payloads.described,
        "threads": FLAGS.threads,
        "batching": batching,
        "repeats": FLAGS.repeats,
        **dataclasses.asdict(timing_of_flags()),
    }
    found = report("load_test", settings)
    with tempfile.TemporaryDirectory() as work:
        found["results"] = swept(payloads, Path(work), sweep, limits) if sweep else rates_measured(payloads, Path(work))
    if FLAGS.plot:
        _plot(found, Path(FLAGS.plot))
    deliver(found, lambda: shown(found))
    return 0 if sweep or all(entry["generator"]["kept_up"] and entry["counts"].get("OK") for entry in found["results"]) else 1


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main, flags_parser=parse_flags)


if __name__ == "__main__":
    entry()

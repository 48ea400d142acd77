"""Serving speed: batching by the client and by the server, what the server costs, and the parts of a request. Ratios in one run.

    python -m tools.benchmarks.serving --json[=FILE] [--cross_width=2048] [--timeouts=0,2,5,10] [--rounds=5]
    python -m tools.benchmarks.serving --read=FILE --markdown

The model is a MaskNet on reference content with random weights. docs/capacity.md says what each group compares.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from absl import flags

from cvr.errors import CvrError, run_main
from cvr.ranker import Ranker
from export.batching import Batching
from export.servable import Servable
from tools.benchmarks.command import define_report_flags, measure_or_read, parse_flags
from tools.benchmarks.serving_cells import (
    Cell,
    Plan,
    context_turn,
    in_process_turn,
    rounds,
    score_turn,
    served_turns,
    split_call,
)
from tools.benchmarks.serving_model import export_untrained
from tools.benchmarks.serving_report import (
    BATCHES,
    CLIENT,
    CONTEXT,
    OFF,
    OVERHEAD,
    SPLIT,
    cells_of,
    goals,
    peaks_of,
    read,
    shown,
)
from tools.load_test import numbers, report, say
from tools.serving.payloads import export_spec, raw_payloads
from tools.serving.peak import Effort, search
from tools.serving.sweep import Timing, candidate
from tools.stages import interrupt_on_termination

FLAGS = flags.FLAGS
CANDIDATES = (1, 10, 50, 200)
LENGTH = 192
GROUPS = ("client", "dynamic", "overhead", "context", "split", "backbone")
ON = Batching(allowed_sizes=(10, 32, 64, 128, 256, 512))


def define_flags() -> None:
    """The command's flags."""
    define_report_flags()
    flags.DEFINE_list("only", list(GROUPS), "Groups to measure.")
    flags.DEFINE_integer("cross_width", 2048, "Cross width of the MaskNet; its deep width is half of it.", lower_bound=2)
    flags.DEFINE_integer("rows", 100_000, "Rows of the table of items.", lower_bound=1)
    flags.DEFINE_integer("rounds", Plan.rounds, "Turns of each cell.", lower_bound=1)
    flags.DEFINE_float("seconds", Plan.seconds, "Length of a turn.", lower_bound=0.1)
    flags.DEFINE_integer("callers", Plan.callers, "Requests at a time in closed loops.", lower_bound=1)
    flags.DEFINE_integer("threads", Plan.threads, "Threads of TensorFlow's pools.", lower_bound=1)
    flags.DEFINE_integer("items", 10, "Items of the small requests of dynamic batching.", lower_bound=1)
    flags.DEFINE_float("limit_ms", 50.0, "Their P99 limit.", lower_bound=1.0)
    flags.DEFINE_list("timeouts", ["0", "2", "5", "10"], "Batch timeouts of dynamic batching, ms.")


def dynamic(version: Path, plan: Plan, work: Path) -> list[dict[str, Any]]:
    """Peaks with every request a batch of its own (`off`: its length is the only allowed size), and merged, by timeout."""
    alone = Batching(allowed_sizes=(FLAGS.items,))
    wanted = {OFF: alone}
    wanted |= {f"{timeout:g} ms": dataclasses.replace(ON, timeout_ms=timeout) for timeout in numbers("timeouts")}
    payloads = raw_payloads(export_spec(version), [FLAGS.items] * 100)
    timing = Timing(plan.seconds, 0.5)
    with contextlib.ExitStack() as stack:
        servers = {
            name: stack.enter_context(candidate(version, batching, work / name.replace(" ", ""), payloads, timing, plan.threads)).play
            for name, batching in wanted.items()
        }
        peaks = search(servers, [FLAGS.limit_ms], Effort(50.0, plan.rounds), say=say)
    return [{"name": name, "batching": dataclasses.asdict(wanted[name]), "peak": found[0].to_json()} for name, found in peaks.items()]


def cells(version: Path, ranker: Ranker, plan: Plan, work: Path, only: Sequence[str]) -> list[Cell]:
    """The closed loops, group by group."""
    found: list[Cell] = []
    spec = export_spec(version)
    with contextlib.ExitStack() as stack:
        served = {}
        if {"client", "overhead"} & set(only):
            served = stack.enter_context(served_turns(version, CANDIDATES, plan, work))
        servable = stack.enter_context(contextlib.closing(Servable(version, plan.threads, plan.threads)))
        whole = in_process_turn(servable, CANDIDATES[-1], plan)
        halves = in_process_turn(servable, CANDIDATES[-1], plan, split_call(servable))
        groups = {
            "client": (CLIENT, {f"{n} candidate{'s' * (n > 1)} a request": turn for n, turn in served.items()}),
            "overhead": (OVERHEAD, {"server": served[CANDIDATES[-1]], "in process": whole} if served else {}),
            "context": (
                CONTEXT,
                {
                    "once": context_turn(ranker, spec, 1, LENGTH, plan.seconds),
                    "per item": context_turn(ranker, spec, LENGTH, 1, plan.seconds),
                },
            ),
            "split": (SPLIT, {"serving_default": whole, "preprocess + score": halves}),
            "backbone": (BATCHES, {f"batch of {n}": score_turn(servable, n, plan.seconds / 3) for n in (1, 10, 32, 128, 512)}),
        }
        for name, (title, turns) in groups.items():
            if name in only:
                found += rounds(title, turns, plan.rounds, say)
    return found


def measured() -> dict[str, Any]:
    """Measures what the flags ask for."""
    if not FLAGS.only or not set(FLAGS.only) <= set(GROUPS):
        raise CvrError(f"--only={','.join(FLAGS.only)}: there are {', '.join(GROUPS)}")
    plan = Plan(FLAGS.rounds, FLAGS.seconds, FLAGS.callers, FLAGS.threads)
    tf.config.threading.set_intra_op_parallelism_threads(plan.threads)
    tf.config.threading.set_inter_op_parallelism_threads(plan.threads)
    factors = {"cross_width": FLAGS.cross_width, "deep_width": FLAGS.cross_width // 2}
    settings = {**dataclasses.asdict(plan), "backbone": "masknet", "factors": factors, "items": FLAGS.items, "limit_ms": FLAGS.limit_ms}
    found = report("serving", settings)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        version, ranker = export_untrained(work / "model", "masknet", factors, FLAGS.rows, ON)
        found["cells"] = [dataclasses.asdict(cell) for cell in cells(version, ranker, plan, work, FLAGS.only)]
        found["dynamic"] = dynamic(version, plan, work) if "dynamic" in FLAGS.only else []
    found["goals"] = [dataclasses.asdict(goal) | {"met": goal.met} for goal in goals(cells_of(found), peaks_of(found))]
    return found


def main(argv: Sequence[str]) -> None:
    """Measures or reads, and shows."""
    interrupt_on_termination()
    measure_or_read(argv, read, measured, lambda found: shown(found, FLAGS.markdown))


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main, flags_parser=parse_flags)


if __name__ == "__main__":
    entry()

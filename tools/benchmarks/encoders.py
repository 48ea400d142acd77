"""Cost of each encoder of behaviour sequences by length of the list and of the history, forward and in training.

    python -m tools.benchmarks.encoders --json[=FILE] [--encoders=eta,target_attention] [--items=1,50] [--events=200,10000]
    python -m tools.benchmarks.encoders --read=FILE --markdown

All cells of a history length take turns in one process with a fixed number of threads. docs/performance.md explains the columns.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from absl import flags

from cvr import encoders
from cvr.errors import CvrError, run_main
from tools.benchmarks.command import define_report_flags, measure_or_read, parse_flags
from tools.benchmarks.embedding import check, sizes
from tools.benchmarks.encoders_report import goals, read, shown
from tools.benchmarks.encoders_steps import Plan, cells, measure
from tools.benchmarks.machine import report_head

FLAGS = flags.FLAGS
MOST_EVENTS = 10_000
"""The longest history that a spec can ask for."""


def define_flags() -> None:
    """The command's flags."""
    define_report_flags()
    flags.DEFINE_list("encoders", [], "Encoders to time; all by default.")
    flags.DEFINE_list("items", ["1", "10", "50", "200"], "Items of a list.")
    flags.DEFINE_list("events", ["50", "200", "1e3", "5e3", "1e4"], "Events of a history.")
    flags.DEFINE_integer("lists", Plan.lists, "Lists of a step.", lower_bound=1)
    flags.DEFINE_integer("dim", Plan.dim, "Width of an event's vector.", lower_bound=1)
    flags.DEFINE_float("memory_gib", Plan.memory_gib, "Cells whose tensors would take more are left out.", lower_bound=0)
    flags.DEFINE_integer("repeats", Plan.repeats, "Turns of each cell.", lower_bound=1)
    flags.DEFINE_integer("steps", Plan.steps, "Most timed steps of a turn.", lower_bound=1)
    flags.DEFINE_float("seconds", Plan.seconds, "A turn has fewer steps, though one at least, where they would take longer.", lower_bound=0)
    flags.DEFINE_integer("seed", Plan.seed, "Seed of the vectors.", lower_bound=0)
    flags.DEFINE_integer("threads", 2, "Threads of TensorFlow inside operations; one between them.", lower_bound=1)


def measured() -> dict[str, Any]:
    """Measures what the flags ask for."""
    names = check("encoders", FLAGS.encoders or encoders.names(), encoders.names())
    items, events = sizes(FLAGS.items, "items"), sizes(FLAGS.events, "events")
    if max(events) > MOST_EVENTS:
        raise CvrError(f"--events={','.join(FLAGS.events)}: a history has at most {MOST_EVENTS:,} events")
    plan = Plan(**{field.name: FLAGS[field.name].value for field in dataclasses.fields(Plan)})
    tf.config.threading.set_intra_op_parallelism_threads(FLAGS.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    settings = {**dataclasses.asdict(plan), "threads": FLAGS.threads, "encoders": list(names), "items": items, "events": events}
    head = report_head("encoders", FLAGS.threads, ("tensorflow", "tf-keras", "numpy"), settings)
    found = measure(cells(names, items, events), plan, lambda line: print(line, file=sys.stderr, flush=True))
    return {
        **head,
        "cells": [dataclasses.asdict(timing) for timing in found],
        "goals": [dataclasses.asdict(goal) | {"met": goal.met} for goal in goals(found)],
    }


def main(argv: Sequence[str]) -> None:
    """Measures or reads, and shows."""
    measure_or_read(argv, read, measured, lambda found: shown(found, FLAGS.markdown))


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main, flags_parser=parse_flags)


if __name__ == "__main__":
    entry()

"""Items a second of our reader beside TF-Ranking's ELWC builder, padding in our batches, and three ways to n-grams.

    python -m tools.benchmarks.input --json[=FILE] [--cpus=1] [--lists=4000] [--repeats=7]
    python -m tools.benchmarks.input --read=FILE --markdown

The process is pinned to `--cpus` CPUs and gives TensorFlow as many threads. docs/performance.md explains the columns. Linux only.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from absl import flags

from cvr.errors import CvrError, run_main
from tools.benchmarks import input_ngrams
from tools.benchmarks.command import define_report_flags, measure_or_read, parse_flags
from tools.benchmarks.input_content import DRAWS, FORMATS, content, draw_lengths, write
from tools.benchmarks.input_packing import wastes
from tools.benchmarks.input_readers import Cell, Plan, check_equal, measure
from tools.benchmarks.input_report import BATCH_ITEMS, goals_of, read, shown
from tools.benchmarks.machine import report_head

FLAGS = flags.FLAGS
_PACKED_LISTS = 20_000
_NGRAM_CALLS = 100


def define_flags() -> None:
    """The command's flags."""
    define_report_flags()
    flags.DEFINE_integer("cpus", 1, "CPUs that the process is pinned to, and threads of TensorFlow.", lower_bound=1)
    flags.DEFINE_integer("lists", Plan.lists, "Lists of a file.", lower_bound=1)
    flags.DEFINE_integer("batch_items", Plan.batch_items, "Items per batch.", lower_bound=1)
    flags.DEFINE_integer("passes", Plan.passes, "Passes over the file in a turn.", lower_bound=1)
    flags.DEFINE_integer("repeats", Plan.repeats, "Turns of each cell.", lower_bound=1)
    flags.DEFINE_integer("seed", Plan.seed, "Seed of the content.", lower_bound=0)


def pin(cpus: int) -> None:
    """Pins the process to some of its CPUs and gives TensorFlow as many threads. Raises CvrError where it has fewer."""
    allowed = sorted(os.sched_getaffinity(0))
    if cpus > len(allowed):
        raise CvrError(f"--cpus={cpus}: this process may use {len(allowed)}; lower it")
    os.sched_setaffinity(0, allowed[:cpus])
    tf.config.threading.set_intra_op_parallelism_threads(cpus)
    tf.config.threading.set_inter_op_parallelism_threads(cpus)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _readings(plan: Plan, folder: Path) -> dict[str, Any]:
    """Writes the files, holds the readers against each other, and times them."""
    totals, compared = {}, {}
    for draw in DRAWS:
        columns = content(plan.lists, draw, plan.seed)
        totals[draw] = int(columns.lengths.sum())
        write(folder, draw, columns)
        compared[draw] = check_equal(folder, plan, draw, totals[draw] / plan.lists)
        _say(f"draw {draw}: {plan.lists} lists of {totals[draw] / plan.lists:.1f} items; both readers give the same")
    cells = [Cell(reader, draw, zipped) for draw in DRAWS for reader in FORMATS for zipped in (False, True)]
    found = measure(cells, folder, plan, totals, FLAGS.cpus, _say)
    return {"items": totals, "compared_items": compared, "results": [dataclasses.asdict(reading) for reading in found]}


def measured() -> dict[str, Any]:
    """Measures what the flags ask for."""
    plan = Plan(**{field.name: FLAGS[field.name].value for field in dataclasses.fields(Plan)})
    head = report_head("input", FLAGS.cpus, ("tensorflow", "tensorflow-ranking", "numpy"), {**dataclasses.asdict(plan), "cpus": FLAGS.cpus})
    pin(FLAGS.cpus)
    source = np.random.default_rng(plan.seed)
    packed = wastes({draw: draw_lengths(source, draw, _PACKED_LISTS) for draw in DRAWS}, BATCH_ITEMS)
    ngrams, per_text = input_ngrams.measure(plan.repeats, _NGRAM_CALLS, plan.seed)
    with tempfile.TemporaryDirectory() as folder:
        readings = _readings(plan, Path(folder))
    found = {
        **head,
        **readings,
        "packing": [dataclasses.asdict(waste) for waste in packed],
        "ngrams": {way: dataclasses.asdict(spread) for way, spread in ngrams.items()},
        "ngrams_per_text": per_text,
    }
    return {**found, "goals": [dataclasses.asdict(goal) | {"met": goal.met} for goal in goals_of(found)]}


def main(argv: Sequence[str]) -> None:
    """Measures or reads, and shows."""
    measure_or_read(argv, read, measured, lambda found: shown(found, FLAGS.markdown))


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main, flags_parser=parse_flags)


if __name__ == "__main__":
    entry()

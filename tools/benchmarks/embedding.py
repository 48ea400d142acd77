"""Step time of the table optimizers by size of the table, beside Keras Adam, which touches every row at each step.

    python -m tools.benchmarks.embedding --json[=FILE] [--rows=1e5,1e6,1e7] [--optimizers=lazy_adam,keras_adam] [--draws=uniform,zipf]
    python -m tools.benchmarks.embedding --read=FILE --markdown

All cells take turns in one process with a fixed number of threads. docs/performance.md explains the columns. 1e7 rows of 16 need 6 GB.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from absl import flags

from cvr.errors import CvrError, run_main
from tools.benchmarks.command import define_report_flags, measure_or_read, parse_flags
from tools.benchmarks.embedding_report import goals, read, shown
from tools.benchmarks.embedding_steps import DRAWS, OPTIMIZERS, Plan, measure
from tools.benchmarks.machine import report_head

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command's flags."""
    define_report_flags()
    flags.DEFINE_list("rows", ["1e5", "1e6", "1e7"], "Sizes of the table.")
    flags.DEFINE_list("optimizers", list(OPTIMIZERS), "Optimizers to time.")
    flags.DEFINE_list("draws", list(DRAWS), "How ids are drawn.")
    flags.DEFINE_integer("ids", Plan.ids, "Ids of a step.", lower_bound=1)
    flags.DEFINE_integer("dim", Plan.dim, "Width of the table.", lower_bound=1)
    flags.DEFINE_integer("repeats", Plan.repeats, "Turns of each cell.", lower_bound=1)
    flags.DEFINE_integer("steps", Plan.steps, "Timed steps of a turn.", lower_bound=1)
    flags.DEFINE_integer("warm", Plan.warm, "Steps of a turn before them.", lower_bound=0)
    flags.DEFINE_integer("seed", Plan.seed, "Seed of tables and ids.", lower_bound=0)
    flags.DEFINE_integer("threads", 2, "Threads of TensorFlow.", lower_bound=1)


def sizes(texts: Sequence[str], flag: str = "rows") -> list[int]:
    """`1e5` -> 100000. Raises CvrError for what is no size."""
    try:
        found = [int(float(text)) for text in texts]
    except (ValueError, OverflowError) as error:
        raise CvrError(f"--{flag}={','.join(texts)}: expected numbers, such as 1e5,1e6 ({error})") from error
    if not found or min(found) < 1 or len(set(found)) < len(found):
        raise CvrError(f"--{flag}={','.join(texts)}: expected different numbers, at least 1")
    return found


def check(flag: str, given: Sequence[str], known: Sequence[str]) -> Sequence[str]:
    """The names as given. Raises CvrError for one that is not known, and for none."""
    unknown = [name for name in given if name not in known]
    if unknown or not given:
        raise CvrError(f"--{flag}={','.join(given)}: there are {', '.join(known)}")
    return given


def huge_pages() -> dict[str, Any]:
    """How the system gives out huge pages, and how many GiB of this process lie in them; empty off Linux."""
    setting, rollup = Path("/sys/kernel/mm/transparent_hugepage/enabled"), Path("/proc/self/smaps_rollup")
    if not (setting.exists() and rollup.exists()):
        return {}
    chosen = re.search(r"\[(\w+)\]", setting.read_text())
    kib = re.search(r"AnonHugePages:\s+(\d+) kB", rollup.read_text())
    return {
        "system": chosen.group(1) if chosen else None,
        "gib": round(int(kib.group(1)) / 2**20, 2) if kib else None,
    }


def measured() -> dict[str, Any]:
    """Measures what the flags ask for."""
    rows, optimizers, draws = sizes(FLAGS.rows), check("optimizers", FLAGS.optimizers, OPTIMIZERS), check("draws", FLAGS.draws, DRAWS)
    plan = Plan(**{field.name: FLAGS[field.name].value for field in dataclasses.fields(Plan)})
    tf.config.threading.set_intra_op_parallelism_threads(FLAGS.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    settings = {**dataclasses.asdict(plan), "threads": FLAGS.threads}
    head = report_head("embedding", FLAGS.threads, ("tensorflow", "tf-keras", "tensorflow-recommenders", "numpy"), settings)
    found = measure(optimizers, rows, draws, plan, lambda line: print(line, file=sys.stderr, flush=True))
    return {
        **head,
        "huge_pages": huge_pages(),
        "results": [dataclasses.asdict(timing) for timing in found],
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

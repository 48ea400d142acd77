"""Measures `pipelines.build_lists` beside a plain Beam job and single-process DuckDB and Polars scripts, all in one run.

    python -m tools.benchmarks.pipeline --json[=FILE] [--sizes=0.3,1,3,10] [--repeats=3] [--only=attribution,duckdb]
    python -m tools.benchmarks.pipeline --read=FILE --markdown --sizing

Every run is a process of its own on `--cpus` CPUs; the variants take turns, so that all of them see the same machine. All designs must
come to the same labels, or the benchmark fails. docs/performance.md explains the columns. Needs the extra `bench`, and Linux.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from cvr.errors import CvrError, run_main
from tools.benchmarks import report, tables
from tools.benchmarks.command import define_report_flags, measure_or_read, parse_flags
from tools.benchmarks.goals import MILLION
from tools.benchmarks.runner import Runner
from tools.benchmarks.sizing import explain, largest
from tools.benchmarks.variants import VARIANTS, check_variants
from tools.stages import interrupt_on_termination

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command's flags."""
    define_report_flags()
    flags.DEFINE_list("sizes", ["0.3", "1", "3", "10"], "Sizes of the logs in million events.")
    flags.DEFINE_list("repeats", ["3"], "Repeats, one number for all sizes or one per size.")
    flags.DEFINE_list("only", list(VARIANTS), "Variants to run.")
    flags.DEFINE_integer("cpus", 2, "CPUs that each measured process may use.", lower_bound=1)
    flags.DEFINE_integer("seed", 1, "Seed of the logs.", lower_bound=0)
    flags.DEFINE_string("work", None, "Folder for logs and outputs; logs that are there are used again. By default a temporary one.")
    flags.DEFINE_bool("sizing", False, "Also what a year at a billion impressions a day would need.")


def sizes_and_repeats(sizes: Sequence[str], repeats: Sequence[str]) -> dict[int, int]:
    """Events -> repeats. Raises CvrError for what is no number and for lists of different lengths."""
    given = f"--sizes={','.join(sizes)} --repeats={','.join(repeats)}"
    try:
        events, times = [round(float(text) * MILLION) for text in sizes], [int(text) for text in repeats]
    except ValueError as error:
        raise CvrError(f"{given}: expected numbers ({error})") from error
    times = times * len(events) if len(times) == 1 else times
    if not events or len(times) != len(events) or min([*events, *times]) < 1 or len(set(events)) < len(events):
        raise CvrError(f"{given}: expected different sizes, and one number of repeats or one per size")
    return dict(zip(events, times, strict=True))


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    if FLAGS.work:
        Path(FLAGS.work).mkdir(parents=True, exist_ok=True)
        yield Path(FLAGS.work).resolve()
    else:
        with tempfile.TemporaryDirectory(prefix="cvr-benchmark-") as folder:
            yield Path(folder)


def _measured() -> dict[str, Any]:
    check_variants(FLAGS.only)
    interrupt_on_termination()
    with _folder() as folder:
        runner = Runner(folder, FLAGS.cpus, FLAGS.seed, lambda line: print(line, file=sys.stderr, flush=True))
        return report.report(runner, FLAGS.only, sizes_and_repeats(FLAGS.sizes, FLAGS.repeats))


def shown(found: dict[str, Any], markdown: bool, sizing: bool) -> str:
    """A report as text: figures, goals, the labels that all designs agree on, and the extrapolation where asked for."""
    results = report.results_of(found)
    parts = [
        report.described(found),
        tables.table(tables.RESULT_HEAD, tables.result_rows(results), markdown),
        tables.table(("goal", "wanted", "reached", ""), tables.goal_rows(report.goals_of(found)), markdown),
    ]
    result = largest(results, "full")
    if sizing:
        parts.append("\n".join(f"- {line}" for line in explain(result)) if result else "no variant `full` to extrapolate from")
    return "\n\n".join(parts)


def main(argv: Sequence[str]) -> None:
    """Measures or reads, and shows."""
    measure_or_read(argv, report.read, _measured, lambda found: shown(found, FLAGS.markdown, FLAGS.sizing))


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main, flags_parser=parse_flags)


if __name__ == "__main__":
    entry()

"""Writes a seeded synthetic log in the canonical layout (docs/log_format.md), with its truth beside it.

    python -m tools.make_logs --output=runs/demo/logs --days=21 --searches_per_day=2500 --seed=1

The same flags give the same bytes, and a longer log begins with the same days. About half a second per day of 2,500 searches.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from tqdm import tqdm

from cvr.errors import run_main
from tools.synthetic.generate import generate
from tools.synthetic.settings import Settings
from tools.synthetic.write import FORMATS, finished_folder

_DEFAULTS = Settings()

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("output", None, "Folder to write; it must not exist yet, or be empty.")
    flags.DEFINE_integer("days", _DEFAULTS.days, "Number of days.")
    flags.DEFINE_integer("searches_per_day", _DEFAULTS.searches_per_day, "Searches per day.")
    flags.DEFINE_integer("customers", _DEFAULTS.customers, "Number of customers.")
    flags.DEFINE_integer("items", _DEFAULTS.items, "Number of items, at least 60.")
    flags.DEFINE_integer("queries", _DEFAULTS.queries, "Number of different query texts, at most.")
    flags.DEFINE_integer("seed", _DEFAULTS.seed, "Seed of everything random.")
    flags.DEFINE_string("start_date", _DEFAULTS.start_date, "First day (UTC), as 2026-01-01.")
    flags.DEFINE_integer(
        "feature_launch_day",
        _DEFAULTS.feature_launch_day,
        "Day (0 is the first) from which the column semantic_score exists.",
    )
    flags.DEFINE_float("feed_share", _DEFAULTS.feed_share, "Feed pages per search, 0 to 1; 0 leaves the feed out.")
    flags.DEFINE_integer("candidates_per_search", _DEFAULTS.candidates_per_search, "Un-exposed candidates per search, at most; 0: none.")
    flags.DEFINE_float(
        "feed_conflict",
        _DEFAULTS.feed_conflict,
        "How far tastes in the feed contradict those in search, 0 (not at all) to 1 (part of the weights turned round).",
    )
    flags.DEFINE_enum("format", "parquet", FORMATS, "File format of the log; the truth is always Parquet and JSON.")
    flags.mark_flag_as_required("output")


def main(argv: Sequence[str]) -> None:
    """Writes the log and prints what it holds."""
    del argv
    settings = Settings(
        days=FLAGS.days,
        searches_per_day=FLAGS.searches_per_day,
        customers=FLAGS.customers,
        items=FLAGS.items,
        queries=FLAGS.queries,
        seed=FLAGS.seed,
        start_date=FLAGS.start_date,
        feature_launch_day=FLAGS.feature_launch_day,
        feed_share=FLAGS.feed_share,
        candidates_per_search=FLAGS.candidates_per_search,
        feed_conflict=FLAGS.feed_conflict,
    )
    output, started = Path(FLAGS.output), time.monotonic()
    with (
        finished_folder(output) as folder,
        tqdm(total=settings.days, unit="day", disable=not sys.stderr.isatty()) as bar,
    ):
        counts = generate(settings, folder, FLAGS.format, lambda day: bar.update())
    listed = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())
    print(f"{output}: {settings.days} days from {settings.start_date}, {listed} in {time.monotonic() - started:.1f} s")


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()

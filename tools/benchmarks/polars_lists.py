"""The same lists as `tools.benchmarks.duckdb_lists`, by one Polars process with its streaming engine.

    python -m tools.benchmarks.polars_lists --input=LOG --output=FILE.parquet

Polars takes its number of threads from the CPUs that the process may use.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from absl import flags

from cvr.errors import run_main

FLAGS = flags.FLAGS
_DAY_MS = 86_400_000
_EVENTS = ("click", "cart", "purchase")
_KEY = ("customer_id", "item_id")


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("input", None, "Folder of a canonical log in Parquet.", required=True)
    flags.DEFINE_string("output", None, "Parquet file to write.", required=True)


def lists_of(log: str) -> pl.LazyFrame:
    """The lists of a log, one row per search, not yet computed."""
    columns = ("search_id", "time", *_KEY, "position", "price", "match_score")
    shown = pl.scan_parquet(f"{log}/impressions/*.parquet").select(columns)
    done = pl.scan_parquet(f"{log}/engagements/*.parquet").select(*_KEY, "time", "event").sort("time")
    candidates = shown.select(*_KEY, "time", "search_id", shown_at="time").sort("time")
    credited = done.join_asof(candidates, on="time", by=_KEY, strategy="backward", check_sortedness=False)
    in_window = credited.filter(pl.col("time") - pl.col("shown_at") <= _DAY_MS)
    flags_of_event = [(pl.col("event") == event).any().cast(pl.Int8).alias(event) for event in _EVENTS]
    labels = in_window.group_by("search_id", "item_id").agg(flags_of_event)
    items = pl.col("item_id").alias("item"), pl.col("position", "price", "match_score"), pl.col(*_EVENTS).fill_null(0)
    return shown.join(labels, on=["search_id", "item_id"], how="left").group_by("search_id").agg(pl.col("time").min(), *items)


def main(argv: Sequence[str]) -> None:
    """Writes the lists."""
    del argv
    lists_of(FLAGS.input).sink_parquet(FLAGS.output)


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()

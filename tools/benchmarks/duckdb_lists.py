"""The pipeline benchmark's yardstick: attribution and search lists of a canonical log by one DuckDB process, written as Parquet.

    python -m tools.benchmarks.duckdb_lists --input=LOG --output=FILE.parquet [--threads=2]

Each engagement is credited to the last impression of its item to its customer at or before its time (an as-of join) and is a label if
that was at most a day ago. One row per search: `search_id`, `time` and, per item, `item`, `position`, `price`, `match_score` and a label
of 0 or 1 per event. The items of a list are in no promised order (they carry their positions): sorting them would cost half as much again.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
from absl import flags

from cvr.errors import run_main

FLAGS = flags.FLAGS
_DAY_MS = 86_400_000

QUERY = """
WITH shown AS (
    SELECT search_id, time, customer_id, item_id, position, price, match_score FROM read_parquet('{log}/impressions/*.parquet')
), done AS (
    SELECT customer_id, item_id, time, event FROM read_parquet('{log}/engagements/*.parquet')
), labels AS (
    SELECT
        search_id, shown.item_id,
        bool_or(event = 'click')::TINYINT AS click,
        bool_or(event = 'cart')::TINYINT AS cart,
        bool_or(event = 'purchase')::TINYINT AS purchase
    FROM done ASOF JOIN shown
        ON done.customer_id = shown.customer_id AND done.item_id = shown.item_id AND done.time >= shown.time
    WHERE done.time - shown.time <= {window}
    GROUP BY search_id, shown.item_id
)
SELECT
    search_id, min(time) AS time,
    list(item_id) AS item, list(position) AS position, list(price) AS price, list(match_score) AS match_score,
    list(coalesce(click, 0)) AS click, list(coalesce(cart, 0)) AS cart, list(coalesce(purchase, 0)) AS purchase
FROM shown LEFT JOIN labels USING (search_id, item_id)
GROUP BY search_id
"""


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("input", None, "Folder of a canonical log in Parquet.", required=True)
    flags.DEFINE_string("output", None, "Parquet file to write.", required=True)
    flags.DEFINE_integer("threads", 2, "Threads of DuckDB.", lower_bound=1)


def write_lists(log: str, output: str, threads: int) -> None:
    """Writes the lists of a log to one Parquet file."""
    connection = duckdb.connect()
    connection.execute(f"SET threads = {threads}")
    connection.execute("SET preserve_insertion_order = false")
    connection.execute(f"COPY ({QUERY.format(log=log, window=_DAY_MS)}) TO '{output}' (FORMAT parquet)")


def main(argv: Sequence[str]) -> None:
    """Writes the lists."""
    del argv
    write_lists(FLAGS.input, FLAGS.output, FLAGS.threads)


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()

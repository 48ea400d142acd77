"""Computes features for partitions of published lists and writes a new version beside them, touching nothing else.

    python -m pipelines.backfill --lists=OLD --output=NEW --features=semantic_score --start=2026-01-01 --end=2026-01-11 \\
        [--source=... --input=LOG] [--table=TABLE --table_keys=query,item_id] [--spec=new.yaml] [--dry_run]

Flags that are not listed by --help go to Beam. docs/backfill.md explains all of it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from absl import flags, logging

from cvr.errors import CvrError, run_main
from cvr.manifest import Manifest
from cvr.schema import load_spec, parse_duration
from pipelines.backfilling.estimate import estimate
from pipelines.backfilling.job import backfill
from pipelines.backfilling.request import Request
from pipelines.backfilling.table import TableRequest
from pipelines.beam_flags import check_beam_flags, parse_flags

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("lists", None, "The published lists; they stay as they are.", required=True)
    flags.DEFINE_string("output", None, "Folder for the new version; refused where it holds published lists.", required=True)
    flags.DEFINE_list("features", None, "The stored features to compute.", required=True)
    flags.DEFINE_string("start", None, "First day (UTC) whose lists get them, such as 2026-01-31.", required=True)
    flags.DEFINE_string("end", None, "First day (UTC) after those.", required=True)
    flags.DEFINE_string("spec", None, "A spec with further stored features, all of them asked for; by default that of the lists.")
    flags.DEFINE_string("source", None, "The log format; by default that of the lists.")
    flags.DEFINE_string("input", None, "The log's file or folder; by default the one that the lists were built from.")
    flags.DEFINE_string("table", None, "Feature table (Parquet or JSONL) that holds the features' values, with times and keys.")
    flags.DEFINE_list("table_keys", [], "The table's key columns, such as query,item_id; columns of the same names in the log.")
    flags.DEFINE_string("table_lag", "0s", "How much later than its time a value of the table is known, such as 1h.")
    flags.DEFINE_float("max_bad_fraction", 0.001, "Share of bad rows, of the log or the table, above which it fails.", 0.0, 1.0)
    flags.DEFINE_float(
        "max_unmatched_fraction", 0.001, "Share of lists that are not in the log any more above which it fails.", 0.0, 1.0
    )
    flags.DEFINE_integer("step_days", 0, "Days to do at once, so that a kill costs no more than that; 0: all of them.", lower_bound=0)
    flags.DEFINE_bool("dry_run", False, "Only print what would be done and an estimate of its cost; writes nothing to the output.")
    flags.DEFINE_bool("force", False, "Throw away what an unfinished backfill left in the output, and start anew.")


def _table() -> TableRequest | None:
    if not FLAGS.table:
        if FLAGS.table_keys or FLAGS["table_lag"].present:
            raise CvrError("--table_keys and --table_lag belong to --table=..., which is not given")
        return None
    try:
        lag = parse_duration(FLAGS.table_lag)
    except ValueError as error:
        raise CvrError(f"--table_lag: {error}") from error
    return TableRequest(FLAGS.table, tuple(FLAGS.table_keys), lag)


def _request() -> Request:
    if FLAGS.spec:
        load_spec(FLAGS.spec)
    return Request(
        lists=FLAGS.lists,
        output=FLAGS.output,
        features=tuple(FLAGS.features),
        start=FLAGS.start,
        end=FLAGS.end,
        spec_text=Path(FLAGS.spec).read_text(encoding="utf-8") if FLAGS.spec else None,
        spec_name=FLAGS.spec or f"the spec of {FLAGS.lists}",
        source=FLAGS.source or "",
        input=FLAGS.input or "",
        table=_table(),
        max_bad_fraction=FLAGS.max_bad_fraction,
        max_unmatched_fraction=FLAGS.max_unmatched_fraction,
        step_days=FLAGS.step_days,
    )


def _report(request: Request, manifest: Manifest, seconds: float) -> None:
    change = manifest.changes[-1]
    print(
        f"lists from {change['start']} to {change['end']}: {change['lists']:,}, found in the log {change['matched']:,}, "
        f"not found {change['unmatched']:,} (they keep their old values)"
    )
    for name, found in change["coverage"].items():
        told = (f"{key} {count:,} (before {found['before'][key]:,})" for key, count in found["after"].items())
        print(f"{name}: " + ", ".join(told))
    print(f"published {request.output}/manifest.json after {seconds:.1f} s")


def main(argv: Sequence[str]) -> int:
    """Runs or estimates the backfill and prints what became of it."""
    started = time.monotonic()
    logging.set_verbosity(logging.WARNING)
    check_beam_flags(argv[1:])
    request = _request()
    if FLAGS.dry_run:
        print(estimate(request))
        return 0
    manifest = backfill(request, argv[1:], FLAGS.force)
    _report(request, manifest, time.monotonic() - started)
    return 0


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main, flags_parser=parse_flags)


if __name__ == "__main__":
    entry()

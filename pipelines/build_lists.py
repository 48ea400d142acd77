"""Raw search logs to search lists: `python -m pipelines.build_lists --source=... --input=... --spec=... --output=...`.

Flags that are not listed by --help go to Beam (--runner=..., --direct_num_workers=...). docs/data_engineers.md explains all of it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from absl import flags, logging

from cvr.errors import CvrError, run_main
from cvr.manifest import Manifest
from cvr.schema import load_spec, parse_duration
from pipelines.beam_flags import check_beam_flags, parse_flags
from pipelines.es3 import checks as es3_checks
from pipelines.es3.options import NOTHING, EntireSpace
from pipelines.job import build
from pipelines.settings import Settings, parse_time

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("source", "canonical", "The log format: canonical, trivago2019 or expedia2013.")
    flags.DEFINE_string("input", None, "The log's file or folder.", required=True)
    flags.DEFINE_string("spec", None, "The feature spec, configs/features/<dataset>.yaml.", required=True)
    flags.DEFINE_string("output", None, "Folder for the lists; refused where it holds published ones.", required=True)
    flags.DEFINE_string("start", None, "First time of a training list (date or ISO 8601, UTC); all by default.")
    flags.DEFINE_string("validation_from", None, "First time of a validation list; no such split by default.")
    flags.DEFINE_string("test_from", None, "First time of a test list; no such split by default.")
    flags.DEFINE_string("end", None, "Lists from this time on are left out; none by default.")
    flags.DEFINE_string("log_end", None, "Until when the log is complete; by default its last event's time.")
    flags.DEFINE_enum(
        "drop_unconverted", "train", ["train", "all", "none"],
        "Where lists without an engagement of the primary task are dropped: train (and validation), all splits, or none.",
    )  # fmt: skip
    flags.DEFINE_float("sampling_rate", 1.0, "Share of the training lists that is kept, drawn by search id.")
    flags.DEFINE_integer("sampling_seed", 0, "Seed of that draw; a smaller rate's lists are among a greater one's.")
    flags.DEFINE_string("popularity_bucket", "1d", "Time grain of the popularity baseline; none leaves it out.")
    flags.DEFINE_integer(
        "partitions", 0, "Hash partitions of customers; 0: by the input's size, one for about 200,000 rows, at least 8.", lower_bound=0
    )
    flags.DEFINE_integer(
        "split_rows", 250_000, "Customers with more rows than this are split by time, so that no partition is much larger.", lower_bound=1
    )
    flags.DEFINE_boolean(
        "spill", None, "Shuffle through files in the output; by default where the output is local and so is the runner."
    )
    flags.DEFINE_enum("format", "lists", ["lists", "elwc"], "Record format: our lists, or ExampleListWithContext for TF-Ranking.")
    flags.DEFINE_float("max_bad_fraction", 0.001, "Share of bad rows above which the build fails.", 0.0, 1.0)
    define_es3_flags()


def define_es3_flags() -> None:
    """Flags of training lists from the entire space of samples (docs/es3.md)."""
    flags.DEFINE_integer("unexposed_per_list", 0, "Un-exposed candidates that join a training list, drawn by search id; 0: none.")
    flags.DEFINE_boolean("attribute_elsewhere", False, "Engagements of other domains label items of training searches, tier by tier.")
    flags.DEFINE_string("click_event", NOTHING.click_event, "The event by which an item of a search counts as clicked there.")
    flags.DEFINE_list("searchify", [], "Domains such as feed whose pages become training lists with made-up queries; none by default.")
    flags.DEFINE_integer("feed_negatives", NOTHING.feed_negatives, "Untouched items of a page, most similar ones first, per such list.")
    flags.DEFINE_string("item_title", NOTHING.item_title, "The column of items that holds the text which queries are compared with.")
    flags.DEFINE_string("similar_by", NOTHING.similar_by, "The column of items by which those of a page are compared; the title if empty.")
    flags.DEFINE_float("least_similarity", NOTHING.least_similarity, "Cosine below which an item is not similar; 1: the same text.")
    flags.DEFINE_list("query_columns", [], "Columns of impressions that belong to the query, and come along with a made-up one.")


def _es3() -> EntireSpace:
    single = ("unexposed_per_list", "attribute_elsewhere", "click_event", "feed_negatives", "item_title", "similar_by", "least_similarity")
    return EntireSpace(
        **{name: FLAGS[name].value for name in single}, searchify=tuple(FLAGS.searchify), query_columns=tuple(FLAGS.query_columns)
    )


def _settings() -> Settings:
    load_spec(FLAGS.spec)
    return Settings(
        source=FLAGS.source,
        input=FLAGS.input,
        output=FLAGS.output,
        spec_text=Path(FLAGS.spec).read_text(encoding="utf-8"),
        spec_name=FLAGS.spec,
        start=parse_time(FLAGS.start, "start"),
        validation_from=parse_time(FLAGS.validation_from, "validation_from"),
        test_from=parse_time(FLAGS.test_from, "test_from"),
        end=parse_time(FLAGS.end, "end"),
        log_end=parse_time(FLAGS.log_end, "log_end"),
        drop_unconverted=FLAGS.drop_unconverted,
        partitions=FLAGS.partitions,
        max_bad_fraction=FLAGS.max_bad_fraction,
        record_format=FLAGS.format,
        sampling_rate=FLAGS.sampling_rate,
        sampling_seed=FLAGS.sampling_seed,
        popularity_bucket=_bucket(FLAGS.popularity_bucket),
        split_rows=FLAGS.split_rows,
        spill=FLAGS.spill,
        es3=_es3(),
    )


def _bucket(text: str) -> int | None:
    """`1h` -> ms, `none` -> None. Raises CvrError for anything else."""
    if text == "none":
        return None
    try:
        return max(parse_duration(text), 1)
    except ValueError as error:
        raise CvrError(f"--popularity_bucket={text}: {error}; or none") from error


def _report(manifest: Manifest, seconds: float) -> None:
    counts = manifest.counts
    rows = ", ".join(
        f"{table} {count:,} ({counts['bad'][table]:,} bad)" for table, count in sorted(counts["rows"].items())
    )
    print(f"read: {rows}; duplicates: {sum(counts['duplicates'].values()):,}")
    for task, found in counts["attribution"].items():
        numbers = ", ".join(
            f"{key.replace('_', ' ')} {found[key]:,}" for key in ("attributed", "out_of_window", "unattributed", "duplicate")
        )
        print(f"task {task}: engagements {numbers}")
    print("lists: " + ", ".join(f"{key.replace('_', ' ')} {value:,}" for key, value in counts["lists"].items()))
    for line in es3_checks.report(counts):
        print(line)
    for name, split in manifest.splits.items():
        labels = ", ".join(f"{task} {count:,}" for task, count in split.labels.items())
        print(f"{name}: {split.lists:,} lists, {split.items:,} items, labels: {labels}")
    print(f"published {FLAGS.output}/manifest.json after {seconds:.1f} s")


def main(argv: Sequence[str]) -> int:
    """Builds the lists and prints what became of the log."""
    started = time.monotonic()
    logging.set_verbosity(logging.WARNING)
    check_beam_flags(argv[1:])
    settings = _settings()
    for mark in es3_checks.unmarked(settings):
        print(f"warning: no feature reads {mark}, so no model can tell these samples from others (docs/es3.md#marks)", file=sys.stderr)
    manifest = build(settings, argv[1:])
    _report(manifest, time.monotonic() - started)
    return 0


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main, flags_parser=parse_flags)


if __name__ == "__main__":
    entry()

"""The design that the pipeline is compared with: a textbook Beam job whose elements are events.

    python -m tools.benchmarks.plain_beam --input=LOG --output=FOLDER

Rows become dicts, CoGroupByKey brings the impressions and engagements of a customer together, a loop over the customer's engagements finds
the last impression of each item at or before it, and each search becomes one `tf.train.Example` in a gzipped TFRecord file. All rows of a
search carry the same customer, so one shuffle is enough.
"""

from __future__ import annotations

import bisect
import collections
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import tensorflow as tf
from absl import flags
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.options.pipeline_options import PipelineOptions

from cvr.errors import run_main

FLAGS = flags.FLAGS
EVENTS = ("click", "cart", "purchase")
_DAY_MS = 86_400_000
_SHOWN = ["search_id", "time", "customer_id", "item_id", "position", "price", "match_score"]
_DONE = ["time", "customer_id", "item_id", "event"]

Row = dict[str, Any]


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("input", None, "Folder of a canonical log in Parquet.", required=True)
    flags.DEFINE_string("output", None, "Folder for the TFRecord files.", required=True)


def labels_of(impressions: Sequence[Row], engagements: Iterable[Row]) -> dict[tuple[str, str], set[str]]:
    """The events that each (search, item) of one customer is labelled with."""
    shown: dict[str, list[tuple[int, str]]] = collections.defaultdict(list)
    for row in impressions:
        shown[row["item_id"]].append((row["time"], row["search_id"]))
    for candidates in shown.values():
        candidates.sort()
    labels: dict[tuple[str, str], set[str]] = collections.defaultdict(set)
    for row in engagements:
        candidates = shown.get(row["item_id"], [])
        place = bisect.bisect_right(candidates, row["time"], key=lambda candidate: candidate[0]) - 1
        if place >= 0 and row["time"] - candidates[place][0] <= _DAY_MS:
            labels[candidates[place][1], row["item_id"]].add(row["event"])
    return labels


def _ints(values: Iterable[int]) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def _floats(values: Iterable[float]) -> tf.train.Feature:
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def _texts(values: Iterable[str]) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode() for value in values]))


def example(search: str, rows: Sequence[Row], labels: dict[tuple[str, str], set[str]]) -> bytes:
    """One search list, its items by position, as a serialised Example."""
    rows = sorted(rows, key=lambda row: row["position"])
    features = {
        "search_id": _texts([search]),
        "time": _ints([min(row["time"] for row in rows)]),
        "item": _texts(row["item_id"] for row in rows),
        "position": _ints(row["position"] for row in rows),
        "price": _floats(row["price"] for row in rows),
        "match_score": _floats(row["match_score"] for row in rows),
    }
    for event in EVENTS:
        features[event] = _ints(int(event in labels.get((search, row["item_id"]), ())) for row in rows)
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


class CustomerLists(beam.DoFn):
    """(customer, {impressions, engagements}) -> a serialised Example per search of the customer."""

    def process(self, element: tuple[str, dict[str, Iterable[Row]]]) -> Iterator[bytes]:
        _, tables = element
        impressions = list(tables["impressions"])
        labels = labels_of(impressions, tables["engagements"])
        searches: dict[str, list[Row]] = collections.defaultdict(list)
        for row in impressions:
            searches[row["search_id"]].append(row)
        for search, rows in searches.items():
            yield example(search, rows, labels)


def construct(pipeline: beam.Pipeline, log: str, output: str) -> None:
    """Adds the job to a pipeline."""
    tables = {
        name: pipeline
        | f"Read{name}" >> beam.io.ReadFromParquet(f"{log}/{name}/*.parquet", columns=columns)
        | f"Key{name}" >> beam.Map(lambda row: (row["customer_id"], row))
        for name, columns in (("impressions", _SHOWN), ("engagements", _DONE))
    }
    lists = tables | beam.CoGroupByKey() | beam.ParDo(CustomerLists())
    lists | beam.io.WriteToTFRecord(f"{output}/part", file_name_suffix=".tfrecord.gz", compression_type=CompressionTypes.GZIP)


def main(argv: Sequence[str]) -> None:
    """Runs the job on Beam's default runner."""
    del argv
    with beam.Pipeline(options=PipelineOptions([])) as pipeline:
        construct(pipeline, FLAGS.input, FLAGS.output)


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()

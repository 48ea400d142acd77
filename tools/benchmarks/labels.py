"""Whether designs of the pipeline benchmark came to the same labels: counts per event, and a digest of every item's labels.

    python -m tools.benchmarks.labels --output=FILE.json [--rows] [--lists=FOLDER] [--examples=FOLDER] [--parquet=FILE,FILE]

`--lists` is what `pipelines.build_lists` published, `--examples` what `tools.benchmarks.plain_beam` wrote, `--parquet` the files of the
DuckDB and Polars scripts. `--rows` adds the digests, for which every list is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tensorflow as tf
from absl import flags

from cvr.errors import run_main
from cvr.manifest import load_manifest
from cvr.records import decode
from pipelines.record_files import read_records

FLAGS = flags.FLAGS
EVENTS = ("click", "cart", "purchase")


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("output", None, "JSON file to write.", required=True)
    flags.DEFINE_bool("rows", False, "Whether to read every list and add digests.")
    flags.DEFINE_string("lists", None, "Folder of published lists.")
    flags.DEFINE_string("examples", None, "Folder of the plain design's TFRecord files.")
    flags.DEFINE_list("parquet", [], "Parquet files of the single-process scripts.")


def of_lists(folder: Path) -> pa.Table:
    """The items of published lists: `search_id`, `position` and a 0 or 1 per event; one row per item."""
    manifest = load_manifest(folder)
    files = [file for split in manifest.splits.values() for file in split.files]
    parts = [decode(manifest.spec(), read_records(str(folder / file.path))) for file in files]
    columns: dict[str, Any] = {
        "search_id": np.concatenate([np.repeat(part.search_id, part.lengths) for part in parts]).astype(str),
        "position": np.concatenate([part.position for part in parts]),
    }
    labels = np.concatenate([part.labels for part in parts])
    columns |= {name: labels[:, index] for index, name in enumerate(manifest.spec().task_names)}
    return pa.table(columns)


def of_examples(folder: Path) -> pa.Table:
    """The items of the plain design's Examples, as `of_lists` gives them."""
    columns: dict[str, list[Any]] = {name: [] for name in ("search_id", "position", *EVENTS)}
    for path in sorted(folder.glob("*.tfrecord.gz")):
        for record in read_records(str(path)):
            feature = tf.train.Example.FromString(record).features.feature
            positions = feature["position"].int64_list.value
            columns["search_id"] += [feature["search_id"].bytes_list.value[0].decode()] * len(positions)
            columns["position"] += positions
            for event in EVENTS:
                columns[event] += feature[event].int64_list.value
    return pa.table(columns)


def of_parquet(path: Path) -> pa.Table:
    """The items of a single-process script's lists, as `of_lists` gives them."""
    table = pq.read_table(path, columns=["search_id", "position", *EVENTS]).combine_chunks()
    rows = pc.list_parent_indices(table["position"])
    columns = {name: pc.list_flatten(table[name]) for name in ("position", *EVENTS)}
    return pa.table({"search_id": table["search_id"].take(rows), **columns})


def digest(rows: pa.Table) -> str:
    """SHA-256 over items sorted by search and position: the same for the same labels, however they were stored."""
    rows = rows.sort_by([("search_id", "ascending"), ("position", "ascending")])
    found = hashlib.sha256("\n".join(rows["search_id"].to_pylist()).encode())
    for name in ("position", *EVENTS):
        found.update(rows[name].to_numpy().astype("<i8").tobytes())
    return found.hexdigest()


def counts(rows: pa.Table) -> dict[str, int]:
    """Labels per event."""
    return {event: pc.sum(rows[event]).as_py() for event in EVENTS}


def counts_of_lists(folder: Path) -> dict[str, int]:
    """Labels per event of published lists, as their manifest has them."""
    splits = load_manifest(folder).splits.values()
    return {event: sum(split.labels[event] for split in splits) for event in EVENTS}


def main(argv: Sequence[str]) -> None:
    """Writes {design: {counts, digest?}}."""
    del argv
    found: dict[str, dict[str, Any]] = {}
    if FLAGS.lists:
        found["lists"] = {"counts": counts_of_lists(Path(FLAGS.lists))}
        if FLAGS.rows:
            found["lists"]["digest"] = digest(of_lists(Path(FLAGS.lists)))
    tables = {Path(path).stem: of_parquet(Path(path)) for path in FLAGS.parquet}
    if FLAGS.examples:
        tables["plain"] = of_examples(Path(FLAGS.examples))
    for name, rows in tables.items():
        found[name] = {"counts": counts(rows)} | ({"digest": digest(rows)} if FLAGS.rows else {})
    Path(FLAGS.output).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()

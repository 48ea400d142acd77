"""Lists for other programs: JSON lines, CSV with a row per item, and Parquet with the typed columns of `cvr.tables`."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cvr.schema import Feature, FeatureSpec
from cvr.stored import Part
from cvr.tables import to_arrow
from tools.inspection.readable import Event, Item, Shown


def json_lines(lists: Iterable[Shown]) -> Iterator[str]:
    """One JSON object per list and line."""
    return (json.dumps(dataclasses.asdict(shown), ensure_ascii=False) for shown in lists)


def csv_lines(lists: Iterable[Shown], spec: FeatureSpec, features: Sequence[Feature]) -> Iterator[str]:
    """A header and a line per item; columns are named as in `cvr.tables`, delays are in seconds."""
    names = ["_search_id", "_time", "_split", "_day", "_item", "_position"]
    names += [f"{part}_{task}" for task in spec.task_names for part in ("_label", "_delay")]
    names += ["_popularity", *(f.name for f in features)]
    yield _line(names)
    for shown in lists:
        for item in shown.items:
            row = _row(shown, item)
            yield _line([_plain(row.get(name, "")) for name in names])


def _row(shown: Shown, item: Item) -> dict[str, Any]:
    fixed = {"_search_id": shown.search_id, "_time": shown.time, "_split": shown.split, "_day": shown.day}
    labels = {f"_label_{task}": label for task, label in item.labels.items()}
    delays = {f"_delay_{task}": delay / 1000 for task, delay in item.delays.items()}
    own = {"_item": item.item, "_position": item.position, "_popularity": item.popularity}
    return {**fixed, **own, **labels, **delays, **shown.context, **item.features}


def _plain(value: Any) -> Any:
    """A history as `action item age_s | ...`, a bag as `id | ...`."""
    if not isinstance(value, list):
        return value
    return " | ".join(f"{v.action} {v.item} {v.age:g}" if isinstance(v, Event) else v for v in value)


def _line(cells: Sequence[Any]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(cells)
    return buffer.getvalue()


def parquet_bytes(spec: FeatureSpec, features: Sequence[Feature], parts: Iterable[Part]) -> bytes:
    """A Parquet file of the items with the chosen features, their states and values."""
    table = pa.concat_tables([to_arrow(spec, part.columns) for part in parts])
    left_out = {f.name for f in spec.select(stored=True)} - {f.name for f in features}
    hidden = {f"{prefix}{name}" for name in left_out for prefix in ("", "_state_", "_value_")}
    sink = pa.BufferOutputStream()
    pq.write_table(table.select([name for name in table.column_names if name not in hidden]), sink)
    return sink.getvalue().to_pybytes()

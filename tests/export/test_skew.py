"""No train/serve skew: raw log values through the pipelines and a record, and through a request, get the same scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from cvr import records
from cvr.data import read_records, split_files
from export.checks import Subject
from export.request import Search, to_arrays
from pipelines.job import build
from pipelines.settings import Settings
from tests.export.tiny import SPEC

START = 1_767_225_600_000  # 2026-01-01 UTC
DAY = 86_400_000
TITLES = ["Laufschuh rot", "ab", "", None, "ÄÖÜ straße", "  two  words ", "x" * 90]
TAGS = ["a|b", " a | b ", "", None, "|", "c\u00a0|d", "e"]
PRICES = [1.0, 19.99, None, 0.0, -3.5, 1e9, 7.25]
ITEMS = [f"i{row}" for row in range(7)]


def _impressions() -> pd.DataFrame:
    source = np.random.default_rng(5)
    rows = []
    for search in range(12):
        shown = source.permutation(len(ITEMS))[: 2 + search % 5]
        for position, item in enumerate(shown, 1):
            rows.append(
                {
                    "search_id": f"s{search}",
                    "time": START + search * 3_600_000,
                    "customer_id": [None, "ann", "bob"][search % 3],
                    "item_id": ITEMS[item],
                    "position": position,
                    "query": ["roter schuh", "", None, "Ünïcode"][search % 4],
                    "device": ["phone", "desktop", None][search % 3],
                    "hour": [9.5, None][search % 2],
                }
            )
    return pd.DataFrame(rows)


def _engagements() -> pd.DataFrame:
    source = np.random.default_rng(6)
    times = START + source.permutation(12 * 3_600)[:60] * 1_000 + 137
    rows = [
        {
            "time": int(time),
            "customer_id": str(source.choice(["ann", "bob"])),
            "item_id": str(source.choice(ITEMS)),
            "event": str(source.choice(["click", "purchase", "view"])),
        }
        for time in times
    ]
    return pd.DataFrame([*rows, {"time": START + 5 * DAY, "customer_id": "zoe", "item_id": "i0", "event": "click"}])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, pd.DataFrame, list[bytes]]:
    folder = tmp_path_factory.mktemp("skew")
    tables = {
        "impressions": _impressions(),
        "engagements": _engagements(),
        "items": pd.DataFrame({"item_id": ITEMS, "title": TITLES, "tags": TAGS, "price": PRICES}),
    }
    for name, table in tables.items():
        (folder / "logs" / name).mkdir(parents=True)
        table.to_parquet(folder / "logs" / name / "part.parquet")
    settings = Settings(
        source="canonical", input=str(folder / "logs"), output=str(folder / "lists"), spec_text=SPEC, spec_name="tiny.yaml",
        drop_unconverted="none", partitions=2,
    )  # fmt: skip
    manifest = build(settings)
    files = split_files(folder / "lists", manifest, ["train"])
    return tables["impressions"], tables["engagements"], [record.numpy() for record in read_records(files)]


def _known(values: pd.Series) -> list[Any]:
    """Column values as a caller would have them: None where null."""
    return [None if pd.isna(value) else value for value in values]


def _search(shown: pd.DataFrame, engagements: pd.DataFrame, rates: np.ndarray) -> Search:
    first = shown.iloc[0]
    before = engagements[(engagements.customer_id == first.customer_id) & (engagements.time < first.time)]
    past = before.sort_values("time", ascending=False)
    history = [
        {"item_id": event.item_id, "action": event.event, "age": (first.time - event.time) / 1000.0} for event in past.itertuples()
    ]
    items = []
    for item, position, rate in zip(shown.item_id, shown.position, rates, strict=True):
        at = ITEMS.index(item)
        values = {"price": PRICES[at], "title": TITLES[at], "tags": TAGS[at], "rate": float(rate)}
        items.append({"item_id": item, "item_offset": int(position), **values})
    context = {name: _known(shown[name])[0] for name in ("query", "device", "hour")}
    return Search(context, items, {"recent": history})


def test_log_to_record_and_log_to_request_score_alike(built: Any, subject: Subject) -> None:
    impressions, engagements, serialized = built
    infos, layout = subject.servable.inputs("serving_default"), records.Layout.of(subject.spec)
    assert len(serialized) == 12
    for record in serialized:
        parsed = records.parse(subject.spec, tf.constant([record]))
        shown = impressions[impressions.search_id == parsed["search_id"].numpy()[0].decode()].sort_values("position")
        rates = parsed["item_num"].numpy()[:, layout.item_num.index("rate")]
        order = np.random.default_rng(len(shown)).permutation(len(shown))
        search = _search(shown, engagements, rates)
        request = to_arrays(search._replace(items=[search.items[row] for row in order]), infos)
        served = subject.logits(subject.servable.run("serving_default", request))[np.argsort(order)]
        np.testing.assert_allclose(served, subject.of_records([record]), atol=1e-5)


def test_the_log_holds_the_hard_cases(built: Any, subject: Subject) -> None:
    """Longer histories than are kept, empty ones, and events that the history does not count."""
    _, engagements, serialized = built
    parsed = records.parse(subject.spec, tf.constant(serialized))
    lengths = parsed["seq/recent/lengths"].numpy()
    assert lengths.max() == 4 and lengths.min() == 0 and (engagements.event == "view").any()
    assert np.isnan(parsed["item_num"].numpy()).any() and np.isnan(parsed["context_num"].numpy()).any()

"""Coverage: how many values are there, missing, unseen or out of vocabulary, by hand and recounted from published records."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np

from cvr.manifest import load_manifest
from cvr.records import decode
from pipelines.coverage import STATES, of_columns, states_of
from pipelines.record_files import read_records
from pipelines.settings import plan_of
from tests.pipelines.logs import DAY, T0, done, shown
from tests.pipelines.steps import Built, Log, run, steps_settings

EMBEDDING = "embedding: {buckets: 8, dim: 2}"
SPEC = f"""
dataset: tiny
tasks: {{purchase: {{events: [purchase], window: 1h, primary: true}}}}
features:
  price: {{kind: numerical, level: item, from: impression.price}}
  hour: {{kind: numerical, level: context, from: impression.hour, introduced_on: 2026-01-02}}
  gone: {{kind: numerical, level: item, from: impression.gone}}
  own: {{kind: numerical, level: item, aggregate: {{by: [customer], event: purchase, bucket: 1ms}}}}
  device: {{kind: categorical, level: context, from: impression.device, vocabulary: [phone, tablet], {EMBEDDING}}}
  brand: {{kind: categorical, level: item, from: item.brand, {EMBEDDING}}}
  tags: {{kind: categorical, level: item, from: impression.tags, separator: "|", {EMBEDDING}}}
  query: {{kind: text, level: context, from: impression.query, {EMBEDDING}}}
  title: {{kind: text, level: item, from: item.title, introduced_on: 2026-01-02, {EMBEDDING}}}
  recent: {{kind: sequence, level: context, history: {{events: [purchase], length: 2}}, {EMBEDDING}}}
  late: {{kind: sequence, level: context, history: {{events: [purchase], length: 2}}, introduced_on: 2026-01-02, {EMBEDDING}}}
"""


def _log() -> Log:
    """Two lists on 2026-01-01 (3 items, then 1) and two on 2026-01-02 (2 items each)."""
    first = shown("s1", 0, ["a", "b", "z"], "u", hour=1.0, device="phone", query="red")
    for row, price, tags in zip(first, [2.5, None, 0.0], ["x|y", None, " | "], strict=True):
        row |= {"price": price, "tags": tags}
    second = shown("s2", DAY - 1, ["a"], None, hour=2.0, price=1.0, device="watch", query=None, tags="x")
    third = shown("s3", DAY, ["b", "a"], "u", hour=None, price=1.0, device=None, query="", tags="x")
    fourth = shown("s4", DAY + 1, ["a", "z"], "v", hour=0.0, price=None, device="tablet", query="blue", tags="")
    items = [{"item_id": "a", "brand": "k", "title": "shoe"}, {"item_id": "b", "brand": None, "title": ""}]
    return Log.of([*first, *second, *third, *fourth], [done("purchase", 5, "a", "u")], items)


def _built(**changes: Any) -> Built:
    return run(_log(), steps_settings(SPEC, log_end=T0 + 9 * DAY, **changes))


def test_every_kind_of_feature_by_hand() -> None:
    found = _built().counts["splits"]["train"]["coverage"]
    assert found == {
        "2026-01-01": {
            "price": {"present": 3, "missing": 1},  # 0 is there
            "hour": {"unseen": 2},  # before its day
            "gone": {"unseen": 4},  # no file has it
            "own": {"present": 3, "missing": 1},  # s2 has no customer; no purchase is 0, which is there
            "device": {"present": 1, "unknown": 1},
            "brand": {"present": 2, "missing": 2},  # a and a; b has none, z is not in the catalogue
            "tags": {"present": 2, "missing": 2},
            "query": {"present": 1, "missing": 1},
            "title": {"unseen": 4},
            "recent": {"missing": 2},
            "late": {"unseen": 2},
        },
        "2026-01-02": {
            "price": {"present": 2, "missing": 2},
            "hour": {"present": 1, "missing": 1},
            "gone": {"unseen": 4},
            "own": {"present": 4},
            "device": {"present": 1, "missing": 1},
            "brand": {"present": 2, "missing": 2},
            "tags": {"present": 2, "missing": 2},
            "query": {"present": 1, "missing": 1},
            "title": {"present": 2, "missing": 2},
            "recent": {"present": 1, "missing": 1},
            "late": {"present": 1, "missing": 1},
        },
    }


def test_each_split_has_its_own_and_only_of_lists_that_are_kept() -> None:
    found = _built(test_from=T0 + DAY, drop_unconverted="train").counts["splits"]
    assert {name: sorted(split["coverage"]) for name, split in found.items()} == {"train": ["2026-01-01"], "test": ["2026-01-02"]}
    assert found["train"]["coverage"]["2026-01-01"]["price"] == {"present": 2, "missing": 1}, "s1 alone has a purchase"


def test_a_chosen_part_of_the_lists() -> None:
    built = _built()
    columns, spec = built.columns(), plan_of(built.settings).spec
    assert of_columns(spec, columns, np.zeros(4, bool)) == {}
    found = of_columns(spec, columns, np.array([False, True, False, True]))
    assert {day: one["device"] for day, one in found.items()} == {"2026-01-01": {"unknown": 1}, "2026-01-02": {"present": 1}}
    assert {day: one["brand"] for day, one in found.items()} == {"2026-01-01": {"present": 1}, "2026-01-02": {"present": 1, "missing": 1}}


def test_the_manifest_s_coverage_is_that_of_the_published_records(both_formats: Path) -> None:
    folder = both_formats / "lists"
    manifest = load_manifest(folder)
    spec = manifest.spec()
    days_of = {"train": ["2026-01-01", "2026-01-02"], "test": ["2026-01-03"]}
    for name, split in manifest.splits.items():
        recounted: dict[str, dict[str, dict[str, int]]] = {}
        for file in split.files:
            columns = decode(spec, read_records(str(folder / file.path)))
            days = {datetime.datetime.fromtimestamp(time / 1000, datetime.timezone.utc).date().isoformat() for time in columns.time}
            assert days == {file.day}
            for feature, states in states_of(columns, spec).items():
                counts = recounted.setdefault(file.day, {}).setdefault(feature, dict.fromkeys(STATES, 0))
                for state in states.tolist():
                    counts[STATES[state]] += 1
        found = {day: {feature: one.model_dump() for feature, one in of_day.items()} for day, of_day in split.coverage.items()}
        assert found == recounted and sorted(found) == days_of[name]
    coverage = manifest.splits["train"].coverage
    assert set(coverage["2026-01-01"]) == {feature.name for feature in spec.select(stored=True)}
    screen = coverage["2026-01-01"]["screen"]
    assert (screen.unknown, screen.missing) == (6, 6), "six phones, which are not in the vocabulary, and six nulls"
    assert (coverage["2026-01-01"]["late"].unseen, coverage["2026-01-02"]["late"].unseen) == (40, 0)

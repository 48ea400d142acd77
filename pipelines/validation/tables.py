"""Tables of the page: numbers as texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.validation.page import Table

Row = Mapping[str, Any]


def number(value: float | int | None) -> str:
    """`1,234`, `0.01234`, `1.2e+09`; a dash for None."""
    if value is None:
        return "–"
    if float(value).is_integer() and abs(value) < 1e9:
        return f"{int(value):,}"
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e9 else f"{value:.4g}"


def share(value: float | None, of: float = 1.0) -> str:
    """`12.3 %` of a whole; a dash where there is none."""
    if value is None or not of:
        return "–"
    percent = 100 * value / of
    return "0" if not percent else f"{percent:.2g} %" if percent < 0.1 else f"{percent:.1f} %"


def split_table(splits: Mapping[str, Row]) -> Table:
    """Lists, items, days and list facts by split."""
    tasks = list(next(iter(splits.values()))["labels"])
    head = [
        "split",
        "lists",
        "items",
        "days",
        "items per list",
        "one item",
        "no label",
        *(f"{task} on all items" for task in tasks),
    ]
    rows = [
        [
            name,
            number(row["lists"]),
            number(row["items"]),
            number(len(row["coverage"])),
            f"{row['smallest']} · {row['median']} · {row['largest']}",
            share(row["single"], row["lists"]),
            share(row["unlabelled"], row["lists"]),
            *(number(row["all_positive"][task]) for task in tasks),
        ]
        for name, row in splits.items()
    ]
    return Table(head, rows)


def counts_table(counts: Mapping[str, Any], above: str = "") -> Table:
    """Nested counts, one row per number, named by the path to it."""
    rows: list[Sequence[str]] = []
    for key, value in counts.items():
        name = f"{above}{key.replace('_', ' ')}"
        rows += counts_table(value, f"{name}: ").rows if isinstance(value, Mapping) else [[name, number(value)]]
    return Table(["", "count"], rows)


def funnel_table(splits: Mapping[str, Row]) -> Table:
    """The funnel of each split, task by task."""
    head = [
        "split: task",
        "labels",
        "of items",
        "lists with one",
        "of lists",
        "of the step before",
        "without the step before",
    ]
    rows = [
        [
            f"{name}: {step['task']}",
            number(step["labels"]),
            share(step["rate"]),
            number(step["lists"]),
            share(step["list_rate"]),
            share(step["of_previous"]),
            number(step["without_previous"]),
        ]
        for name, row in splits.items()
        for step in row["funnel"]["all"]
    ]
    return Table(head, rows)


def order_table(splits: Mapping[str, Row]) -> Table:
    """mAP of display order and popularity by split and task."""
    tasks = list(next(iter(splits.values()))["labels"])
    rows = []
    for name, row in splits.items():
        for task in tasks:
            found = [row["orders"].get(order, {}).get(task) for order in ("display_order", "popularity")]
            scores = [f"{v['map']:.4f} ({v['low']:.4f} to {v['high']:.4f})" if v else "–" for v in found]
            rows.append([f"{name}: {task}", number(found[0]["lists"] if found[0] else 0), *scores])
    return Table(
        ["split: task", "lists with a label", "mAP of the display order (95 %)", "mAP of popularity so far (95 %)"],
        rows,
    )


def number_table(features: Mapping[str, Row], title: str, opened: bool) -> Table:
    """Statistics of numbers, and of the lengths of bags and histories."""
    names = ("mean", "std", "min", "p05", "p50", "p95", "max")
    rows = []
    for name, feature in features.items():
        for kind, shown in (("numbers", name), ("sizes", f"{name} (length)")):
            if kind in feature:
                row = feature[kind]
                total = row["count"] + row["missing"] + row["unseen"]
                parts = [share(row[state], total) for state in ("missing", "unseen", "zeros")]
                rows.append([shown, number(row["count"]), *parts, *(number(row[key]) for key in names)])
    return Table(
        ["feature", "values", "missing", "unseen", "zero", "mean", "std", "min", "5 %", "median", "95 %", "max"],
        rows,
        title,
        opened,
    )


def _top(row: Row, key: str, ids: int) -> str:
    """A share of the most frequent ids: as counted, or its upper bound where the summary's error is more than a tenth of it."""
    error = ids * row["top_error"]
    return share(row[key]) if error <= 0.1 * row[key] else f"≤ {share(min(1.0, row[key] + error))}"


def id_table(features: Mapping[str, Row], title: str, opened: bool) -> Table:
    """Statistics of ids."""
    rows = []
    for name, feature in features.items():
        if "ids" in feature:
            row = feature["ids"]
            total = row["count"] + row["empty"] + row["unseen"] + row["unknown"]
            parts = [share(row[state], total) for state in ("empty", "unseen", "unknown")]
            rows.append(
                [
                    name,
                    number(row["count"]),
                    *parts,
                    number(row["distinct"]),
                    _top(row, "top", 1),
                    _top(row, "top_10", 10),
                ]
            )
    return Table(
        ["feature", "ids", "empty", "unseen", "unknown", "distinct", "most frequent", "ten most frequent"],
        rows,
        title,
        opened,
    )


def drift_table(rows: Sequence[Row], shown: int = 25) -> Table:
    """The comparisons with the largest divergence."""
    ordered = sorted(rows, key=lambda row: row["expected"] - row["js"])[:shown]
    texts = [
        [
            row["feature"],
            f"{row['first']} to {row['second']}",
            f"{row['js']:.4f}",
            f"{row['expected']:.4f}",
            f"{row['p']:.1g}",
            f"{row['psi']:.3f}",
        ]
        for row in ordered
    ]
    return Table(
        ["feature", "from, to", "JS (bits)", "by chance", "p", "PSI"], texts, f"the {len(texts)} largest divergences"
    )


def leak_table(splits: Mapping[str, Row]) -> Table:
    """Single features by split and task."""
    rows = [
        [
            f"{name}: {task}",
            score["feature"],
            score["variant"],
            f"{score['auc']:.4f}",
            f"{score['low']:.4f} to {score['high']:.4f}",
            f"{score['map']:.4f}",
        ]
        for name, row in splits.items()
        for task, scores in row["leaks"].items()
        for score in scores
    ]
    return Table(
        ["split: task", "feature", "first", "AUC", "95 % interval", "mAP"], rows, "all features, splits and tasks"
    )

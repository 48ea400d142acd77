"""The report of `tools.benchmarks.input`: read back, judged, and as tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cvr.errors import CvrError
from tools.benchmarks.goals import Goal
from tools.benchmarks.input_content import DRAWS
from tools.benchmarks.input_packing import Waste
from tools.benchmarks.input_readers import Reading
from tools.benchmarks.summary import Spread
from tools.benchmarks.tables import goal_rows, table

BATCH_ITEMS = (1024, 2048, 4096)
"""Sizes of batches whose padding is reported."""
READERS = {"lists": "cvr.data.batches", "elwc": "TF-Ranking ELWC"}
WAYS = {"stored": "ids in records", "points": "code points in the graph", "strings": "strings in the graph"}
_MOST_PADDED = 3.0
_LEAST_RATIO = 8.0


def readings_of(found: Mapping[str, Any]) -> list[Reading]:
    """The timed cells of a report."""
    return [Reading(**{**entry, "rate": Spread(**entry["rate"]), "cpu_ns": Spread(**entry["cpu_ns"])}) for entry in found["results"]]


def wastes_of(found: Mapping[str, Any]) -> list[Waste]:
    """The padding of a report."""
    return [Waste(**entry) for entry in found["packing"]]


def ratio(readings: Sequence[Reading], draw: str, zipped: bool) -> float | None:
    """Median items a second of ours by theirs; None where one is missing."""
    medians = {reading.reader: reading.rate.median for reading in readings if (reading.draw, reading.zipped) == (draw, zipped)}
    return medians["lists"] / medians["elwc"] if medians.keys() >= {"lists", "elwc"} else None


def goals_of(found: Mapping[str, Any]) -> list[Goal]:
    """8 times theirs on one core, plain, lists of 32; less than 3 % padding. Ratios on more cores are no goal."""
    alone = found["settings"]["cpus"] == 1
    reached = ratio(readings_of(found), "32", False) if alone else None
    goals = [Goal("items/s of TF-Ranking's, lists of 32, plain, one core", ">=", _LEAST_RATIO, "x", reached)]
    for waste in wastes_of(found):
        name = f"padded items, lists of {DRAWS[waste.draw]}, batches of {waste.batch_items}"
        goals.append(Goal(name, "<=", _MOST_PADDED, "%", 100 * waste.padded))
    return goals


def _spread(spread: Spread, scale: float, unit: str = "") -> str:
    return f"{spread.median / scale:,.0f} ({spread.least / scale:,.0f}-{spread.most / scale:,.0f}){unit}"


def reading_rows(readings: Sequence[Reading]) -> list[Sequence[str]]:
    """One row per cell; the ratio stands beside ours."""
    rows: list[Sequence[str]] = []
    for reading in readings:
        share = ratio(readings, reading.draw, reading.zipped) if reading.reader == "lists" else None
        rows.append(
            (
                READERS[reading.reader],
                DRAWS[reading.draw],
                "gzip" if reading.zipped else "plain",
                _spread(reading.rate, 1e3, "k"),
                "" if share is None else f"{share:.2f}",
                _spread(reading.cpu_ns, 1),
                f"{reading.bytes_per_item:,.0f}",
            )
        )
    return rows


def packing_rows(wastes: Sequence[Waste]) -> list[Sequence[str]]:
    """One row per draw and size."""
    return [(DRAWS[w.draw], f"{w.batch_items:,}", f"{w.batches:,}", f"{w.lists:.1f}", f"{100 * w.padded:.2f} %") for w in wastes]


def ngram_rows(found: Mapping[str, Any]) -> list[Sequence[str]]:
    """One row per way; the last column is relative to the ids in records."""
    rates = {way: Spread(**spread) for way, spread in found["ngrams"].items()}
    stored = rates["stored"].median
    return [(WAYS[way], _spread(rate, 1e3, "k"), f"{stored / rate.median:.1f}") for way, rate in rates.items()]


def described(found: Mapping[str, Any]) -> str:
    """Where and how a report was measured."""
    on, made = found["machine"], found["settings"]
    compared = ", ".join(f"{count:,} of {DRAWS[draw]}" for draw, count in found["compared_items"].items())
    return "\n".join(
        (
            f"{found['created']}, {on['processor']}, pinned to {made['cpus']} of {on['cpus']} CPUs, {on['memory_gib']} GiB; "
            f"load average before {found['load']:.1f}.",
            ", ".join(f"{name} {version}" for name, version in found["versions"].items()) + ".",
            f"{made['lists']:,} lists a file, batches of {made['batch_items']:,} items; medians of {made['repeats']} turns "
            f"(least-greatest) of {made['passes']} passes; seed {made['seed']}. Compared items: {compared}.",
        )
    )


def shown(found: Mapping[str, Any], markdown: bool) -> str:
    """A report as text."""
    readers = ("reader", "list lengths", "files", "items/s", "of TF-Ranking's", "CPU ns/item", "B/item")
    packing = ("list lengths", "batch items", "batches", "lists a batch", "padded items")
    ngrams = (f"n-grams, {found['ngrams_per_text']:.1f} a text", "texts/s", "times the cost of stored ids")
    tables = (
        table(readers, reading_rows(readings_of(found)), markdown),
        table(packing, packing_rows(wastes_of(found)), markdown),
        table(ngrams, ngram_rows(found), markdown),
        table(("goal", "wanted", "reached", ""), goal_rows(goals_of(found)), markdown),
    )
    return "\n\n".join((described(found), *tables))


def read(path: Path) -> dict[str, Any]:
    """Reads a report. Raises CvrError where the file is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CvrError(f"--read={path}: {error}; expected what --json=FILE wrote") from error
    if not isinstance(found, dict) or (found.get("benchmark"), found.get("format")) != ("input", 1):
        raise CvrError(f"--read={path}: this is no report of tools.benchmarks.input in format 1")
    return found

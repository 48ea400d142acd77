"""Writes a seeded benchmark log in the canonical layout (docs/log_format.md), fast: ten million events in a few seconds.

    python -m tools.benchmarks.events --output=DIR --events=1000000 [--hot=0.3]

Five of six events are impressions, in lists of 25; one of six is a click, cart or purchase, without a search id, so that each is
credited to the last impression of its item to its customer. Items, queries and customers are drawn from Zipf's law; `--hot` gives one
customer, `c0`, that share of all searches; `--late` and `--duplicates` are shares of the engagements. The same flags give the same rows.

    impressions/<date>.parquet   search_id, time, customer_id, item_id, position, query, device, price, match_score, in_stock
    engagements/<date>.parquet   time, customer_id, item_id, event, event_id
    items/items.parquet          item_id, title, category, brand
    log.json                     the flags and the numbers of rows
"""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from absl import flags

from cvr.errors import run_main
from tools.benchmarks import draws
from tools.benchmarks.draws import DAY_MS, EVENTS, LIST_SIZE, START_MS, Engagements, LogSettings, Searches
from tools.synthetic.write import finished_folder, write_json

FLAGS = flags.FLAGS
_DEFAULTS = LogSettings(events=1_000_000)
_DEVICES = ("phone", "desktop", "tablet")
_ADJECTIVES = ("red", "blue", "warm", "soft", "wide", "fine", "old", "new", "light", "dark", "plain", "round")
_NOUNS = ("shoe", "lamp", "shirt", "chair", "watch", "bag", "ring", "table", "coat", "sofa", "bike", "phone", "tent")


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("output", None, "Folder to write; it must not exist yet, or be empty.", required=True)
    helps = {
        "events": "Impressions and engagements together.",
        "days": "Number of days; each has a file of impressions and one of engagements.",
        "customers": "Number of customers; 0: one per 150 events.",
        "items": "Number of items.",
        "queries": "Number of query texts.",
        "seed": "Seed of everything random.",
    }
    for name, text in helps.items():
        flags.DEFINE_integer(name, getattr(_DEFAULTS, name), text)
    flags.DEFINE_float("hot", 0.0, "Share of all searches that one customer makes.")
    flags.DEFINE_float("late", 0.0, "Share of the engagements that stand in the next day's file.")
    flags.DEFINE_float("duplicates", 0.0, "Share of the engagements that stand twice, with the same event_id.")


def _texts(codes: np.ndarray, texts: Sequence[str]) -> pa.Array:
    """Strings by their index; Parquet stores them as a dictionary, without a pass over the rows."""
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(texts, pa.string()))


def _phrase(number: int) -> str:
    """A text of its own per number, two words and a count: about 13 letters, so some 24 character 2- and 3-grams."""
    rest, adjective = divmod(number, len(_ADJECTIVES))
    count, noun = divmod(rest, len(_NOUNS))
    return f"{_ADJECTIVES[adjective]} {_NOUNS[noun]} {count}"


def _write(columns: dict[str, pa.Array], folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / f"{name}.parquet", compression="lz4", store_schema=False)


class _Names:
    """The strings behind the numbers, made once."""

    def __init__(self, settings: LogSettings) -> None:
        self.customers = [f"c{number}" for number in range(settings.customer_count + 1)]
        self.items = [f"i{number}" for number in range(settings.items)]
        self.queries = [_phrase(number * 7) for number in range(settings.queries)]


def _impressions(settings: LogSettings, day: int, first: int, searches: Searches, names: _Names) -> dict[str, pa.Array]:
    """The columns of a day's impressions; `first` is the number of its first search."""
    rng = np.random.default_rng([settings.seed, day, 1])
    count = len(searches.time)
    rows = np.repeat(np.arange(count), LIST_SIZE)
    items = searches.items.ravel()
    price = 5 + 95 * (items * 2_654_435_761 % 1_000) / 1_000 * (0.95 + 0.1 * rng.random(len(rows)))
    return {
        "search_id": _texts(rows, [f"s{first + number}" for number in range(count)]),
        "time": pa.array(searches.time[rows]),
        "customer_id": _texts(searches.customer[rows], names.customers),
        "item_id": _texts(items, names.items),
        "position": pa.array(np.tile(np.arange(1, LIST_SIZE + 1, dtype=np.int32), count)),
        "query": _texts(searches.query[rows], names.queries),
        "device": _texts(searches.device[rows], _DEVICES),
        "price": pa.array(price.astype(np.float32)),
        "match_score": pa.array(rng.standard_normal(len(rows), np.float32)),
        "in_stock": pa.array((rng.random(len(rows)) < 0.9).astype(np.int32)),
    }


def _engagements(found: Engagements, day: int, names: _Names) -> dict[str, pa.Array]:
    rows = np.flatnonzero(found.day == day)
    return {
        "time": pa.array(found.time[rows]),
        "customer_id": _texts(found.customer[rows], names.customers),
        "item_id": _texts(found.item[rows], names.items),
        "event": _texts(found.event[rows], EVENTS),
        "event_id": pa.array([f"e{number}" for number in found.number[rows]], pa.string()),
    }


def _items(names: _Names) -> dict[str, pa.Array]:
    numbers = range(len(names.items))
    return {
        "item_id": pa.array(names.items),
        "title": pa.array([_phrase(number) for number in numbers]),
        "category": pa.array([f"g{number % 40}" for number in numbers]),
        "brand": pa.array([f"b{number * 31 % 500}" for number in numbers]),
    }


def _joined(days: Sequence[Searches]) -> Searches:
    return Searches(*(np.concatenate([getattr(d, f.name) for d in days]) for f in dataclasses.fields(Searches)))


def date_of(day: int) -> str:
    """The date of a day of the log, 0 being the first."""
    moment = datetime.datetime.fromtimestamp((START_MS + day * DAY_MS) / 1000, datetime.timezone.utc)
    return moment.date().isoformat()


def write_log(settings: LogSettings, output: Path) -> dict[str, int]:
    """Writes a log and gives its numbers of rows. Raises CvrError where `output` already holds something."""
    names, item_pools = _Names(settings), draws.pools(settings)
    with finished_folder(output) as folder:
        days: list[Searches] = []
        first = 0
        for day in range(settings.days):
            days.append(draws.searches_of_day(settings, day, item_pools))
            _write(_impressions(settings, day, first, days[-1], names), folder / "impressions", date_of(day))
            first += len(days[-1].time)
        found = draws.engagements_of(settings, _joined(days))
        for day in range(settings.days):
            _write(_engagements(found, day, names), folder / "engagements", date_of(day))
        _write(_items(names), folder / "items", "items")
        counts = {"impressions": first * LIST_SIZE, "engagements": len(found.time), "items": len(names.items), "searches": first}
        write_json({"settings": dataclasses.asdict(settings), "counts": counts}, folder / "log.json")
    return counts


def main(argv: Sequence[str]) -> None:
    """Writes the log and prints what it holds."""
    del argv
    started = time.monotonic()
    settings = LogSettings(**{field.name: getattr(FLAGS, field.name) for field in dataclasses.fields(LogSettings)})
    counts = write_log(settings, Path(FLAGS.output))
    listed = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    print(f"{FLAGS.output}: {settings.days} days, {listed} in {time.monotonic() - started:.1f} s")


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()

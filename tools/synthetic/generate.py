"""One synthetic log from first day to last."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from tools.synthetic.behaviour import behave
from tools.synthetic.candidates import candidate_table, candidate_truth, draw_candidates
from tools.synthetic.catalogue import item_day
from tools.synthetic.events import draw_events
from tools.synthetic.searches import draw_lists
from tools.synthetic.settings import Settings, feed_weights
from tools.synthetic.tables import impression_table, item_table, list_ids, score_table
from tools.synthetic.truth import Shares, constants, truth_table
from tools.synthetic.world import World, build_world
from tools.synthetic.write import write_json, write_table

ENGAGEMENT_COLUMNS = ["time", "customer_id", "item_id", "event", "search_id", "domain", "event_id"]
TRUE_EVENT_COLUMNS = ["event_id", "true_search_id", "item_id", "event", "delay"]


@dataclasses.dataclass(frozen=True)
class Day:
    """The tables that one day's lists produce; events reach into later days. `candidates` and their truth where they are asked for."""

    impressions: pd.DataFrame
    scores: pd.DataFrame
    truth: pd.DataFrame
    events: pd.DataFrame
    candidates: tuple[pd.DataFrame, pd.DataFrame] | None = None


def generate(
    settings: Settings, folder: Path, file_format: str, progress: Callable[[int], None] = lambda day: None
) -> dict[str, int]:
    """Writes impressions/, engagements/, items/, candidates/ if asked for, feature_tables/ and truth/ into `folder`; returns row counts."""
    world, shares = build_world(settings), Shares()
    write_table(item_table(world), folder / "items", "items", file_format)
    pending = pd.DataFrame()
    counts = {"searches": 0, "feed_pages": 0, "impressions": 0, "engagements": 0, "purchases": 0}
    counts |= {"candidates": 0} if settings.candidates_per_search else {}
    for day in range(settings.days):
        made, date = _day(settings, world, shares, day), settings.date(day).isoformat()
        write_table(made.impressions, folder / "impressions", date, file_format)
        write_table(made.scores, folder / "feature_tables" / "semantic_score", date, "parquet")
        write_table(made.truth, folder / "truth" / "impressions", date, "parquet")
        write_table(
            made.events[TRUE_EVENT_COLUMNS].drop_duplicates("event_id"), folder / "truth" / "events", date, "parquet"
        )
        if made.candidates is not None:
            write_table(made.candidates[0], folder / "candidates", date, file_format)
            write_table(made.candidates[1], folder / "truth" / "candidates", date, "parquet")
            counts["candidates"] += len(made.candidates[0])
        pending = pd.concat([pending, made.events], ignore_index=True)
        due = pending["file_day"] <= day
        today = pending[due].sort_values(["time", "event_id"], kind="stable", ignore_index=True)
        pending = pending[~due]
        write_table(today[ENGAGEMENT_COLUMNS], folder / "engagements", date, file_format)
        counts["searches"] += settings.searches_per_day
        counts["feed_pages"] += settings.feed_lists_per_day
        counts["impressions"] += len(made.impressions)
        counts["engagements"] += len(today)
        counts["purchases"] += int((today["event"] == "purchase").sum())
        progress(day)
    write_json(_config(settings, counts), folder / "truth" / "config.json")
    write_json(shares.summary(), folder / "truth" / "shares.json")
    return counts


def _day(settings: Settings, world: World, shares: Shares, day: int) -> Day:
    today = item_day(settings, world.catalogue, day)
    impressions, truths, events = [], [], []
    candidates: tuple[pd.DataFrame, pd.DataFrame] | None = None
    for feed, count in ((False, settings.searches_per_day), (True, settings.feed_lists_per_day)):
        if not count:
            continue
        lists = draw_lists(settings, world, today, day, count, feed)
        behaviour = behave(settings, world, today, lists, day, feed)
        ids = list_ids(settings, world, lists, day, feed)
        launched = day >= settings.feature_launch_day
        impressions.append(impression_table(world, today, lists, ids, "feed" if feed else "search", launched))
        truths.append(truth_table(lists, behaviour, ids))
        events.append(draw_events(settings, lists, behaviour, ids, day, feed))
        if not feed:
            shares.add(lists, behaviour)
            scores = score_table(settings, world, lists, day)
            if settings.candidates_per_search:
                hidden = draw_candidates(settings, world, today, lists, day)
                candidates = candidate_table(world, today, hidden, ids, launched), candidate_truth(world, today, hidden, ids)
    shown = pd.concat(impressions, ignore_index=True)
    order = np.lexsort((shown["position"], shown["search_id"], shown["time"]))
    truth, caused = (pd.concat(parts, ignore_index=True) for parts in (truths, events))
    return Day(shown.iloc[order], scores, truth, caused, candidates)


def _config(settings: Settings, counts: dict[str, int]) -> dict[str, object]:
    launch = settings.date(settings.feature_launch_day).isoformat()
    weights = dataclasses.asdict(feed_weights(settings.feed_conflict))
    found = {"settings": dataclasses.asdict(settings), "counts": counts, "feature_launch_date": launch, "feed_weights": weights}
    return {**found, **constants()}

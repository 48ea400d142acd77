"""Engagement events: their times (the delay law), identities, late arrivals and duplicates."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from tools.synthetic.behaviour import Behaviour
from tools.synthetic.searches import Lists
from tools.synthetic.settings import DAY, EVENT_STREAM, HOUR, MILLISECONDS, MINUTE, Settings

SESSION = 30 * MINUTE
LATE_SHARE, DUPLICATE_SHARE = 0.01, 0.01


@dataclasses.dataclass(frozen=True)
class DelayLaw:
    """A mixture of log-normal delays: shares, medians (milliseconds) and sigmas of its parts."""

    share: tuple[float, ...]
    median: tuple[int, ...]
    sigma: tuple[float, ...]

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """[count] int64 milliseconds, at least 1."""
        part = np.searchsorted(np.cumsum(self.share)[:-1], rng.random(count), side="right")
        delay = np.array(self.median)[part] * np.exp(np.array(self.sigma)[part] * rng.standard_normal(count))
        return np.maximum(1, delay).astype(np.int64)


STEP_DELAYS = {
    "click": DelayLaw((1.0,), (40 * MILLISECONDS,), (0.9,)),
    "cart": DelayLaw((0.9, 0.1), (3 * MINUTE, 3 * HOUR), (0.8, 0.7)),
    "purchase": DelayLaw((0.62, 0.26, 0.12), (12 * MINUTE, 5 * HOUR, 32 * HOUR), (0.8, 0.6, 0.55)),
}
"""Delay of each step after the one before it: click after the search, cart after the click, purchase after the cart."""


def draw_events(
    settings: Settings, lists: Lists, behaviour: Behaviour, ids: dict[str, np.ndarray], day: int, feed: bool
) -> pd.DataFrame:
    """All events that one day's lists cause, whenever they happen, in order of time.

    Columns: time, customer_id, item_id, event, search_id, domain, event_id, true_search_id, delay (ms since the search), file_day (the
    day whose file the event stands in). `search_id` is known to the log for half an hour after the search, later it is null, unless
    the customer is anonymous. `ids` holds search_id [B], customer_id [B] (None when anonymous) and item_id [I].
    """
    rng = settings.rng(EVENT_STREAM, day, int(feed))
    delay, frames = np.zeros(len(lists.item), dtype=np.int64), []
    for event, happened in (
        ("click", behaviour.clicked),
        ("cart", behaviour.carted),
        ("purchase", behaviour.purchased),
    ):
        delay = delay + STEP_DELAYS[event].draw(len(delay), rng)
        rows = np.flatnonzero(happened)
        frames.append(pd.DataFrame({"row": rows, "event": event, "delay": delay[rows]}))
    events = pd.concat(frames, ignore_index=True)
    index = lists.list_index[events["row"]]
    events["time"] = lists.time[index] + events["delay"]
    events["customer_id"] = ids["customer_id"][index]
    events["item_id"] = ids["item_id"][lists.item[events["row"]]]
    events["true_search_id"] = ids["search_id"][index]
    known = (events["delay"] <= SESSION) | events["customer_id"].isna()
    events["search_id"] = events["true_search_id"].where(known, None)
    events["domain"] = "feed" if feed else "search"
    events = events.sort_values(["time", "row"], kind="stable", ignore_index=True).drop(columns="row")
    prefix = f"{'f' if feed else 's'}{settings.date(day):%Y%m%d}"
    events["event_id"] = [f"{prefix}-{number:06d}" for number in range(len(events))]
    events["file_day"] = (events["time"] - settings.day_start(0)) // DAY + (rng.random(len(events)) < LATE_SHARE)
    copies = events[rng.random(len(events)) < DUPLICATE_SHARE]
    later = copies["file_day"] + rng.integers(0, 2, len(copies))
    return pd.concat([events, copies.assign(file_day=later)], ignore_index=True)

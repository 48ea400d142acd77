"""Sessions of the RecSys Challenge 2019 (trivago) in their original columns, as Parquet or CSV. docs/sources.md states the mapping.

Every `clickout item` row is a search list: its exposed hotels are the impressions, in display order with their prices. The clickout is
an engagement of that search at the same time; interactions with hotels are engagements without a search id.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from pipelines.sources.files import InputFile, column_names, find_files, opened

COLUMNS = ("user_id", "session_id", "timestamp", "step", "action_type", "reference", "platform", "city", "device",
           "current_filters", "impressions", "prices")  # fmt: skip
CLICKOUT = "clickout item"
EVENTS = {
    CLICKOUT: "clickout",
    "interaction item image": "interaction_image",
    "interaction item info": "interaction_info",
    "interaction item rating": "interaction_rating",
    "interaction item deals": "interaction_deals",
    "search for item": "search_item",
}
LIST_COLUMNS = (
    "query", "session_id", "platform", "device", "city", "current_filters", "filter_count", "session_step", "session_age",
    "session_number", "user_step", "last_action", "last_gap", "sort_order", "destination", "poi", "lists_before", "same_list",
    "shown_items", "mean_price", "min_price",
)  # fmt: skip
ITEM_COLUMNS = ("price", "previous_position", "previous_price")


def find(path: str) -> list[InputFile]:
    """The session files of a file or folder."""
    return [InputFile(p, "", i) for i, p in enumerate(find_files(path, (".parquet", ".csv", ".csv.gz")))]


def columns(file: InputFile) -> dict[str, set[str]]:
    """The columns that `read` gives, after a look at the file's own."""
    column_names(file.path, COLUMNS, "the RecSys Challenge 2019 sessions")
    base = {"search_id", "time", "customer_id", "item_id"}
    return {
        "impressions": base | {"position", *LIST_COLUMNS, *ITEM_COLUMNS},
        "engagements": base | {"event"},
        "items": set(),
    }


def _read_file(file: InputFile) -> pd.DataFrame:
    with opened(file.path) as stream:
        if file.path.endswith(".parquet"):
            table = pq.read_table(stream, columns=list(COLUMNS))
        else:
            text = {name: pa.string() for name in COLUMNS if name not in ("timestamp", "step")}
            options = pa_csv.ConvertOptions(include_columns=list(COLUMNS), column_types=text, strings_can_be_null=True)
            table = pa_csv.read_csv(stream, convert_options=options)
    return table.to_pandas()


def read(file: InputFile, wanted: dict[str, set[str]]) -> Iterator[tuple[str, pa.Table]]:
    """The impressions and engagements of one file, which holds whole sessions; it is read at once."""
    columns(file)
    events = _with_context(_in_order(_read_file(file)))
    yield "engagements", _engagements(events)
    yield "impressions", _impressions(events)


def _in_order(events: pd.DataFrame) -> pd.DataFrame:
    """Sorts by user, time, session and step, and gives each event a time in ms: the second, plus its rank in the user's second."""
    events = events.assign(row=np.arange(len(events)))
    opened_at = events.groupby(["user_id", "session_id"], sort=False)["row"].transform("min")
    events = events.assign(session_row=opened_at)
    events = events.sort_values(["user_id", "timestamp", "session_row", "step", "row"], kind="stable").reset_index(
        drop=True
    )
    rank = events.groupby(["user_id", "timestamp"], sort=False).cumcount().clip(upper=999)
    return events.assign(time=events["timestamp"].astype(np.int64) * 1000 + rank)


def _with_context(events: pd.DataFrame) -> pd.DataFrame:
    """Adds what was known before each event: the session's and the user's course so far."""
    session = events.groupby(["user_id", "session_id"], sort=False)
    user = events.groupby("user_id", sort=False)
    action = events["action_type"]

    def last_reference(kind: str) -> pd.Series:
        """The reference of the session's last action of a kind before each event."""
        said = events["reference"].where(action == kind)
        keys = [events["user_id"], events["session_id"]]
        return said.groupby(keys, sort=False).ffill().groupby(keys, sort=False).shift()

    is_new = ~events.duplicated(["user_id", "session_id"])
    events = events.assign(
        session_step=session.cumcount(),
        session_age=(events["time"] - session["time"].transform("first")) / 1000.0,
        session_number=is_new.groupby(events["user_id"], sort=False).cumsum(),
        user_step=user.cumcount(),
        last_action=session["action_type"].shift(),
        last_gap=(events["time"] - session["time"].shift()) / 1000.0,
        sort_order=last_reference("change of sort order"),
        destination=last_reference("search for destination"),
        poi=last_reference("search for poi"),
        filter_count=events["current_filters"].str.count(r"\|").add(1).fillna(0),
        search_id=events["user_id"] + "-" + events["session_id"] + "-" + events["step"].astype(str),
    )
    again = events.groupby("search_id", sort=False).cumcount()
    events["search_id"] = events["search_id"].where(again == 0, events["search_id"] + "-" + again.astype(str))
    events["query"] = events["poi"].fillna(events["destination"])
    return events.rename(columns={"user_id": "customer_id"})


def _engagements(events: pd.DataFrame) -> pa.Table:
    chosen = events[events["action_type"].isin(list(EVENTS)) & events["reference"].str.fullmatch(r"\d+")]
    is_clickout = chosen["action_type"] == CLICKOUT
    return pa.table(
        {
            "time": pa.array(chosen["time"].to_numpy()),
            "customer_id": pa.array(chosen["customer_id"], pa.string()),
            "item_id": pa.array(chosen["reference"], pa.string()),
            "event": pa.array(chosen["action_type"].map(EVENTS), pa.string()),
            "search_id": pa.array(chosen["search_id"].where(is_clickout), pa.string(), from_pandas=True),
        }
    )


def _impressions(events: pd.DataFrame) -> pa.Table:
    lists = events[(events["action_type"] == CLICKOUT) & events["impressions"].notna()].reset_index(drop=True)
    shown = lists["impressions"].str.split("|")
    lengths = shown.str.len().to_numpy(np.int64) if len(lists) else np.zeros(0, np.int64)
    owner = np.repeat(np.arange(len(lists)), lengths)
    items = pd.DataFrame({"owner": owner, "item_id": np.concatenate(shown.to_list()) if len(lists) else []})
    items["position"] = np.arange(len(items)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + 1
    items["price"] = _prices(lists["prices"], lengths)
    items = items[items["item_id"] != ""].drop_duplicates(["owner", "item_id"])
    lists = _with_lists(lists, items)
    items = _with_previous(items, lists)
    owner = items["owner"].to_numpy()
    table: dict[str, pa.Array] = {}
    for name in ("search_id", "time", "customer_id", *LIST_COLUMNS):
        table[name] = pa.array(lists[name], from_pandas=True).take(pa.array(owner))
    for name in ("item_id", "position", *ITEM_COLUMNS):
        table[name] = pa.array(items[name], from_pandas=True)
    return pa.table(table)


def _prices(texts: pd.Series, lengths: np.ndarray) -> np.ndarray:
    """Prices of all lists one after the other; NaN where one is missing or no number."""
    parts: list[str | None] = []
    for text, length in zip(texts, lengths, strict=True):
        found = text.split("|")[:length] if isinstance(text, str) else []
        parts += [*found, *[None] * (length - len(found))]
    return pd.to_numeric(pd.Series(parts, dtype=object), errors="coerce").to_numpy(np.float64)


def _with_lists(lists: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    """Adds what a list says by itself and beside the session's lists before it."""
    session = lists.groupby(["customer_id", "session_id"], sort=False)
    by_list = items.groupby("owner")["price"]
    return lists.assign(
        lists_before=session.cumcount(),
        same_list=(session["impressions"].shift() == lists["impressions"]).astype(np.float64),
        shown_items=items.groupby("owner").size(),
        mean_price=by_list.mean(),
        min_price=by_list.min(),
    )


def _with_previous(items: pd.DataFrame, lists: pd.DataFrame) -> pd.DataFrame:
    """Adds an item's position and price in the last earlier list of the user that showed it; NaN where none did."""
    keyed = items.assign(customer=lists["customer_id"].to_numpy()[items["owner"]])
    before = keyed.groupby(["customer", "item_id"], sort=False)
    return items.assign(previous_position=before["position"].shift(), previous_price=before["price"].shift())

"""A search to rank, as plain values, and its named tensors.

    {"context": {"query": "red shoes", "device": null},
     "items": [{"item_id": "i7", "price": 19.9}, {"item_id": "i8"}],
     "history": {"recent": [{"item_id": "i7", "action": "click", "age": 40.0}]}}

A value of null is missing; a key that is left out is unseen: the feature is not part of this request. A history of [] is empty, one that is
left out is unseen. Without `item_offset`, the items' order in the request is their display order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cvr.errors import CvrError
from cvr.transforms import UNSEEN_VALUE
from export.inputs import HISTORY_PARTS, ITEM_ID, ITEM_OFFSET, UNSEEN_TEXT
from export.servable import TensorInfo

Values = Mapping[str, Any]
_ABSENT = object()


class Search(NamedTuple):
    """One search: context values, items in display order, and the customer's events by history, most recent first."""

    context: Values
    items: Sequence[Values]
    history: Mapping[str, Sequence[Values]] = {}  # noqa: RUF012 - never written to

    @classmethod
    def from_json(cls, text: str, source: str) -> Search:
        """Parses the JSON form above. Raises CvrError naming the source and the key that is wrong."""
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise CvrError(f"{source}:{error.lineno}: not valid JSON: {error.msg}") from error
        if not isinstance(data, dict) or not set(data) <= set(cls._fields) or "items" not in data:
            raise CvrError(f"{source}: a request is an object with items, and optionally context and history")
        search = cls(data.get("context", {}), data["items"], data.get("history", {}))
        if not isinstance(search.context, dict) or not isinstance(search.history, dict):
            raise CvrError(f"{source}: context and history are objects of named values")
        rows = [("items", search.items), *((f"history.{name}", events) for name, events in search.history.items())]
        for key, values in rows:
            if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
                raise CvrError(f"{source}: {key} must be a list of objects")
        return search

    @classmethod
    def from_file(cls, path: str | Path) -> Search:
        """Reads the JSON form. Raises CvrError naming the file."""
        file = Path(path)
        if not file.is_file():
            raise CvrError(f"no request file {file}; an export writes one to <version>/assets.extra/example_request.json")
        return cls.from_json(file.read_text(encoding="utf-8"), str(file))

    def to_json(self) -> str:
        """The JSON form; `from_json` reads it back."""
        return json.dumps(self._asdict(), indent=1, ensure_ascii=False) + "\n"


def to_arrays(search: Search, infos: Mapping[str, TensorInfo]) -> dict[str, np.ndarray]:
    """The tensors that a raw signature with inputs `infos` takes.

    Raises CvrError for a search without items, an item without item_id, a value of the wrong type or a name that is no input.
    """
    if not search.items:
        raise CvrError("the search has no items to rank")
    _check_names(search, infos)
    arrays: dict[str, np.ndarray] = {}
    for name, info in infos.items():
        history, _, part = name.partition(".")
        text = info.dtype.name == "string"
        if part:
            arrays[name] = _history(search, history, part)
        elif name == ITEM_OFFSET:
            arrays[name] = np.array([item.get(name, row) for row, item in enumerate(search.items)], np.int32)
        else:
            rows = [search.context] if info.shape == (1,) else search.items
            arrays[name] = _column(name, [row.get(name, _ABSENT) for row in rows], text)
    return arrays


def _check_names(search: Search, infos: Mapping[str, TensorInfo]) -> None:
    context = {name for name, info in infos.items() if info.shape == (1,)}
    histories = {name.partition(".")[0] for name in infos if "." in name}
    items = {name for name in infos if "." not in name} - context
    given = {"context": (set(search.context), context), "history": (set(search.history), histories)}
    given["items"] = ({key for item in search.items for key in item}, items)
    for events in search.history.values():
        given["history event"] = ({key for event in events for key in event}, set(HISTORY_PARTS))
        _refuse_unknown(given)
    _refuse_unknown(given)
    for row, item in enumerate(search.items):
        if not item.get(ITEM_ID):
            raise CvrError(f"items[{row}] has no item_id")


def _refuse_unknown(given: Mapping[str, tuple[set[str], set[str]]]) -> None:
    for where, (names, known) in given.items():
        if names - known:
            listed = ", ".join(sorted(known)) or "none"
            raise CvrError(f"{where}: the model has no input {sorted(names - known)[0]!r} there; it has {listed}")


def _history(search: Search, name: str, part: str) -> np.ndarray:
    text = part != "age"
    if name not in search.history:
        return np.array([UNSEEN_TEXT], object) if text else np.zeros(1, np.float32)
    values = [event.get(part) for event in search.history[name]]
    if any(value is None for value in values):
        raise CvrError(f"history.{name}[{values.index(None)}] has no {part}; an event has item_id, action and age (seconds)")
    return _column(f"history.{name}.{part}", values, text)


def _column(name: str, values: Sequence[Any], text: bool) -> np.ndarray:
    if text:
        return np.array([UNSEEN_TEXT if v is _ABSENT else "" if v is None else _as_text(name, v) for v in values], object)
    try:
        return np.array([UNSEEN_VALUE if v is _ABSENT else np.nan if v is None else float(v) for v in values], np.float32)
    except (TypeError, ValueError) as error:
        raise CvrError(f"{name} must be a number or null: {error}") from error


def _as_text(name: str, value: Any) -> str:
    """Text as the pipelines write it: whole floats without `.0`, true and false in lower case, lists joined by `|`."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, (list, tuple)):
        return "|".join(_as_text(name, part) for part in value)
    if isinstance(value, (str, int, float)):
        return str(value)
    raise CvrError(f"{name} must be text, a number, a list of them or null, not {type(value).__name__}")

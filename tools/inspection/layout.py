"""The layout of a list on a terminal: a header, the context, and the items as tables that fit the width.

A text whose words are not known is shown by the number of its n-grams. `[task]` says how long after the impression the label's event
came; `(popularity)` is the baseline that records hold beside the features.
"""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from cvr.schema import Feature
from tools.inspection.readable import Event, Shown

_LONGEST_CELL = 28
_NO_NUMBERS = ("missing", "unseen")
_WHOLE = 1e15
_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"))


def human(milliseconds: float) -> str:
    """A duration in its two largest units: `350 ms`, `12 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    if milliseconds < 1_000:
        return f"{milliseconds:.0f} ms"
    whole = int(milliseconds)
    for place, (size, unit) in enumerate(_UNITS):
        if whole >= size:
            smaller = _UNITS[place + 1 : place + 2]
            rest = [f"{whole % size // part} {name}" for part, name in smaller if whole % size >= part]
            return " ".join([f"{whole // size} {unit}", *rest])
    raise AssertionError(milliseconds)


def list_lines(shown: Shown, features: Sequence[Feature], total: int, width: int) -> Iterator[str]:
    """A list in lines of at most `width` characters; `total` is the number of lists that its number counts among."""
    yield _cut(f"list {shown.search_id}", width)
    where = f"{shown.time} UTC, split {shown.split}, list {shown.number:,} of {total:,} (from 0), record {shown.record} of {shown.file}"
    yield from textwrap.wrap(where, width, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    yield "  " + _summary(shown)
    context = [f for f in features if f.level == "context"]
    if context:
        yield ""
        yield from _context_lines(shown, context, width)
    yield ""
    yield from _tables(_columns(shown, features), width)


def _summary(shown: Shown) -> str:
    tasks = list(shown.items[0].labels) if shown.items else []
    found = ", ".join(f"{task} {sum(item.labels[task] for item in shown.items)}" for task in tasks)
    return f"{len(shown.items)} items; labels: {found}"


def _context_lines(shown: Shown, features: Sequence[Feature], width: int) -> Iterator[str]:
    name_width = max(len(f.name) for f in features)
    for feature in features:
        head = f"  {feature.name:<{name_width}}  {feature.kind:<11}  "
        lines = _value_lines(shown.context[feature.name], feature.kind, width - len(head))
        for place, line in enumerate(lines):
            yield (head if place == 0 else " " * len(head)) + line


def _value_lines(value: Any, kind: str, width: int) -> list[str]:
    """A context value; a history has a line per event."""
    if isinstance(value, list) and value and isinstance(value[0], Event):
        longest = max(len(event.action) for event in value)
        return [_cut(f"{event.action:<{longest}}  {event.item}, {human(1000 * event.age)} before", width) for event in value]
    if isinstance(value, list) and not value:
        return ["empty"]
    return textwrap.wrap(_cell(value, kind), width, break_on_hyphens=False) or [""]


def _cell(value: Any, kind: str) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < _WHOLE else f"{value:.6g}"
    if isinstance(value, list):
        return f"{len(value)} n-grams" if kind == "text" else " | ".join(value)
    return str(value)


def _width(text: str) -> int:
    """Columns of a terminal that a text takes: two per East Asian wide character, none per combining mark."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _cut(text: str, width: int) -> str:
    if _width(text) <= width:
        return text
    while _width(text) >= width:
        text = text[:-1]
    return text + "…"


def _columns(shown: Shown, features: Sequence[Feature]) -> dict[str, list[str]]:
    """The items' columns as text, the first two being those that every table begins with."""
    items = shown.items
    columns = {"#": [str(item.position) for item in items], "item": [item.item for item in items]}
    for task in items[0].labels if items else ():
        columns[f"[{task}]"] = [f"after {human(item.delays[task])}" if item.labels[task] else "-" for item in items]
    columns["(popularity)"] = [_cell(item.popularity, "numerical") for item in items]
    for feature in features:
        if feature.level == "item":
            columns[feature.name] = [_cell(item.features[feature.name], feature.kind) for item in items]
    return columns


def _tables(columns: dict[str, list[str]], width: int) -> Iterator[str]:
    """Columns as tables of at most `width`, one below the other, each beginning with the first two."""
    cells = [_aligned(name, values) for name, values in columns.items()]
    rest = cells[2:]
    while True:
        block, used = cells[:2], sum(_width(column[0]) + 2 for column in cells[:2])
        while rest and (len(block) == 2 or used + _width(rest[0][0]) + 2 <= width):
            used += _width(rest[0][0]) + 2
            block = [*block, rest.pop(0)]
        yield from (_cut("  " + "  ".join(row).rstrip(), width) for row in zip(*block, strict=True))
        if not rest:
            return
        yield ""


def _aligned(name: str, values: Sequence[str]) -> list[str]:
    """A column's head and cells, all of one width; numbers to the right."""
    cells = [_cut(value, _LONGEST_CELL) for value in values]
    widest = max(_width(cell) for cell in [name, *cells])
    padding = [" " * (widest - _width(cell)) for cell in [name, *cells]]
    right = all(_is_number(cell) or cell in _NO_NUMBERS for cell in cells)
    return [pad + cell if right else cell + pad for pad, cell in zip(padding, [name, *cells], strict=True)]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True

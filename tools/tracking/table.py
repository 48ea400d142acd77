"""The result table of a scaling study: a row per trained model, task and metric; Parquet, with the same as CSV beside it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cvr.errors import CvrError

FACTORIAL = "factorial"
"""The axis of rows that raise several factors together."""


@dataclasses.dataclass(frozen=True)
class ResultRow:
    """What one trained model (an arm with a seed) reached on one task, and what it cost.

    study: name of the study.
    arm: the configuration, seed apart; a configuration that is a level of several axes (the base) has one row per axis and seed.
    axis, level: what was varied, and to what: ("cross_width", 2048), ("days", 30). Levels are greater than 0.
    seed, task, metric, value: the mean of `metric` over `lists` lists, by the model trained with `seed`.
    lists: how many lists the metric is defined on.
    flops_per_item, dense_parameters, table_bytes: of the model when it serves; dense_parameters are those outside embedding tables.
    training_seconds, items_per_second: of training.
    base: whether the level is the base configuration's own.
    raised: in a factorial (axis "factorial", level: their number plus 1), the raised factors, as "backbone+data"; "" is the base.
    data: fingerprint of the evaluated lists.
    evaluation: folder of the evaluation, absolute or relative to the table's folder; its per_list.parquet gives the spread over lists.
    """

    study: str
    arm: str
    axis: str
    level: float
    seed: int
    task: str
    metric: str
    value: float
    lists: int
    flops_per_item: float
    dense_parameters: int
    table_bytes: int
    training_seconds: float
    items_per_second: float
    base: bool = False
    raised: str = ""
    data: str = ""
    evaluation: str = ""

    def __post_init__(self) -> None:
        """Raises CvrError for a row that no study can measure."""
        name = f"result row {self.study}/{self.arm}, {self.axis}={self.level:g}, seed {self.seed}, task {self.task}"
        for field in ("level", "lists"):
            if not 0 < getattr(self, field) < math.inf:
                raise CvrError(f"{name}: {field} is {getattr(self, field)}; expected a number greater than 0")
        for field in ("flops_per_item", "dense_parameters", "table_bytes", "training_seconds", "items_per_second"):
            if not 0 <= getattr(self, field) < math.inf:
                raise CvrError(f"{name}: {field} is {getattr(self, field)}; expected a number of at least 0")
        if not math.isfinite(self.value):
            raise CvrError(f"{name}: {self.metric} is {self.value}; leave rows without a value out")
        if self.raised and self.axis != FACTORIAL:
            raise CvrError(f"{name}: raised is {self.raised!r}; only rows of axis {FACTORIAL!r} raise factors")

    @property
    def key(self) -> tuple[Any, ...]:
        """What is there once in a table."""
        return (self.study, self.axis, self.level, self.raised, self.seed, self.task, self.metric)

    @property
    def factors(self) -> frozenset[str]:
        """The factors that `raised` names."""
        return frozenset(self.raised.split("+")) if self.raised else frozenset()


_FIELDS = dataclasses.fields(ResultRow)
_TYPES: dict[str, type] = {"str": str, "float": float, "int": int, "bool": bool}


def write_results(path: str | Path, rows: Sequence[ResultRow]) -> Path:
    """Writes the rows to `path` (ending in .parquet) and, for reading by eye, to the same name in .csv. Returns `path`.

    Raises CvrError without rows, or where two of them have the same key.
    """
    path = Path(path)
    if path.suffix != ".parquet":
        raise CvrError(f"{path}: a result table's name ends in .parquet")
    _check(rows, path)
    frame = pd.DataFrame([dataclasses.asdict(row) for row in rows], columns=[field.name for field in _FIELDS])
    frame = frame.astype({field.name: _TYPES[str(field.type)] for field in _FIELDS})
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path.with_suffix(".csv"), index=False)
    frame.to_parquet(path, index=False)
    return path


def read_results(path: str | Path) -> list[ResultRow]:
    """Reads a table that `write_results` wrote: the .parquet, or the .csv without it; `evaluation` becomes a path from here.

    Raises CvrError naming the file, and the columns that are missing or unknown.
    """
    path = Path(path)
    try:
        frame = pd.read_csv(path, keep_default_na=False) if path.suffix == ".csv" else pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise CvrError(f"{path}: no result table ({error}); expected the results.parquet of a scaling study") from error
    names = {field.name for field in _FIELDS}
    needed = {field.name for field in _FIELDS if field.default is dataclasses.MISSING}
    if not needed <= set(frame) <= names:
        wrong = f"lacks {', '.join(sorted(needed - set(frame)))}" if needed - set(frame) else f"has unknown {min(set(frame) - names)!r}"
        raise CvrError(f"{path}: the table {wrong}; columns of a result table are {', '.join(field.name for field in _FIELDS)}")
    types = {field.name: _TYPES[str(field.type)] for field in _FIELDS if field.name in frame}
    rows = [_row(record, types, path) for record in frame.to_dict("records")]
    _check(rows, path)
    return rows


def _row(record: dict[Any, Any], types: dict[str, type], path: Path) -> ResultRow:
    try:
        row = ResultRow(**{name: kind(record[name]) for name, kind in types.items()})
    except (TypeError, ValueError) as error:
        raise CvrError(f"{path}: {error} in the row {record}") from error
    return dataclasses.replace(row, evaluation=str(path.parent / row.evaluation)) if row.evaluation else row


def _check(rows: Sequence[ResultRow], path: Path) -> None:
    if not rows:
        raise CvrError(f"{path}: a result table without rows")
    seen = set()
    for row in rows:
        if row.key in seen:
            what = f"study {row.study}, {row.axis}={row.level:g} {row.raised}, seed {row.seed}, task {row.task}"
            raise CvrError(f"{path}: two rows for {what}, {row.metric}; a model is in the table once per axis, task and metric")
        seen.add(row.key)

"""What a run tells of its training: rows of `history.jsonl`, and the same numbers as TensorBoard scalars."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

HISTORY_FILE = "history.jsonl"


class History:
    """The rows of one run, the oldest first.

        {"kind": "train", "step", "epoch", "loss": {task: mean since the row before}, <name>: <value>, ...}
        {"kind": "validation", "step", "epoch", "map": {task: mAP}}
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / HISTORY_FILE
        self._writer = tf.summary.create_file_writer(str(folder / "tensorboard"))

    def train(self, step: int, epoch: int, losses: Mapping[str, float], values: Mapping[str, float]) -> None:
        """Adds a row of training; `values` are further numbers by name, such as the learning rate."""
        self._append({"kind": "train", "step": step, "epoch": epoch, "loss": dict(losses), **values})
        self._scalars(step, {f"loss/{task}": value for task, value in losses.items()} | dict(values))

    def validation(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Adds a row of validation: mAP by task."""
        self._append({"kind": "validation", "step": step, "epoch": epoch, "map": dict(values)})
        self._scalars(step, {f"validation_map/{task}": value for task, value in values.items()})

    def rows(self) -> list[dict[str, Any]]:
        """All rows; a last one that a lost machine cut off is left out."""
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.is_file() else []
        rows = []
        for place, line in enumerate(lines):
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                if place + 1 < len(lines):
                    raise
        return rows

    def last_validation(self) -> dict[str, float]:
        """mAP by task of the last validation; empty where there was none."""
        rows = [row["map"] for row in self.rows() if row["kind"] == "validation"]
        return rows[-1] if rows else {}

    def go_on_from(self, step: int, epoch: int) -> None:
        """Keeps rows of training up to step `step` and validations up to epoch `epoch`: those after it are done again."""
        last = {"train": ("step", step), "validation": ("epoch", epoch)}
        kept = [row for row in self.rows() if row[last[row["kind"]][0]] <= last[row["kind"]][1]]
        temporary = self._path.with_name(f".{self._path.name}.tmp")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        os.replace(temporary, self._path)

    def _append(self, row: dict[str, Any]) -> None:
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def _scalars(self, step: int, values: Mapping[str, float]) -> None:
        with self._writer.as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(name, value)


class NoHistory(History):
    """That of a process whose chief writes it."""

    def __init__(self) -> None:
        self._writer = tf.summary.create_noop_writer()

    def rows(self) -> list[dict[str, Any]]:
        """None."""
        return []

    def go_on_from(self, step: int, epoch: int) -> None:
        """Nothing to keep."""

    def _append(self, row: dict[str, Any]) -> None:
        """Nothing is written."""

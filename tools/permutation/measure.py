"""Scoring of every cell of a plan, kept in files so that an interrupted measurement goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cvr.errors import CvrError
from cvr.manifest import publish_json
from cvr.progress import Progress
from tools.permutation.plan import Cell
from tools.permutation.sample import Sample
from tools.permutation.scorer import Scorer
from tools.permutation.shuffles import make_shuffle

SETTINGS = "settings.json"


class Store:
    """The folder of scored cells: a file of `[R, Q]` average precisions for each run and cell, and the base's `[Q]`.

    Raises CvrError where the folder holds those of other settings.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        path, now = folder / SETTINGS, json.loads(json.dumps(settings))
        before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else now
        changed = [f"{key}: {before.get(key)!r} then, {now.get(key)!r} now" for key in {**before, **now} if before.get(key) != now.get(key)]
        if changed:
            raise CvrError(f"{folder} holds a measurement with other settings ({'; '.join(changed)}); choose another --output or remove it")
        publish_json(path, now)

    def _path(self, run: int, cell: Cell | None) -> Path:
        if cell is None:
            return self._folder / f"{run}-base.npy"
        return self._folder / f"{run}-{cell[0]}-{hashlib.sha256(' '.join(sorted(cell[1])).encode()).hexdigest()[:16]}.npy"

    def has(self, run: int, cell: Cell | None) -> bool:
        """Whether it was scored."""
        return self._path(run, cell).is_file()

    def read(self, run: int, cell: Cell | None) -> np.ndarray:
        """A run's values of a cell, of the base without one."""
        return np.load(self._path(run, cell))

    def write(self, run: int, cell: Cell | None, values: np.ndarray) -> None:
        """Keeps values, by a rename."""
        path = self._path(run, cell)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.save(file, values)
        partial.rename(path)

    def drops(self, runs: int, cell: Cell) -> np.ndarray:
        """Base less shuffled average precision, `[S, R, Q]` for S runs."""
        return np.stack([self.read(run, None) - self.read(run, cell) for run in range(runs)])


def score_cells(
    scorer: Scorer, sample: Sample, store: Store, cells: Sequence[Cell], draw: tuple[int, int, int], progress: Progress
) -> None:
    """Scores what is not there yet, for one run.

    `draw` is (run number, permutations, seed): permutation r of either kind is that of seed (seed, run, r), whatever is shuffled by it.
    """
    run, permutations, seed = draw
    if not store.has(run, None):
        store.write(run, None, scorer.precision())
    lists = sample.list_of_item
    shuffles = {kind: [make_shuffle(kind, lists, (seed, run, r)) for r in range(permutations)] for kind in {kind for kind, _ in cells}}
    for kind, names in cells:
        if store.has(run, (kind, names)):
            continue
        values = []
        for shuffle in shuffles[kind]:
            values.append(scorer.precision(names, shuffle))
            shown = min(names) if len(names) == 1 else f"{len(names)} features"
            progress.update(len(sample.item), f"{kind}: {shown}")
        store.write(run, (kind, names), np.stack(values))

"""What the lists of a run look like, read from a sample of their records: lengths, positions, delays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cvr import data, records
from cvr.manifest import SPLITS, Manifest
from tools.report.figures import Curve

MIN_SHOWN = 50  # positions shown less often than this are left out of the position curve
_BATCH = 512


@dataclass(frozen=True)
class Sample:
    """The first lists of a split: `sizes` int64 [L], `positions` int32 [N], `labels` bool, `delays` int64 ms [N, T]."""

    sizes: np.ndarray
    positions: np.ndarray
    labels: np.ndarray
    delays: np.ndarray


def read_samples(folder: Path, manifest: Manifest, lists: int = 20_000) -> dict[str, Sample]:
    """At most `lists` lists of every split that holds any, by split name."""
    filled = [name for name in SPLITS if name in manifest.splits and manifest.splits[name].lists]
    return {name: _read_sample(folder, manifest, name, lists) for name in filled}


def _read_sample(folder: Path, manifest: Manifest, split: str, lists: int) -> Sample:
    spec = manifest.spec()
    serialized = data.read_records(data.split_files(folder, manifest, [split])).take(lists).batch(_BATCH)
    columns = [records.parse(spec, batch) for batch in serialized]

    def joined(key: str) -> np.ndarray:
        return np.concatenate([batch[key].numpy() for batch in columns])

    return Sample(joined("list_size"), joined("position"), joined("labels") > 0, joined("delay"))


def position_curve(sample: Sample, task: int) -> Curve:
    """Share of shown items with the label by 1-based position, with a 95 % Wilson interval."""
    shown = np.bincount(sample.positions)
    hits = np.bincount(sample.positions, weights=sample.labels[:, task], minlength=len(shown))
    places = np.flatnonzero(shown >= MIN_SHOWN)
    low, high = wilson(hits[places], shown[places])
    return Curve(places.tolist(), (hits[places] / shown[places]).tolist(), low.tolist(), high.tolist())


def task_delays(samples: dict[str, Sample], task: int) -> np.ndarray:
    """Milliseconds from impression to engagement of all labelled items, over all splits."""
    return np.concatenate([s.delays[s.labels[:, task], task] for s in samples.values()])


def wilson(hits: np.ndarray, trials: np.ndarray, z: float = 1.96) -> tuple[np.ndarray, np.ndarray]:
    """Wilson score interval of a share: (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n); shapes as `hits`."""
    share = hits / trials
    scale = 1 + z * z / trials
    middle = (share + z * z / (2 * trials)) / scale
    spread = z * np.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2) / scale
    return middle - spread, middle + spread

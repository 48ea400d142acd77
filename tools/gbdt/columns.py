"""A spec's features as one row of numbers per item, for models that read columns: decision trees.

Numericals are `Extraction.raw_numericals`, stored and derived, before any transform. A categorical is its row in its embedding table.
Context features are repeated for each item of the list.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from cvr import transforms
from cvr.data import Batch
from cvr.derived import DerivedFeatures
from cvr.errors import CvrError
from cvr.extraction import Extraction
from cvr.schema import Feature, FeatureSpec

LEVELS = ("context", "item")


class FeatureColumns:
    """Which features become columns, in which order, and which are left out, with the reason.

    A categorical is a column if it has one value and its table at most `max_categories` buckets. `names` are the columns, `categorical`
    those of them that hold table rows, `left_out` says why of each feature that is none.
    """

    def __init__(self, spec: FeatureSpec, max_categories: int) -> None:
        self.spec, self._max_categories = spec, max_categories
        self._extraction = Extraction(spec)
        reasons = {f.name: self._reason(f) for f in spec.features.values()}
        self.left_out = {name: reason for name, reason in reasons.items() if reason}
        self._categorical = [f for f in spec.select(kind="categorical") if f.name not in self.left_out]
        self.categorical = [f.name for f in self._categorical]
        numerical = [f.name for level in LEVELS for stored in (True, False) for f in spec.select("numerical", level, stored)]
        self.names = numerical + self.categorical
        if not any(spec.features[name].level == "item" for name in self.names):
            raise CvrError(f"spec {spec.dataset!r} has no item feature that trees can read: {self.left_out}; declare a numerical one")

    def _reason(self, feature: Feature) -> str:
        if feature.kind == "sequence":
            return "a sequence of events"
        if feature.ragged:
            return "a bag of n-grams" if feature.kind == "text" else "a bag of categories"
        if feature.kind == "numerical":
            return ""
        buckets = self.spec.embedding_of(feature)[1].buckets
        return f"{buckets:,} buckets, more than --max_categories={self._max_categories}" if buckets > self._max_categories else ""

    def matrix(self, batch: Batch) -> tf.Tensor:
        """A batch (see `cvr.data`) -> float32 `[N, C]` as records hold it: NaN is missing, -inf unseen; categories as table rows."""
        derived = DerivedFeatures(self.spec, batch)
        parts = [
            _per_item(self._extraction.raw_numericals(batch, level, derived), level, batch)
            for level in LEVELS
            if level in self._extraction.numericals
        ]
        parts += [_per_item(self._rows(f, batch, derived)[:, None], f.level, batch) for f in self._categorical]
        return tf.concat(parts, axis=1)

    def _rows(self, feature: Feature, batch: Batch, derived: DerivedFeatures) -> tf.Tensor:
        ids = self._extraction.category_ids(feature, batch, derived)
        buckets = self.spec.embedding_of(feature)[1].buckets
        rows = transforms.rows_of_vocabulary(ids, feature.vocabulary) if feature.vocabulary else transforms.rows_of_ids(ids, buckets)
        return tf.cast(rows, tf.float32)


def _per_item(values: tf.Tensor, level: str, batch: Batch) -> tf.Tensor:
    return tf.gather(values, batch["list_index"]) if level == "context" else values


@dataclasses.dataclass(frozen=True)
class Design:
    """What trees see of `FeatureColumns.matrix`: numbers or NaN, and an indicator of each column that has unseen values where trained."""

    names: tuple[str, ...]
    unseen: tuple[int, ...]

    @classmethod
    def fit(cls, names: list[str], matrix: np.ndarray) -> Design:
        """From the matrix `[N, C]` that is trained on."""
        unseen = tuple(int(place) for place in np.flatnonzero(np.any(matrix == transforms.UNSEEN_VALUE, axis=0)))
        return cls((*names, *(f"{names[place]}.unseen" for place in unseen)), unseen)

    def apply(self, matrix: np.ndarray) -> np.ndarray:
        """`[N, C]` -> float32 `[N, C + indicators]`, in which all that is not finite is NaN."""
        indicators = (matrix[:, list(self.unseen)] == transforms.UNSEEN_VALUE).astype(np.float32)
        return np.concatenate([np.where(np.isfinite(matrix), matrix, np.nan).astype(np.float32), indicators], axis=1)

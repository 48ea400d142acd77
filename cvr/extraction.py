"""Feature extraction: a batch of raw columns -> one dense context vector per list and one dense feature vector per item."""

from __future__ import annotations

import tensorflow as tf

from cvr import transforms
from cvr.derived import DerivedFeatures
from cvr.layers.event_embedding import EventEmbedding
from cvr.layers.hashed_embedding import HashedEmbedding
from cvr.layers.history_mean import HistoryMean
from cvr.layers.numerical import NumericalFeatures
from cvr.layers.target_attention import TargetAttention
from cvr.records import Layout
from cvr.schema import Feature, FeatureSpec

Batch = dict[str, tf.Tensor]


class Extraction(tf.keras.layers.Layer):
    """Numericals, categoricals, text, derived features and histories of a spec as dense vectors (paper 2.1, PAPERS R3-R6).

    Context features are encoded once per list. A history is a context vector (`encoder: mean`) or, with target attention, a vector per
    item.
    """

    def __init__(self, spec: FeatureSpec, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.spec, self.layout = spec, Layout.of(spec)
        self.numericals = {level: self._numericals(level) for level in ("context", "item") if self._columns(level)}
        sizes = dict(spec.embedding_of(f) for f in spec.features.values() if f.kind != "numerical")
        self.tables = {name: HashedEmbedding(size.buckets, size.dim, name=f"table_{name}") for name, size in sizes.items()}
        sequences = spec.select(kind="sequence")
        self._events = {f.name: self._event_embedding(f) for f in sequences}
        self._encoders = {f.name: self._encoder(f) for f in sequences}

    def _event_embedding(self, feature: Feature) -> EventEmbedding:
        assert feature.history is not None
        dim = self.spec.embedding_of(feature)[1].dim
        return EventEmbedding(len(feature.history.events), dim, name=f"events_{feature.name}")

    def _encoder(self, feature: Feature) -> HistoryMean | TargetAttention:
        if feature.encoder == "mean":
            return HistoryMean(name=f"encoder_{feature.name}")
        return TargetAttention(self.spec.embedding_of(feature)[1].dim, name=f"encoder_{feature.name}")

    def _columns(self, level: str) -> list[Feature]:
        stored = self.spec.select(kind="numerical", level=level, stored=True)
        return [*stored, *self.spec.select(kind="numerical", level=level, stored=False)]

    def _numericals(self, level: str) -> NumericalFeatures:
        columns = [(feature.name, feature.transforms) for feature in self._columns(level)]
        return NumericalFeatures(columns, name=f"numerical_{level}")

    @property
    def table_variables(self) -> list[tf.Variable]:
        """The embedding tables: sparse gradients, lazily updated."""
        return [table.table for table in self.tables.values()]

    @property
    def sequences(self) -> list[tuple[Feature, EventEmbedding, tf.keras.layers.Layer]]:
        """Each history with the layers that read it: its events' embedding and its encoder."""
        return [(f, self._events[f.name], self._encoders[f.name]) for f in self.spec.select(kind="sequence")]

    def raw_numericals(self, batch: Batch, level: str, derived: DerivedFeatures | None = None) -> tf.Tensor:
        """Stored and derived numericals of a level before any transform: `[B or N, C]`, columns as in `numericals[level]`."""
        derived = derived or DerivedFeatures(self.spec, batch)
        computed = [derived.compute(f)[:, None] for f in self.spec.select(kind="numerical", level=level, stored=False)]
        stored = batch["context_num"] if level == "context" else batch["item_num"]
        return tf.concat([stored, *computed], axis=1)

    def call(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        """A batch (see `cvr.data`) -> (context `[B, Dc]`, items `[N, Di]`)."""
        derived = DerivedFeatures(self.spec, batch)
        parts: dict[str, list[tf.Tensor]] = {"context": [tf.ones_like(batch["list_size"], tf.float32)[:, None]], "item": []}
        for level, layer in self.numericals.items():
            parts[level].append(layer(self.raw_numericals(batch, level, derived)))
        for feature in self.spec.features.values():
            if feature.kind == "sequence":
                level, vector = self._history(feature, batch, derived)
                parts[level].append(vector)
            elif feature.kind != "numerical":
                parts[feature.level].append(self._embed(feature, batch, derived))
        if not parts["item"]:
            raise ValueError(f"spec {self.spec.dataset!r} has no item feature: all items of a list would get one score")
        return tf.concat(parts["context"], axis=1), tf.concat(parts["item"], axis=1)

    def _embed(self, feature: Feature, batch: Batch, derived: DerivedFeatures) -> tf.Tensor:
        table = self.tables[self.spec.embedding_of(feature)[0]]
        if feature.ragged:
            count = tf.shape(batch["list_size" if feature.level == "context" else "list_index"])[0]
            return table.mean_of_bags(batch[f"ragged/{feature.name}/values"], batch[f"ragged/{feature.name}/rows"], count)
        return table(self.category_ids(feature, batch, derived), feature.vocabulary)

    def category_ids(self, feature: Feature, batch: Batch, derived: DerivedFeatures) -> tf.Tensor:
        """Ids of a categorical feature with one value, int64 `[B or N]`; a derived value is rounded and cut to the table's range."""
        if feature.derive is None:
            return batch[f"cat/{feature.name}"]
        values = derived.compute(feature)
        buckets = self.spec.embedding_of(feature)[1].buckets
        half = buckets // 2
        shifted = tf.clip_by_value(tf.round(values), -half, buckets - half - 1) + half + transforms.FIRST_ID
        known = tf.math.is_finite(values)
        return tf.where(known, tf.cast(tf.where(known, shifted, 0.0), tf.int64), transforms.EMPTY)

    def _history(self, feature: Feature, batch: Batch, derived: DerivedFeatures) -> tuple[str, tf.Tensor]:
        item, action, age = (batch[f"seq/{feature.name}/{part}"] for part in ("item", "action", "age"))
        table = self.tables[self.spec.embedding_of(feature)[0]]
        events = self._events[feature.name](table(item), item, action, age)
        real = tf.not_equal(item, transforms.PAD)
        encoder = self._encoders[feature.name]
        if feature.encoder == "mean":
            return "context", encoder(events, real)
        match = derived.match(feature.name)
        return "item", encoder(table(batch["item"]), events, real, match, batch["list_index"])

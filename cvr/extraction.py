"""Feature extraction: a batch of raw columns -> one dense context vector per list and one dense feature vector per item."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import tensorflow as tf

from cvr import encoders, transforms
from cvr.derived import DerivedFeatures
from cvr.encoders.behaviour import Behaviour
from cvr.errors import CvrError
from cvr.layers.event_embedding import EventEmbedding
from cvr.layers.hashed_embedding import HashedEmbedding
from cvr.layers.id_embedding import IdEmbedding
from cvr.layers.multi_hash import MultiHash
from cvr.layers.numerical import NumericalFeatures
from cvr.layers.quotient_remainder import QuotientRemainder
from cvr.layers.unified_embedding import UnifiedEmbedding
from cvr.records import Layout
from cvr.schema import Embedding, Feature, FeatureSpec

Batch = dict[str, tf.Tensor]


class Extraction(tf.keras.layers.Layer):
    """Numericals, categoricals, text, derived features and histories of a spec as dense vectors (paper 2.1, PAPERS R3-R6).

    Context features are encoded once per list. A history is a context vector or, by some encoders, a vector per item. Raw numbers
    stay in float32 under a mixed policy; the vectors have the policy's compute type.
    """

    def __init__(self, spec: FeatureSpec, **kwargs: object) -> None:
        super().__init__(autocast=False, **kwargs)
        self.spec, self.layout = spec, Layout.of(spec)
        self.numericals = {level: self._numericals(level) for level in ("context", "item") if self._columns(level)}
        sizes = dict(spec.embedding_of(f) for f in spec.features.values() if f.kind != "numerical")
        self.tables = {name: make_embedding(size, f"table_{name}") for name, size in sizes.items()}
        sequences = spec.select(kind="sequence")
        self._events = {f.name: self._event_embedding(f) for f in sequences}
        self._encoders = {f.name: self._encoder(f) for f in sequences}

    def _event_embedding(self, feature: Feature) -> EventEmbedding:
        assert feature.history is not None
        dim = self.spec.embedding_of(feature)[1].dim
        return EventEmbedding(len(feature.history.events), dim, name=f"events_{feature.name}")

    def _encoder(self, feature: Feature) -> tf.keras.layers.Layer:
        return encoders.make_encoder(feature, self.spec.embedding_of(feature)[1].dim, f"encoder_{feature.name}")

    def _columns(self, level: str) -> list[Feature]:
        stored = self.spec.select(kind="numerical", level=level, stored=True)
        return [*stored, *self.spec.select(kind="numerical", level=level, stored=False)]

    def _numericals(self, level: str) -> NumericalFeatures:
        columns = [(feature.name, feature.transforms) for feature in self._columns(level)]
        return NumericalFeatures(columns, name=f"numerical_{level}")

    def freeze(self, names: Sequence[str]) -> None:
        """Takes tables out of training, by their names in the spec, or `all`: they get no gradient, no optimizer state and no decay.

        Raises CvrError for a table that the spec does not have.
        """
        for name in names:
            if name != "all" and name not in self.tables:
                raise CvrError(f"--freeze_tables={name}: no such table; there are {', '.join(self.tables)}, and all for all of them")
        for name, table in self.tables.items():
            if name in names or "all" in names:
                table.trainable = False

    @property
    def table_variables(self) -> list[tf.Variable]:
        """The embedding tables that are trained: sparse gradients, lazily updated. Of tables that are split over parameter servers, the
        parts. Frozen ones are left out."""
        return _parts(table for table in self.tables.values() if table.trainable)

    @property
    def all_table_variables(self) -> list[tf.Variable]:
        """The same, with the frozen ones."""
        return _parts(self.tables.values())

    @property
    def sequences(self) -> list[tuple[Feature, EventEmbedding, tf.keras.layers.Layer]]:
        """Each history with the layers that read it: its events' embedding and its encoder."""
        return [(f, self._events[f.name], self._encoders[f.name]) for f in self.spec.select(kind="sequence")]

    @property
    def shrunk_tables(self) -> dict[str, HashedEmbedding]:
        """Tables whose vectors are scaled by how often training reads their rows, by name."""
        return {name: t for name, t in self.tables.items() if isinstance(t, HashedEmbedding) and t.shrinkage}

    def raw_numericals(self, batch: Batch, level: str, derived: DerivedFeatures | None = None) -> tf.Tensor:
        """Stored and derived numericals of a level before any transform: `[B or N, C]`, columns as in `numericals[level]`."""
        derived = derived or DerivedFeatures(self.spec, batch)
        computed = [derived.compute(f)[:, None] for f in self.spec.select(kind="numerical", level=level, stored=False)]
        stored = batch["context_num"] if level == "context" else batch["item_num"]
        return tf.concat([stored, *computed], axis=1)

    def rows_read(self, batch: Batch) -> dict[str, tf.Tensor]:
        """Rows that a batch's real lists read in each of `shrunk_tables`, int64 `[M]`, as often as they do."""
        found: dict[str, list[tf.Tensor]] = {name: [] for name in self.shrunk_tables}
        for feature, ids in self._ids_read(batch):
            name = self.spec.embedding_of(feature)[0]
            if name in found:
                found[name].append(tf.reshape(self.shrunk_tables[name].rows(ids, feature.vocabulary), [-1]))
        rows = {name: tf.concat(parts, axis=0) for name, parts in found.items()}
        return {name: tf.boolean_mask(values, tf.not_equal(values, transforms.PAD)) for name, values in rows.items()}

    def _ids_read(self, batch: Batch) -> Iterator[tuple[Feature, tf.Tensor]]:
        derived = DerivedFeatures(self.spec, batch)
        for feature in self.spec.features.values():
            if feature.kind == "sequence":
                yield feature, batch[f"seq/{feature.name}/item"]
                if encoders.load(feature).PER_ITEM:
                    yield feature, batch["item"]
            elif feature.ragged:
                yield feature, batch[f"ragged/{feature.name}/values"]
            elif feature.kind != "numerical":
                real = batch["list_size"] > 0 if feature.level == "context" else batch["item_mask"] > 0
                yield feature, tf.boolean_mask(self.category_ids(feature, batch, derived), real)

    def call(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        """A batch (see `cvr.data`) -> (context `[B, Dc]`, items `[N, Di]`)."""
        one = tf.ones_like(batch["list_size"], self.compute_dtype)[:, None]
        parts: dict[str, list[tf.Tensor]] = {"context": [one], "item": []}
        for level, vector, _ in self._vectors(batch):
            parts[level].append(vector)
        if not parts["item"]:
            raise ValueError(f"spec {self.spec.dataset!r} has no item feature: all items of a list would get one score")
        return tf.concat(parts["context"], axis=1), tf.concat(parts["item"], axis=1)

    def columns(self, batch: Batch) -> dict[str, tuple[str, list[int]]]:
        """Which columns of `call`'s vectors each feature makes, by its name: (context or item, their places)."""
        found, width = {}, {"context": 1, "item": 0}
        for level, vector, owners in self._vectors(batch):
            found.update({name: (level, [width[level] + place for place in places]) for name, places in owners.items()})
            width[level] += vector.shape[1]
        return found

    def _vectors(self, batch: Batch) -> list[tuple[str, tf.Tensor, dict[str, list[int]]]]:
        """The parts of `call`'s vectors in their order: (level, part, places in it by feature)."""
        derived = DerivedFeatures(self.spec, batch)
        found: list[tuple[str, tf.Tensor, dict[str, list[int]]]] = []
        for level, layer in self.numericals.items():
            found.append((level, layer(self.raw_numericals(batch, level, derived)), layer.columns))
        others = [f for f in self.spec.features.values() if f.kind not in ("numerical", "sequence")]
        vectors: dict[str, tuple[str, tf.Tensor]] = {f.name: (f.level, self._embed(f, batch, derived)) for f in others}
        profile = tuple(vector for level, vector, *_ in [*found, *vectors.values()] if level == "context")
        for feature in self.spec.features.values():
            if feature.kind == "sequence":
                vectors[feature.name] = self._history(feature, batch, derived, profile)
            if feature.name in vectors:
                level, vector = vectors[feature.name]
                found.append((level, vector, {feature.name: list(range(vector.shape[1]))}))
        return found

    def _table(self, feature: Feature) -> tuple[IdEmbedding, dict[str, str | tuple[str, ...]]]:
        """The table that a feature looks up in, and the options of its look-ups."""
        name, size = self.spec.embedding_of(feature)
        if size.method == "unified":
            return self.tables[name], {"feature": feature.name}
        return self.tables[name], {"vocabulary": feature.vocabulary} if feature.vocabulary else {}

    def _embed(self, feature: Feature, batch: Batch, derived: DerivedFeatures) -> tf.Tensor:
        table, options = self._table(feature)
        if feature.ragged:
            count = tf.shape(batch["list_size" if feature.level == "context" else "list_index"])[0]
            return table.mean_of_bags(batch[f"ragged/{feature.name}/values"], batch[f"ragged/{feature.name}/rows"], count, **options)
        return table(self.category_ids(feature, batch, derived), **options)

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

    def _history(
        self, feature: Feature, batch: Batch, derived: DerivedFeatures, profile: tuple[tf.Tensor, ...]
    ) -> tuple[str, tf.Tensor]:
        item, action, age = (batch[f"seq/{feature.name}/{part}"] for part in ("item", "action", "age"))
        table, options = self._table(feature)
        items = table(item, **options)
        encoder = encoders.load(feature)
        behaviour = Behaviour(
            events=self._events[feature.name](items, item, action, age),
            items=items,
            real=tf.not_equal(item, transforms.PAD),
            age=age,
            profile=profile,
            candidates=table(batch["item"], **options) if encoder.PER_ITEM else None,
            match=derived.match(feature.name) if encoder.PER_ITEM else None,
            list_index=batch["list_index"],
        )
        return "item" if encoder.PER_ITEM else "context", encoder.encode(self._encoders[feature.name], behaviour)


def _parts(tables: Iterable[IdEmbedding]) -> list[tf.Variable]:
    return [part for table in tables for variable in table.tables for part in getattr(variable, "variables", [variable])]


def make_embedding(size: Embedding, name: str) -> IdEmbedding:
    """The layer of the method that a spec names."""
    if size.method == "quotient_remainder":
        return QuotientRemainder(size.buckets, size.dim, size.collisions, name=name)
    if size.method == "multi_hash":
        return MultiHash(size.buckets, size.dim, size.hashes, name=name)
    if size.method == "unified":
        return UnifiedEmbedding(size.buckets, size.dim, size.hashes, name=name)
    return HashedEmbedding(size.buckets, size.dim, size.shrinkage, name=name)

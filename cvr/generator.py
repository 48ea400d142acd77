"""The model of generative pre-training: item vectors -> decoder -> which item and which action comes next (GPSD, KDD'25; PAPERS 3.12)."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from cvr import encoders, transforms
from cvr.errors import CvrError
from cvr.extraction import make_embedding
from cvr.generative_losses import sampled_softmax
from cvr.layers.event_embedding import EventEmbedding
from cvr.layers.hashed_embedding import HashedEmbedding
from cvr.layers.history_decoder import HistoryDecoder
from cvr.layers.id_embedding import IdEmbedding
from cvr.layers.initial import normal
from cvr.precision import precision
from cvr.schema import Feature, FeatureSpec

Batch = dict[str, tf.Tensor]
LOSSES = ("next_item", "next_action")


@dataclasses.dataclass(frozen=True)
class GeneratorConfig:
    """Which sequence of the spec is generated, from how many negatives at what temperature, and how much the next action counts."""

    sequence: str
    negatives: int = 4096
    temperature: float = 0.05
    action_weight: float = 1.0
    precision: str = "float32"
    seed: int = 0


class SequenceExtraction(tf.keras.layers.Layer):
    """The part of `cvr.extraction.Extraction` that reads one sequence, its variables under the same paths: a ranker can start from them.

    Events have no ages: those count back from a search that the sequence does not know of.
    """

    def __init__(self, spec: FeatureSpec, feature: Feature, **kwargs: object) -> None:
        super().__init__(autocast=False, **kwargs)
        assert feature.history is not None
        name, size = spec.embedding_of(feature)
        self._feature, self._method = feature.name, size.method
        self.tables = {name: make_embedding(size, f"table_{name}")}
        self._events = {feature.name: EventEmbedding(len(feature.history.events), size.dim, ages=False, name=f"events_{feature.name}")}
        self._encoders = {feature.name: encoders.make_encoder(feature, size.dim, f"encoder_{feature.name}")}

    @property
    def _table(self) -> IdEmbedding:  # no attribute: it would be a second, shorter path to the variables
        return next(iter(self.tables.values()))

    @property
    def table_variables(self) -> list[tf.Variable]:
        """The item table: sparse gradients, lazily updated."""
        return self._table.tables

    @property
    def parts(self) -> tuple[EventEmbedding, HistoryDecoder]:
        """The layers between item vectors and states."""
        return self._events[self._feature], self._encoders[self._feature]

    def items(self, ids: tf.Tensor) -> tf.Tensor:
        """int64 ids of any shape `[...]` -> `[..., d]`."""
        return self._table(ids, **({"feature": self._feature} if self._method == "unified" else {}))

    def same(self, ids: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
        """Whether ids `[P]` and others `[M]` have one vector: the same id, or the same row of a hashed table; bool `[P, M]`."""
        keys = [self._table.rows(x) if isinstance(self._table, HashedEmbedding) else x for x in (ids, others)]
        return tf.equal(keys[0][:, None], keys[1][None, :])

    def call(self, batch: Batch) -> tf.Tensor:
        """`item`, `action` int64 `[B, K]`, the most recent first -> the state after each event `[B, K, d]`."""
        events, decoder = self.parts
        item, action = batch["item"], batch["action"]
        vectors = events(self.items(item), item, action, tf.zeros_like(item, tf.float32))
        return decoder(vectors, tf.not_equal(item, transforms.PAD))


class Generator(tf.keras.Model):
    """Loss of the next item, by a softmax over itself and sampled items, and of the next action, over all of them.

    Where the original tells the next category, this tells the next action: histories of list records have no category. `catalogue` are the
    items that negatives are drawn from, uniformly and anew for each batch, which shares them.
    """

    def __init__(self, spec: FeatureSpec, config: GeneratorConfig, catalogue: np.ndarray, **kwargs: object) -> None:
        super().__init__(autocast=False, **kwargs)
        self.spec, self.config = spec, config
        feature = spec.features[config.sequence]
        assert feature.history is not None
        self.extraction = SequenceExtraction(spec, feature, name="extraction")
        width = spec.embedding_of(feature)[1].dim
        kernel = normal(width, 1.0)
        self.actions = len(feature.history.events)
        self.next_action = tf.keras.layers.Dense(
            self.actions, use_bias=False, kernel_initializer=kernel, dtype="float32", name="next_action"
        )
        self.draws = tf.Variable(0, trainable=False, dtype=tf.int64, name="draws")
        self._catalogue = tf.constant(catalogue, tf.int64)

    @property
    def dense_variables(self) -> list[tf.Variable]:
        """All trainable variables but the item table."""
        tables = {variable.ref() for variable in self.extraction.table_variables}
        return [variable for variable in self.trainable_variables if variable.ref() not in tables]

    def negatives(self, draw: tf.Tensor) -> tf.Tensor:
        """Ids of the sampled items of draw number `draw`, int64 `[M]`: the same for the same seed."""
        seed = tf.stack([tf.constant(self.config.seed, tf.int64), draw])
        places = tf.random.stateless_uniform([self.config.negatives], seed, maxval=tf.size(self._catalogue), dtype=tf.int32)
        return tf.gather(self._catalogue, places)

    def losses_of(self, batch: Batch, draw: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(losses of next item and next action, means over the batch's targets, float32 `[2]`, the number of targets int32).

        Batches are those of `cvr.sequences`. An event that is a `target` is told from the state after the one before it. Without any
        target the losses are 0.
        """
        states = self.extraction(batch)
        places = tf.where(batch["target"][:, :-1])  # of event k; its state is k + 1, the one before in time
        before = tf.cast(tf.gather_nd(states[:, 1:], places), tf.float32)
        item, action = (tf.gather_nd(batch[name], places) for name in ("item", "action"))
        sampled = self.negatives(draw)
        config, read = self.config, self.extraction.items
        items = sampled_softmax(before, read(item), read(sampled), self.extraction.same(item, sampled), config.temperature)
        labels = action - transforms.FIRST_ID
        actions = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, self.next_action(before))
        count = tf.shape(item)[0]
        totals = tf.stack([tf.reduce_sum(items), tf.reduce_sum(actions)])
        return tf.math.divide_no_nan(totals, tf.cast(count, tf.float32)), count

    def total(self, losses: tf.Tensor) -> tf.Tensor:
        """The loss that is minimised."""
        return losses[0] + self.config.action_weight * losses[1]

    def sequence_flops(self) -> int:
        """Of the states of one sequence, which is padded to K events."""
        history = self.spec.features[self.config.sequence].history
        assert history is not None
        events, decoder = self.extraction.parts
        return 2 * (events.list_multiply_adds(history.length) + decoder.sequence_multiply_adds(history.length))

    def target_flops(self) -> int:
        """Of the losses of one target: M d for items and A d for actions; the target's own product is an element-wise one."""
        return 2 * (self.config.negatives + self.actions) * int(self.next_action.kernel.shape[0])


def choose_sequence(spec: FeatureSpec, name: str | None) -> Feature:
    """The sequence of a spec to pre-train on: the named one, or the only one.

    Raises CvrError where there is none or more than one, and for one that cannot be generated.
    """
    found = {feature.name: feature for feature in spec.select(kind="sequence")}
    if name and name not in found:
        raise CvrError(f"--sequence={name}: the spec has no such feature of kind sequence; it has {', '.join(found) or 'none'}")
    if not name and len(found) != 1:
        raise CvrError(f"--sequence: the spec has {', '.join(found) or 'no sequence'}; pre-training needs one, name it")
    feature = found[name] if name else next(iter(found.values()))
    table, size = spec.embedding_of(feature)
    if feature.encoder.name != "decoder":
        raise CvrError(f"--encoder: {feature.encoder.name} cannot tell what comes next; give decoder, or {{name: decoder, layers: 4}}")
    if size.method == "hash" and (size.shrinkage or size.buckets < 2):
        reason = "its vectors are scaled by counts (shrinkage)" if size.shrinkage else "one row for all items tells none from another"
        raise CvrError(f"--sequence={feature.name}: table {table!r} cannot be pre-trained: {reason}; give another --spec")
    return feature


def build_generator(spec: FeatureSpec, config: GeneratorConfig, catalogue: np.ndarray) -> Generator:
    """Makes a generator and all its variables, weights drawn from `config.seed`."""
    tf.keras.utils.set_random_seed(config.seed)
    with precision(config.precision):
        generator = Generator(spec, config, catalogue)
        first = tf.constant([[transforms.FIRST_ID, transforms.FIRST_ID]], tf.int64)
        generator.losses_of({"item": first, "action": first, "target": tf.constant([[True, False]])}, tf.constant(0, tf.int64))
    return generator

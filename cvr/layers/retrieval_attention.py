"""Attention of an item over the events of a long history that are most like it, and over the most recent ones."""

from __future__ import annotations

import tensorflow as tf

from cvr.layers.event_attention import EventAttention
from cvr.layers.sim_hash import SimHash, differing_bits


@tf.keras.utils.register_keras_serializable("cvr")
class RetrievalAttention(tf.keras.layers.Layer):
    """ETA: out_i = [attention of i over its k nearest events; attention of i over the R most recent events] (2021; PAPERS 3.11).

        D_ik = number of bits in which the codes of item i and of event k's item differ (`SimHash`),  m + 1 at padding

    The k events with the smallest D_i are read, the more recent one first where distances are equal; padding only where there are fewer
    real ones, and then it is masked. Codes are those of the present vectors, made once per list and item at each call. No gradient passes
    through the choice: of the events only chosen and recent ones have one. Both attentions have weights of their own. `top_k` 0 leaves the
    first out, `recent` 0 the second. No tensor has an axis of items, one of events and one of width: distances are `[N, K]`, what is
    read of the events `[N, k, d]`.
    """

    def __init__(self, bits: int, top_k: int, recent: int, heads: int, seed: int = 0, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.bits, self.top_k, self.recent, self.heads, self.seed = bits, top_k, recent, heads, seed
        self._hash = SimHash(bits, seed, name="hash")
        self._nearest = EventAttention(heads, name="nearest")
        self._latest = EventAttention(heads, name="latest")

    def build(self, input_shape: tf.TensorShape) -> None:
        """Remembers the width of the vectors."""
        self.width = int(input_shape[-1])
        super().build(input_shape)

    def call(
        self, candidates: tf.Tensor, items: tf.Tensor, events: tf.Tensor, real: tf.Tensor, match: tf.Tensor, list_index: tf.Tensor
    ) -> tf.Tensor:
        """candidates `[N, d]`, items, events `[B, K, d]`, the most recent first, real bool `[B, K]`, match bool `[N, K]`,
        list_index `[N]` -> `[N, H d]`, with both attentions `[N, 2 H d]`."""
        return self.trace(candidates, items, events, real, match, list_index)["output"]

    def trace(
        self, candidates: tf.Tensor, items: tf.Tensor, events: tf.Tensor, real: tf.Tensor, match: tf.Tensor, list_index: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Each step by name: `distances` D float32 `[N, K]` and `nearest` `[N, H d]`, `latest` `[N, H d]`, `output`."""
        steps: dict[str, tf.Tensor] = {}
        if self.top_k:
            distances = steps["distances"] = self._distances(candidates, items, real, list_index)
            closeness, places = tf.math.top_k(-distances, min(self.top_k, events.shape[1]))
            own = _events_at(events, list_index, places), closeness >= -self.bits, tf.gather(match, places, batch_dims=1)
            steps["nearest"] = self._nearest(candidates, *own)
        if self.recent:
            last = (tf.gather(part[:, : self.recent], list_index) for part in (events, real))
            steps["latest"] = self._latest(candidates, *last, match[:, : self.recent])
        parts = [steps[name] for name in ("nearest", "latest") if name in steps]
        return {**steps, "output": tf.concat(parts, axis=1)}

    def _distances(self, candidates: tf.Tensor, items: tf.Tensor, real: tf.Tensor, list_index: tf.Tensor) -> tf.Tensor:
        """D. Word by word, so that no more than one gathered word of every event is held at a time."""
        own, others = self._hash(candidates), self._hash(items)
        words = range(others.shape[-1])
        total = tf.add_n([differing_bits(own[:, word, None], tf.gather(others[..., word], list_index)) for word in words])
        return tf.where(tf.gather(real, list_index), total, tf.constant(self.bits + 1.0))

    def list_multiply_adds(self, length: int) -> int:
        """Of a list with K events: K d m for their codes. Comparing codes takes no products."""
        return length * self._hash.multiply_adds(self.width) if self.top_k else 0

    def item_multiply_adds(self, length: int) -> int:
        """Of an item over K events: d m for its code, and both attentions over at most k and R of them. Needs a built layer."""
        code = self._hash.multiply_adds(self.width) if self.top_k else 0
        read = ((self._nearest, self.top_k), (self._latest, self.recent))
        return code + sum(attention.multiply_adds(min(most, length)) for attention, most in read if most)

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        names = ("bits", "top_k", "recent", "heads", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _events_at(events: tf.Tensor, list_index: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Each item's events at its own places: `[B, K, d]`, `[N]`, int32 `[N, k]` -> `[N, k, d]`."""
    length, width = events.shape[1:]
    rows = tf.cast(list_index, tf.int64)[:, None] * length + tf.cast(places, tf.int64)
    return tf.gather(tf.reshape(events, [-1, width]), rows)

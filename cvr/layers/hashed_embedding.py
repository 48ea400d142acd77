"""An embedding table addressed by full hashes."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from cvr import transforms


class HashedEmbedding(tf.keras.layers.Layer):
    """Looks up ids in a table of `buckets` + 4 rows (paper section 3.2, PAPERS R4, R33, R34).

    Row of an id: reserved ids 0..3 (padding, unseen, empty, unknown) have their own rows, others share `4 + (id - 4) mod buckets`, or,
    with a `vocabulary`, one row per listed value and UNKNOWN for the rest. Padding gives the zero vector and takes no gradient.
    """

    def __init__(self, buckets: int, dim: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.buckets, self.dim = buckets, dim

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes the table [buckets + 4, dim], uniform in ±0.05."""
        self.table = self.add_weight(
            "table", shape=[self.buckets + transforms.RESERVED_ROWS, self.dim], initializer="uniform", trainable=True
        )
        super().build(input_shape)

    def call(self, ids: tf.Tensor, vocabulary: Sequence[str] = ()) -> tf.Tensor:
        """int64 ids of any shape `[...]` -> `[..., dim]`."""
        rows = transforms.rows_of_vocabulary(ids, vocabulary) if vocabulary else transforms.rows_of_ids(ids, self.buckets)
        vectors = tf.gather(self.table, rows)
        return vectors * tf.cast(tf.not_equal(rows, transforms.PAD), vectors.dtype)[..., None]

    def mean_of_bags(self, values: tf.Tensor, rows: tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
        """Average of each bag's vectors (PAPERS R5): values int64 [M], their bag int32 [M] (ascending) -> `[count, dim]`.

        The average is over a bag's own ids, never over padding; a bag without ids (a padding row) gives the zero vector.
        """
        totals = tf.math.unsorted_segment_sum(self(values), rows, count)
        counts = tf.math.unsorted_segment_sum(tf.ones_like(rows, totals.dtype), rows, count)
        return tf.math.divide_no_nan(totals, counts[:, None])

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "buckets": self.buckets, "dim": self.dim}

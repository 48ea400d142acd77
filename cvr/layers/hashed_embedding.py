"""An embedding table with a row per hash, modulo its size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from cvr import transforms
from cvr.layers.id_embedding import IdEmbedding


@tf.keras.utils.register_keras_serializable("cvr")
class HashedEmbedding(IdEmbedding):
    """e = T[r],  r = 4 + (id - 4) mod buckets; with a `vocabulary` a row per listed value and UNKNOWN for the rest.

    With `shrinkage` k > 0 the vector of a row that the training lists read n times is

        e = n / (n + k) T[r]

    the posterior mean of n observations of T[r] under a prior of mean 0 that weighs as much as k of them. Rows that training never read
    give exactly 0. The table then starts at 0, the prior's mean: a random start would stay in rare rows as noise, which is what makes
    embeddings of rare ids harmful. Counts are a weight that is not trained, so they travel with every checkpoint and export.
    """

    def __init__(self, buckets: int, dim: int, shrinkage: float = 0.0, **kwargs: object) -> None:
        super().__init__(buckets, dim, **kwargs)
        self.shrinkage = shrinkage

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes the table [buckets + 4, dim], and with `shrinkage` the counts int64 [buckets + 4], 0 until `set_counts`."""
        self._make_table(self.dim, "zeros" if self.shrinkage else "uniform")
        if self.shrinkage:
            rows = self.buckets + transforms.RESERVED_ROWS
            self.counts = self.add_weight("counts", shape=[rows], dtype=tf.int64, initializer="zeros", trainable=False)
        super().build(input_shape)

    def rows(self, ids: tf.Tensor, vocabulary: Sequence[str] = ()) -> tf.Tensor:
        """Rows of ids, int64 of the same shape."""
        return transforms.rows_of_vocabulary(ids, vocabulary) if vocabulary else transforms.rows_of_ids(ids, self.buckets)

    def set_counts(self, counts: np.ndarray) -> None:
        """Stores how often training reads each row: int64 `[buckets + 4]`; padding has none."""
        self.counts.assign(np.where(np.arange(len(counts)) == transforms.PAD, 0, counts))

    def call(self, ids: tf.Tensor, vocabulary: Sequence[str] = ()) -> tf.Tensor:
        """int64 ids of any shape `[...]` -> `[..., dim]`."""
        return self.trace(ids, vocabulary)["output"]

    def trace(self, ids: tf.Tensor, vocabulary: Sequence[str] = ()) -> dict[str, tf.Tensor]:
        """Each step by name: `rows` `[...]`, with `shrinkage` `share` n / (n + k) `[...]`, `output` `[..., dim]`."""
        rows = self.rows(ids, vocabulary)
        vectors = self._vectors(self.table, rows)
        if not self.shrinkage:
            return {"rows": rows, "output": vectors}
        count = tf.cast(tf.nn.embedding_lookup(self.counts, rows), self.variable_dtype)
        share = count / (count + self.shrinkage)
        return {"rows": rows, "share": share, "output": vectors * tf.cast(share, vectors.dtype)[..., None]}

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "shrinkage": self.shrinkage}

"""What all ways of turning ids into vectors have in common."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from cvr import transforms


class IdEmbedding(tf.keras.layers.Layer):
    """Looks up full hashes in tables of `dim` wide vectors (paper section 3.2, PAPERS R4, R33, R34); a subclass says in which rows.

    Reserved ids 0..3 (padding, unseen, empty, unknown) have rows of their own in every method. Padding gives the zero vector and takes no
    gradient; gradients of the tables are sparse. With `trainable` False, set before a graph is traced, the tables take none at all.
    """

    def __init__(self, buckets: int, dim: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.buckets, self.dim = buckets, dim

    @property
    def tables(self) -> list[tf.Variable]:
        """The trainable tables; by default the one that `_make_table` made."""
        return [self.table]

    def _make_table(self, width: int, initializer: str = "uniform") -> None:
        """Makes `table` [buckets + 4, width], uniform in ±0.05 by default."""
        self.table = self._add_table("table", [self.buckets + transforms.RESERVED_ROWS, width], initializer)

    def _add_table(self, name: str, shape: Sequence[int], initializer: str | tf.keras.initializers.Initializer) -> tf.Variable:
        """A table that a mixed policy does not cast: that would be done to all of it at each step, whatever rows are looked up."""
        return self.add_weight(name, shape=shape, initializer=initializer, experimental_autocast=False)

    def _vectors(self, table: tf.Variable, rows: tf.Tensor) -> tf.Tensor:
        """Rows `[...]` of a table `[R, width]` in the layer's compute type -> `[..., width]`, zero for the row of padding."""
        # not tf.gather, which would fetch a whole table from parameter servers; an export's stored table looks up itself
        found = table.look_up(rows) if hasattr(table, "look_up") else tf.nn.embedding_lookup(table, rows)
        vectors = tf.cast(found if self.trainable else tf.stop_gradient(found), self.compute_dtype)
        return vectors * tf.cast(tf.not_equal(rows, transforms.PAD), vectors.dtype)[..., None]

    def mean_of_bags(
        self, values: tf.Tensor, rows: tf.Tensor, count: int | tf.Tensor, **options: str | Sequence[str]
    ) -> tf.Tensor:
        """Average of each bag's vectors (PAPERS R5): values int64 [M], their bag int32 [M] (ascending) -> `[count, dim]`.

        The average is over a bag's own ids, never over padding; a bag without ids (a padding row) gives the zero vector. `options` are
        those of the method's look-up.
        """
        vectors = tf.cast(self(values, **options), self.variable_dtype)  # sums of bfloat16 would lose the small ones
        totals = tf.math.unsorted_segment_sum(vectors, rows, count)
        counts = tf.math.unsorted_segment_sum(tf.ones_like(rows, totals.dtype), rows, count)
        return tf.cast(tf.math.divide_no_nan(totals, counts[:, None]), self.compute_dtype)

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "buckets": self.buckets, "dim": self.dim}

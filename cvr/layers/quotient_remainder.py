"""An embedding composed of two small tables."""

from __future__ import annotations

import tensorflow as tf

from cvr import transforms
from cvr.layers.id_embedding import IdEmbedding


@tf.keras.utils.register_keras_serializable("cvr")
class QuotientRemainder(IdEmbedding):
    """e = Q[i div c] * R[i mod c],  i = (id - 4) mod buckets, c = `collisions` (Shi et al., KDD'20: the product; PAPERS 3.13).

    ceil(buckets / c) + c rows give each of `buckets` codes a vector of its own, because i is told by quotient and remainder together. Q
    starts as a plain table does and R around 1, so that products start as large as a plain table's vectors, and codes of one quotient
    apart. Reserved ids have four more rows in both tables.
    """

    def __init__(self, buckets: int, dim: int, collisions: int = 4, **kwargs: object) -> None:
        super().__init__(buckets, dim, **kwargs)
        self.collisions = collisions

    @property
    def tables(self) -> list[tf.Variable]:
        """Q and R."""
        return [self.quotient, self.remainder]

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes Q [ceil(buckets / c) + 4, dim] and R [c + 4, dim]."""
        rows = -(-self.buckets // self.collisions) + transforms.RESERVED_ROWS
        self.quotient = self._add_table("quotient", [rows, self.dim], "uniform")
        rows, start = self.collisions + transforms.RESERVED_ROWS, tf.keras.initializers.RandomUniform(0.5, 1.5)
        self.remainder = self._add_table("remainder", [rows, self.dim], start)
        super().build(input_shape)

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """int64 ids of any shape `[...]` -> `[..., dim]`."""
        return self.trace(ids)["output"]

    def trace(self, ids: tf.Tensor) -> dict[str, tf.Tensor]:
        """Each step by name: rows `quotient_rows`, `remainder_rows` `[...]`, vectors `quotient`, `remainder`, `output` `[..., dim]`."""
        codes = transforms.rows_of_ids(ids, self.buckets)
        size = tf.constant(self.collisions, codes.dtype)
        real, first = codes >= transforms.FIRST_ID, transforms.FIRST_ID
        quotient_rows = tf.where(real, first + (codes - first) // size, codes)
        remainder_rows = tf.where(real, first + tf.math.floormod(codes - first, size), codes)
        quotient, remainder = self._vectors(self.quotient, quotient_rows), self._vectors(self.remainder, remainder_rows)
        steps = {"quotient_rows": quotient_rows, "remainder_rows": remainder_rows, "quotient": quotient, "remainder": remainder}
        return {**steps, "output": quotient * remainder}

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "collisions": self.collisions}

"""An embedding that is the sum of several rows."""

from __future__ import annotations

import tensorflow as tf

from cvr import transforms
from cvr.layers.id_embedding import IdEmbedding


@tf.keras.utils.register_keras_serializable("cvr")
class MultiHash(IdEmbedding):
    """e = sum_j T[h_j(id)] over `hashes` k hash functions into one table (Svenstrup et al., NeurIPS'17, without weights; PAPERS 3.13).

    Two ids have the same vector only where all their hashes collide: of n ids about n^2 / (2 buckets^k) pairs do, instead of
    n^2 / (2 buckets). h_j is `transforms.salted_rows`. A reserved id reads its own row, once.
    """

    def __init__(self, buckets: int, dim: int, hashes: int = 2, **kwargs: object) -> None:
        super().__init__(buckets, dim, **kwargs)
        self.hashes = hashes

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes the table [buckets + 4, dim]."""
        self._make_table(self.dim)
        super().build(input_shape)

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """int64 ids of any shape `[...]` -> `[..., dim]`."""
        return self.trace(ids)["output"]

    def trace(self, ids: tf.Tensor) -> dict[str, tf.Tensor]:
        """Each step by name: `rows` `[..., k]` (padding after the first for a reserved id), `output` `[..., dim]`."""
        rows = transforms.salted_rows(ids, self.buckets, "", self.hashes)
        once = (rows >= transforms.FIRST_ID) | (tf.range(self.hashes) == 0)
        rows = tf.where(once, rows, tf.constant(transforms.PAD, rows.dtype))
        return {"rows": rows, "output": tf.reduce_sum(self._vectors(self.table, rows), axis=-2)}

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "hashes": self.hashes}

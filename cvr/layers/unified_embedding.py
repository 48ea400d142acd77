"""One table for many features, each with hash functions of its own."""

from __future__ import annotations

import tensorflow as tf

from cvr import transforms
from cvr.layers.id_embedding import IdEmbedding


@tf.keras.utils.register_keras_serializable("cvr")
class UnifiedEmbedding(IdEmbedding):
    """e = [T[h_f1(id)]; ...; T[h_fk(id)]]: `hashes` k parts, looked up with hashes of feature f (Coleman et al., NeurIPS'23: feature
    multiplexing).

    All features share the rows, and values of different features collide as strangers do: an id has another vector in each feature, and
    projection weights tell them apart. The same mathematics as `UnifiedEmbedding` of TFRS with one table, which cannot be used here: it
    hashes reserved ids into live rows, wants TPU optimizers, hashes through strings (not under XLA) and has no configuration to save.
    A reserved id has its own row in every part, the same in all features.
    """

    def __init__(self, buckets: int, dim: int, hashes: int = 2, **kwargs: object) -> None:
        super().__init__(buckets, dim, **kwargs)
        if dim % hashes:
            raise ValueError(f"{hashes} parts do not make a vector of width {dim}: the width must be a multiple of them")
        self.hashes = hashes

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes the table [buckets + 4, dim / k]."""
        self._make_table(self.dim // self.hashes)
        super().build(input_shape)

    def call(self, ids: tf.Tensor, feature: str = "") -> tf.Tensor:
        """int64 ids of any shape `[...]` -> `[..., dim]`."""
        return self.trace(ids, feature)["output"]

    def trace(self, ids: tf.Tensor, feature: str = "") -> dict[str, tf.Tensor]:
        """Each step by name: `rows` `[..., k]`, `parts` `[..., k, dim / k]`, `output` `[..., dim]`."""
        rows = transforms.salted_rows(ids, self.buckets, feature, self.hashes)
        parts = self._vectors(self.table, rows)
        return {"rows": rows, "parts": parts, "output": tf.reshape(parts, [*tf.unstack(tf.shape(ids)), self.dim])}

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "hashes": self.hashes}

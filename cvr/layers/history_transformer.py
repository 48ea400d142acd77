"""A behaviour sequence read by a Transformer encoder."""

from __future__ import annotations

import tensorflow as tf

from cvr.layers.encoder_block import EncoderBlock
from cvr.layers.history_mean import shares_of


@tf.keras.utils.register_keras_serializable("cvr")
class HistoryTransformer(tf.keras.layers.Layer):
    """h = mean over real events of LN(E(x))_k,  x_k = e_k + p_k; a learned vector for an empty history (PAPERS R6).

    p_k is a learned vector of place k, 0 being the most recent event, and E are `layers` encoder layers (norm first) of `heads` heads as
    wide as an event and an inner width of 4 d. Padding is neither attended to nor averaged. An unseen history is one event of the reserved
    item UNSEEN, so it differs from an empty one.
    """

    def __init__(self, length: int, heads: int = 2, layers: int = 1, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.length, self.heads, self.layers = length, heads, layers

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes the places [length, d], the encoder layers, the last norm and the vector of the empty history [d]."""
        width = int(input_shape[-1])
        self.places = self.add_weight("places", shape=[self.length, width], initializer="uniform")
        self.empty = self.add_weight("empty", shape=[width], initializer="uniform")
        self._blocks = [EncoderBlock(self.heads, width, 4 * width, name=f"block_{i}") for i in range(self.layers)]
        self._norm = tf.keras.layers.LayerNormalization(name="norm")
        self.width = width
        super().build(input_shape)

    def call(self, events: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
        """events `[B, K, d]`, most recent first, real bool `[B, K]`, at most `length` of a list -> `[B, d]`."""
        return self.trace(events, real)["output"]

    def trace(self, events: tf.Tensor, real: tf.Tensor) -> dict[str, tf.Tensor]:
        """Each step by name: `placed` x, `encoded` LN(E(x)) `[B, K, d]`, `output` `[B, d]`. What stands at padding means nothing."""
        count = events.shape[1]
        places = tf.pad(self.places, [[0, max(0, count - self.length)], [0, 0]])[:count]
        placed = events + tf.cast(places, events.dtype)
        hidden = placed
        for block in self._blocks:
            hidden = block(hidden, visible=real)
        encoded = self._norm(hidden)
        mean = tf.linalg.matvec(encoded, shares_of(real, encoded.dtype), transpose_a=True)
        output = tf.where(tf.reduce_any(real, axis=1, keepdims=True), mean, tf.cast(self.empty, mean.dtype))
        return {"placed": placed, "encoded": encoded, "output": output}

    def list_multiply_adds(self, length: int) -> int:
        """Of a list with K events: the encoder layers', on K tokens of width d, and K d for the mean."""
        return sum(block.multiply_adds(length, self.width) for block in self._blocks) + length * self.width

    def item_multiply_adds(self, length: int) -> int:
        """Of an item: none, the vector is the list's."""
        return 0

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "length": self.length, "heads": self.heads, "layers": self.layers}

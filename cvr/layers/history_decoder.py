"""A behaviour sequence read by a decoder-only Transformer."""

from __future__ import annotations

import tensorflow as tf

from cvr.layers.building import build_all
from cvr.layers.decoder_block import DecoderBlock
from cvr.layers.rms_norm import RMSNorm


@tf.keras.utils.register_keras_serializable("cvr")
class HistoryDecoder(tf.keras.layers.Layer):
    """h = RMS(D(e_K, ..., e_1, [i])): decoder layers D over the events from the oldest to the most recent (GPSD, KDD'25; PAPERS 3.12).

    Two ways to read: without candidates the state after each event, from which the next one can be told (pre-training); with candidates
    the state of each candidate, as if it came right after the most recent event. Candidates see the history and themselves, not each
    other, so that a list's history is encoded once and scores do not depend on what else is in the list. Places count from the oldest
    slot; only differences matter, so padding, which is never seen, moves nothing. An event has the vector of its action, a candidate has
    none: that is what tells them apart, in place of the original's segment vectors.
    """

    def __init__(self, heads: int = 2, layers: int = 2, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.heads, self.layers = heads, layers
        self._blocks = [DecoderBlock(heads, name=f"block_{i}") for i in range(layers)]
        self._norm = RMSNorm(name="norm")

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes the layers for events of width d."""
        self.width = int(input_shape[-1])
        build_all([*self._blocks, self._norm], input_shape)
        super().build(input_shape)

    def call(
        self, events: tf.Tensor, real: tf.Tensor, candidates: tf.Tensor | None = None, list_index: tf.Tensor | None = None
    ) -> tf.Tensor:
        """events `[B, K, d]`, the most recent first, real bool `[B, K]` -> `[B, K, d]`, states in the order of the events.

        With candidates `[N, d]` of the lists `list_index` `[N]` -> `[N, d]`. States at padding mean nothing.
        """
        return self.trace(events, real, candidates, list_index)["output"]

    def trace(
        self, events: tf.Tensor, real: tf.Tensor, candidates: tf.Tensor | None = None, list_index: tf.Tensor | None = None
    ) -> dict[str, tf.Tensor]:
        """Each step by name: `block_<i>`, what each layer makes of events or candidates, and `output`."""
        tokens, visible = tf.reverse(events, [1]), tf.reverse(real, [1])
        if candidates is not None:
            return self._read(tokens, visible, candidates, list_index)
        steps = {}
        for block in self._blocks:
            tokens = block(tokens, visible)
            steps[block.name] = tf.reverse(tokens, [1])
        return {**steps, "output": self._norm(tf.reverse(tokens, [1]))}

    def _read(self, tokens: tf.Tensor, visible: tf.Tensor, candidates: tf.Tensor, list_index: tf.Tensor) -> dict[str, tf.Tensor]:
        steps, seen = {}, tf.gather(visible, list_index)
        for place, block in enumerate(self._blocks):
            memory = block.remember(tokens)
            mine = type(memory)(*(tf.gather(part, list_index) for part in memory))
            candidates = block.read(candidates, mine, seen)
            steps[block.name] = candidates
            if place + 1 < self.layers:  # nobody reads what the last layer makes of the events
                tokens = block(tokens, visible, memory)
        return {**steps, "output": self._norm(candidates)}

    def list_multiply_adds(self, length: int) -> int:
        """Of a list with K events, for candidates: all layers but the last on K tokens, and what the last one remembers."""
        layers = sum(block.multiply_adds(length, self.width) for block in self._blocks[:-1])
        return layers + self._blocks[-1].remember_multiply_adds(length)

    def item_multiply_adds(self, length: int) -> int:
        """Of a candidate: each layer's read of K events."""
        return sum(block.read_multiply_adds(length) for block in self._blocks)

    def sequence_multiply_adds(self, length: int) -> int:
        """Of a sequence without candidates: all layers on K tokens."""
        return sum(block.multiply_adds(length, self.width) for block in self._blocks)

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "heads": self.heads, "layers": self.layers}

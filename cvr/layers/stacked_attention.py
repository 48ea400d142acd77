"""Behaviour sequences and candidates read by a stack of unified attention blocks."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from cvr.layers.initial import normal
from cvr.layers.profile_tokens import ProfileTokens
from cvr.layers.relative_bias import RelativeBias
from cvr.layers.rms_norm import RMSNorm
from cvr.layers.sparse_pattern import sparse_pattern
from cvr.layers.unified_attention import UnifiedAttention
from cvr.layers.unified_costs import UnifiedCosts
from cvr.layers.unified_factors import UnifiedFactors

HIDDEN = -1e9
"""Bias of a pair that does not count."""


@tf.keras.utils.register_keras_serializable("cvr")
class StackedAttention(tf.keras.layers.Layer):
    """SUAN and LightSUAN (2025; PAPERS 3.8): out_n is what `layers` blocks make of candidate n, which reads its list's history.

        x_k = W e_k + p_{k+1},   x_n = W q_n + p_0,   out_n = UAB( ... UAB(x_n; x_0, .., x_{K-1}, profile))

    W brings events and candidates to the `width`; p has learned vectors of the candidate and of each place, 0 being the most recent
    event, so that padding, which is last, moves nothing. Age is in the events' vectors and in `RelativeBias`, where the candidate is
    0 seconds old. With residual `clean` a last RMS norm follows. With an empty history a candidate sees itself alone; no id is masked, not
    even that of padding, and items of padding come out like others.
    """

    def __init__(self, length: int, factors: UnifiedFactors, **kwargs: object) -> None:
        """`length` K of histories; `factors` may be their `as_dict`."""
        super().__init__(**kwargs)
        self.length, self.factors = length, UnifiedFactors.of(factors)

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes W [d, D] (`tokens`), p [K + 1, D] (`places`), the bias, the profile's tokens, the blocks and the last norm."""
        factors, self._dim = self.factors, int(input_shape[-1])
        start = tf.keras.initializers.RandomNormal(stddev=0.02)
        self.places = self.add_weight("places", shape=[self.length + 1, factors.width], initializer=start)
        kernel = normal(self._dim, 1.0)
        self._tokens = tf.keras.layers.Dense(factors.width, use_bias=False, kernel_initializer=kernel, name="tokens")
        self._bias = RelativeBias(self.length, factors.time_buckets, name="bias")
        self._profile = ProfileTokens(factors.width, name="profile")
        count = factors.layers
        self._blocks = [UnifiedAttention(factors, last=i == count - 1, name=f"block_{i}") for i in range(count)]
        self._norm = RMSNorm(1e-6, name="norm") if factors.residual == "clean" else None
        super().build(input_shape)

    def call(
        self,
        candidates: tf.Tensor,
        events: tf.Tensor,
        real: tf.Tensor,
        age: tf.Tensor,
        match: tf.Tensor,
        list_index: tf.Tensor,
        profile: Sequence[tf.Tensor] = (),
    ) -> tf.Tensor:
        """candidates `[N, d]`, events `[B, K, d]`, the most recent first, real bool and age in seconds `[B, K]`, match bool `[N, K]`,
        list_index int32 `[N]`, profile `[B, w_f]` each -> `[N, D]`. Padding may follow the first `length` events, events may not."""
        return self.trace(candidates, events, real, age, match, list_index, profile)["output"]

    def trace(
        self,
        candidates: tf.Tensor,
        events: tf.Tensor,
        real: tf.Tensor,
        age: tf.Tensor,
        match: tf.Tensor,
        list_index: tf.Tensor,
        profile: Sequence[tf.Tensor] = (),
    ) -> dict[str, tf.Tensor]:
        """Each step by name: `tokens` x_k `[B, K, D]`, `candidates` x_n, `block_<i>` what each block makes of them, `output` `[N, D]`."""
        places = tf.cast(self.places, events.dtype)
        empty = [[0, max(0, events.shape[1] - self.length)], [0, 0]]
        history = self._tokens(events) + tf.pad(places[1:], empty)[: events.shape[1]]
        hidden = self._tokens(candidates) + places[0]
        tokens = self._profile(list(profile)) if profile else None
        bias, own_bias = self._biases(real, age)
        steps, index = {"tokens": history, "candidates": hidden}, list_index
        for i, block in enumerate(self._blocks):
            hidden, history = block(hidden, history, own_bias, match, real, bias, tokens, index)
            steps[f"block_{i}"] = hidden
            if i == 0 and not block.last and self.factors.gate == "sample" and tokens is not None:  # a history for each item from here on
                real, own_bias, tokens, *bias = (tf.gather(part, list_index) for part in (real, own_bias, tokens, *bias))
                index = None
        return {**steps, "output": hidden if self._norm is None else self._norm(hidden)}

    def _biases(self, real: tf.Tensor, age: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
        """b_k of histories, part by part `[B, 1, G, Lq, Lk]`, and b_n of candidates `[B, K + 1]`."""
        length, count = real.shape[1], tf.shape(age)[0]
        zero = tf.zeros([count, 1], age.dtype)
        distance = tf.concat([tf.range(1, length + 1), [0]], axis=0)[None]
        own = self._bias(zero, tf.concat([age, zero], axis=1), distance)[:, 0]
        own = _shown(tf.pad(real, [[0, 0], [0, 1]], constant_values=True), own)
        if not any(block.needs_history(self._has_profile) for block in self._blocks):
            return [], own
        found = []
        for part in sparse_pattern(length, self.factors.window, self.factors.dilation):
            bias = self._bias(part.queries(age[:, None]), part.keys(age[:, None]), tf.constant(part.distance, tf.int32))
            visible = tf.logical_and(part.keys(real[:, None])[..., None, :], part.allowed)
            found.append(_shown(visible, bias))
        return found, own

    @property
    def _has_profile(self) -> bool:
        return self._profile.built

    def _costs(self, length: int) -> UnifiedCosts:
        return UnifiedCosts(self.factors, length, self._profile.tokens if self._has_profile else 0)

    def list_multiply_adds(self, length: int) -> int:
        """Of a list: K d D for its tokens, sum_f w_f D for the profile's, its share of the blocks (`UnifiedCosts`). Needs a built layer."""
        own = length * self._dim * self.factors.width + (self._profile.multiply_adds() if self._has_profile else 0)
        return own + self._costs(length).per_list

    def item_multiply_adds(self, length: int) -> int:
        """Of an item: d D for its token, and its share of the blocks. Needs a built layer."""
        return self._dim * self.factors.width + self._costs(length).per_item

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "length": self.length, "factors": self.factors.as_dict()}


def _shown(visible: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    return tf.where(visible, bias, tf.constant(HIDDEN, bias.dtype))

"""The unified attention block: self-attention, cross-attention to a profile, a gate between both, and a gated network."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from cvr.layers.candidate_attention import CandidateAttention
from cvr.layers.dual_alignment import DualAlignment
from cvr.layers.profile_attention import ProfileAttention
from cvr.layers.rms_norm import RMSNorm
from cvr.layers.swi_glu import SwiGLU
from cvr.layers.unified_factors import UnifiedFactors

Steps = dict[str, tf.Tensor]


@tf.keras.utils.register_keras_serializable("cvr")
class UnifiedAttention(tf.keras.layers.Layer):
    """UAB of SUAN (2025; PAPERS 3.8), on histories X `[R, K, D]` and the candidates x `[N, D]` that share them, the same for both.

        residual code      x' = N_1(x),  y = x' + Att(x'),  h = N_2(y),  f = Gate(h, c),  z = N_3(h + f),  out = z + SwiGLU(z)
        residual clean     x' = N_1(x),  y = x  + Att(x'),  h = N_2(y),  f = Gate(h, c),  z = y + f,       out = z + SwiGLU(N_3(z))

    N are RMS norms, 1e-6 inside the root (SUAN's code has it outside; the two differ only for vectors near 0, where that one's slope is
    a thousand times as steep). c = Cross(h, profile), f = g h + (1 - g) c with g of `DualAlignment` on a sum s:

        gate sample        s = mean over the real events of a history and its candidate of h + c, one for all of them, as in SUAN's code
        gate position      s = h + c of each token

    With `sample` a history depends on its candidate from the first gate on: what comes out is one for each candidate. Without a profile
    there is no gate, and f = h. The inner width of SwiGLU is `hidden` D. The `last` block of a stack gives no history.
    """

    def __init__(self, factors: UnifiedFactors, last: bool = False, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.factors, self.last = UnifiedFactors.of(factors), last
        factors = self.factors
        self._attention = CandidateAttention(factors.heads, factors.window, factors.dilation, factors.tile, name="attention")
        self._cross = ProfileAttention(factors.heads, factors.tile, name="cross")
        self._gate = DualAlignment(name="gate")
        self._feed = SwiGLU(factors.hidden * factors.width, bias=True, name="feed")
        self._norms = [RMSNorm(1e-6, name=f"norm_{i}") for i in range(3)]

    def needs_history(self, has_profile: bool) -> bool:
        """Whether what becomes of the history is read by anything, so that `bias` is needed."""
        return not self.last or (self.factors.gate == "sample" and has_profile)

    def call(
        self,
        candidates: tf.Tensor,
        history: tf.Tensor,
        candidate_bias: tf.Tensor,
        match: tf.Tensor,
        real: tf.Tensor,
        bias: Sequence[tf.Tensor] = (),
        profile: tf.Tensor | None = None,
        list_index: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """-> candidates `[N, D]` and histories `[R, K, D]`, with `sample` and a profile `[N, K, D]`, None of the last block.

        profile `[R, P, D]`, real bool `[R, K]`, the others as in `CandidateAttention`.
        """
        steps = self.trace(candidates, history, candidate_bias, match, real, bias, profile, list_index)
        return steps["output"], steps.get("history_output")

    def trace(
        self,
        candidates: tf.Tensor,
        history: tf.Tensor,
        candidate_bias: tf.Tensor,
        match: tf.Tensor,
        real: tf.Tensor,
        bias: Sequence[tf.Tensor] = (),
        profile: tf.Tensor | None = None,
        list_index: tf.Tensor | None = None,
    ) -> Steps:
        """Each step by name: `attended`, `middle` h, `crossed` c, `mixed` f and `output`, and those of the history as `history_...`."""
        first, second, _ = self._norms
        normed, normed_history = first(candidates), first(history)
        bias = bias if self.needs_history(profile is not None) else ()
        attended, attended_history = self._attention(normed, normed_history, candidate_bias, match, bias, list_index)
        clean = self.factors.residual == "clean"
        steps = {"attended": attended, "summed": attended + (candidates if clean else normed)}
        if attended_history is not None:
            steps["history_attended"] = attended_history
            steps["history_summed"] = attended_history + (history if clean else normed_history)
        steps |= {name.replace("summed", "middle"): second(value) for name, value in steps.items() if name.endswith("summed")}
        steps |= self._mix(steps, profile, real, list_index)
        return {name: value for name, value in {**steps, **self._out(steps)}.items() if not name.endswith("summed")}

    def _mix(self, steps: Steps, profile: tf.Tensor | None, real: tf.Tensor, list_index: tf.Tensor | None) -> Steps:
        """c and f; with `sample` also the history's h and y, one for each candidate."""
        middle, history = steps["middle"], steps.get("history_middle")
        if profile is None:
            return {"mixed": middle} if history is None else {"mixed": middle, "history_mixed": history}
        crossed, history_crossed = self._cross(middle, profile, history, list_index)
        found = {"crossed": crossed}
        if history is None:
            return {**found, "mixed": _blend(self._gate(middle + crossed), middle, crossed)}
        found["history_crossed"] = history_crossed
        if self.factors.gate == "position":
            found["mixed"] = _blend(self._gate(middle + crossed), middle, crossed)
            shared = _blend(self._gate(history + history_crossed), history, history_crossed)
            return {**found, "history_mixed": shared}
        share = self._gate(self._pooled(middle + crossed, history + history_crossed, real, list_index))
        found["mixed"] = _blend(share, middle, crossed)
        if not self.last:
            every = {name: _of_items(steps[name], list_index) for name in ("history_summed", "history_middle")}
            mixed = _blend(share[:, None], every["history_middle"], _of_items(history_crossed, list_index))
            found |= {**every, "history_mixed": mixed}
        return found

    def _pooled(self, own: tf.Tensor, history: tf.Tensor, real: tf.Tensor, list_index: tf.Tensor | None) -> tf.Tensor:
        """s of each candidate: the mean of its own sum and those of the real events, summed in float32."""
        weights = tf.cast(real, self.variable_dtype)
        total = tf.reduce_sum(tf.cast(history, self.variable_dtype) * weights[..., None], axis=1)
        count = tf.reduce_sum(weights, axis=1, keepdims=True)
        total, count = _of_items(total, list_index), _of_items(count, list_index)
        return tf.cast((total + tf.cast(own, total.dtype)) / (count + 1.0), own.dtype)

    def _out(self, steps: Steps) -> Steps:
        """z and the network, of candidates and, but for the last block, of histories."""
        found = {}
        for prefix in ("",) if self.last else ("", "history_"):
            middle, mixed, summed = (steps[f"{prefix}{name}"] for name in ("middle", "mixed", "summed"))
            if self.factors.residual == "clean":
                total = summed + mixed
                found[f"{prefix}output"] = total + self._feed(self._norms[2](total))
            else:
                total = self._norms[2](middle + mixed)
                found[f"{prefix}output"] = total + self._feed(total)
        return found

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "factors": self.factors.as_dict(), "last": self.last}


def _blend(share: tf.Tensor, first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    return share * first + (1.0 - share) * second


def _of_items(values: tf.Tensor, list_index: tf.Tensor | None) -> tf.Tensor:
    """Of lists `[R, ...]` -> of items `[N, ...]`."""
    return values if list_index is None else tf.gather(values, list_index)

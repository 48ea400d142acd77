"""How a DHEN layer joins its members."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

ENSEMBLES = ("concat", "sum", "weighted_sum")


@tf.keras.utils.register_keras_serializable("cvr")
class Ensemble(tf.keras.layers.Layer):
    """Y = LN( Ensemble_i(u_i) + ShortCut(x) ) for members' outputs u_i and the layer's input x (DHEN, KDD'22; PAPERS 3.5).

        concat  [u_1; ...; u_K]        sum  sum_i u_i        weighted_sum  sum_i w_i u_i, w learned, 1 / K at the start

    Every u_i is `tokens` l embeddings of `width` d side by side; a member of another width is mapped to l d linearly. The shortcut is x
    itself where it is as wide as Y, else W x. The norm is over the d numbers of each embedding. Shortcut and norm can be left out.
    """

    def __init__(
        self, kind: str, tokens: int, width: int, shortcut: bool = True, layer_norm: bool = True, **kwargs: object
    ) -> None:
        super().__init__(**kwargs)
        if kind not in ENSEMBLES:
            raise ValueError(f"an ensemble is {', '.join(ENSEMBLES)}, not {kind!r}")
        self.kind, self.tokens, self.width = kind, tokens, width
        self.shortcut, self.layer_norm = shortcut, layer_norm

    def output_width(self, members: int) -> int:
        """Width of Y for so many members."""
        return self.tokens * self.width * (members if self.kind == "concat" else 1)

    def build(self, input_shape: Sequence[tf.TensorShape]) -> None:
        """Makes the maps, the weights, the shortcut and the norm; shapes are those of x and of the members."""
        first, *members = (int(shape[-1]) for shape in input_shape)
        each, whole = self.tokens * self.width, self.output_width(len(members))
        self._maps = [None if size == each else tf.keras.layers.Dense(each, name=f"map_{i}") for i, size in enumerate(members)]
        if self.kind == "weighted_sum":
            start = tf.keras.initializers.Constant(1.0 / len(members))
            self.weight = self.add_weight("weight", shape=[len(members)], initializer=start)
        is_mapped = self.shortcut and first != whole
        self._short = tf.keras.layers.Dense(whole, use_bias=False, name="shortcut") if is_mapped else None
        self._norm = tf.keras.layers.LayerNormalization(name="norm") if self.layer_norm else None
        super().build(input_shape)

    def call(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        """(x `[N, D0]`, u_1 `[N, D1]`, ..., u_K `[N, DK]`) -> Y `[N, l d]`, `[N, K l d]` for concat."""
        return self.trace(inputs)["output"]

    def trace(self, inputs: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
        """Each step by name: `member_0`, ... `[N, l d]`, `joined`, `summed` (with the shortcut) and `output`, all as wide as Y."""
        first, *members = inputs
        members = [layer(member) if layer else member for layer, member in zip(self._maps, members, strict=True)]
        steps = {f"member_{i}": member for i, member in enumerate(members)}
        steps["joined"] = self._join(members)
        shortcut = (self._short(first) if self._short else first) if self.shortcut else tf.zeros_like(steps["joined"])
        steps["summed"] = steps["joined"] + shortcut
        return {**steps, "output": self._normalise(steps["summed"])}

    def _join(self, members: Sequence[tf.Tensor]) -> tf.Tensor:
        if self.kind == "concat":
            return tf.concat(members, axis=1)
        if self.kind == "sum":
            return tf.add_n(members)
        return tf.add_n([weight * member for weight, member in zip(tf.unstack(self.weight), members, strict=True)])

    def _normalise(self, values: tf.Tensor) -> tf.Tensor:
        if not self._norm:
            return values
        return tf.reshape(self._norm(tf.reshape(values, [-1, values.shape[1] // self.width, self.width])), [-1, values.shape[1]])

    def multiply_adds(self, first: int, members: Sequence[int]) -> int:
        """Of one row with x of width `first` and members of the given widths: the maps and the shortcut that are not the identity."""
        each, whole = self.tokens * self.width, self.output_width(len(members))
        short = first * whole if self.shortcut and first != whole else 0
        return sum(size * each for size in members if size != each) + short

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        names = ("kind", "tokens", "width", "shortcut", "layer_norm")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

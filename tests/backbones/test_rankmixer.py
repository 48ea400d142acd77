"""RankMixer: its parts in order, and sparse experts: which rows take which router, and that training ends at the budget."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.backbones.rankmixer import Backbone, Config
from tests.layers.case import weights_of
from tests.layers.references import dense, gelu, norm, relu

SMALL = {"model_width": 4, "tokens": 2, "layers": 2, "ffn_width": 5}
X = tf.constant(np.random.default_rng(0).random((6, 8)), tf.float32)


def _build(**factors: object) -> Backbone:
    backbone = Backbone(Config(**{**SMALL, **factors}))
    backbone({"tokens": X})
    return backbone


def test_equals_the_equations() -> None:
    backbone = _build()
    weights = {name: variable.numpy().astype(np.float64) for name, variable in weights_of(backbone).items()}
    flat = dense(weights, "tokens/last", relu(dense(weights, "tokens/hidden_0", X.numpy().astype(np.float64))))
    tokens = flat.reshape(6, 2, 4)
    for block in ("block_0", "block_1"):
        mixed = np.stack([np.concatenate([tokens[:, t, 2 * h : 2 * h + 2] for t in (0, 1)], axis=1) for h in (0, 1)], axis=1)
        middle = norm(weights, f"{block}/norm_0", mixed + tokens)
        up, down = (weights[f"{block}/ffn/{name}"] for name in ("up", "down"))
        fed = [gelu(middle[:, t] @ up[t] + weights[f"{block}/ffn/up_bias"][t]) @ down[t] for t in (0, 1)]
        fed = np.stack([fed[t] + weights[f"{block}/ffn/down_bias"][t] for t in (0, 1)], axis=1)
        tokens = norm(weights, f"{block}/norm_1", fed + middle)
    np.testing.assert_allclose(backbone({"tokens": X}), tokens.mean(axis=1), rtol=1e-4, atol=1e-5)


def test_published_parameters_and_cost_of_the_layers() -> None:
    """2 k L T D^2 parameters and as many multiply-adds, k the expansion of the feed-forward network (PAPERS 3.3)."""
    backbone = Backbone(Config(model_width=32, tokens=8, layers=3, ffn_width=4 * 32, token_layers=0))
    assert backbone.multiply_adds() == 2 * 4 * 3 * 8 * 32**2
    backbone({"tokens": tf.ones([1, 256])})
    kernels = [v for v in backbone.trainable_variables if v.name.split("/")[-1] in ("up:0", "down:0")]
    assert sum(int(np.prod(v.shape)) for v in kernels) == 2 * 4 * 3 * 8 * 32**2


def test_rows_alternate_between_the_routers_and_keep_theirs_in_all_layers() -> None:
    """With the first router switched off, exactly the rows that take it change; at the next step the others."""
    moved = []
    for first in (0, 1):
        backbone = _build(ffn_experts=3)
        backbone._steps.assign(first)
        before = backbone({"tokens": X}, training=True).numpy()
        for block in backbone._blocks:
            block.ffn.train_kernel.assign(tf.zeros_like(block.ffn.train_kernel))
        backbone._steps.assign(first)
        moved.append((np.abs(backbone({"tokens": X}, training=True) - before).max(axis=1) > 0).tolist())
    assert moved == [[False, True] * 3, [True, False] * 3]


def test_training_mode_alone_penalises_and_counts() -> None:
    backbone = _build(ffn_experts=3)
    assert not backbone.losses and int(backbone._steps) == 0
    backbone({"tokens": X}, training=True)
    assert len(backbone.losses) == 2 and int(backbone._steps) == 1  # one penalty per layer
    dense_network = _build()
    dense_network({"tokens": X}, training=True)
    assert not dense_network.losses


@pytest.mark.parametrize("average", [False, True])
def test_training_ends_at_the_budget_with_both_routers_alive(average: bool) -> None:
    """A target that needs another formula in each of three regions: after training, a quarter of the experts works at inference, within a
    tenth, the sparse router solves the task as the dense one does, and neither has collapsed."""
    tf.keras.utils.set_random_seed(1)
    factors = {"model_width": 8, "tokens": 4, "layers": 1, "ffn_width": 16, "token_layers": 1, "activation": "relu"}
    backbone = Backbone(Config(**factors, ffn_experts=4, active_share=0.25, expert_average=average))
    head = tf.keras.layers.Dense(1)
    source = np.random.default_rng(0)
    x = tf.constant(source.normal(0, 1, (512, 32)), tf.float32)
    target = tf.where(x[:, :1] > 0, x[:, 1:2] * x[:, 2:3], tf.where(x[:, 3:4] > 0, x[:, 4:5], -x[:, 5:6]))
    optimizer = tf.keras.optimizers.Adam(0.01)

    @tf.function(autograph=False)
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            error = tf.reduce_mean((head(backbone({"tokens": x}, training=True)) - target) ** 2)
            total = error + tf.add_n(backbone.losses)
        variables = backbone.trainable_variables + head.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(total, variables), variables, strict=True))
        return error

    first = float(step())
    for _ in range(500):
        step()
    assert float(backbone._blocks[0].ffn.share) == pytest.approx(0.25, rel=0.1)
    tokens = backbone._blocks[0].trace(backbone._tokens(x))["middle"]
    outputs = [backbone._blocks[0].ffn.trace(tokens, rows)["output"] for rows in (None, tf.ones([512], tf.bool))]
    assert np.corrcoef(*(output.numpy().ravel() for output in outputs))[0, 1] > 0.2
    errors = [float(tf.reduce_mean((head(_finish(backbone, tokens, output)) - target) ** 2)) for output in outputs]
    assert max(errors) < 0.05 * first
    at_inference = float(tf.reduce_mean((head(backbone({"tokens": x})) - target) ** 2))
    assert at_inference == pytest.approx(errors[0], rel=1e-3)


def _finish(backbone: Backbone, middle: tf.Tensor, fed: tf.Tensor) -> tf.Tensor:
    """The hidden representation from the last layer's S and FFN(S)."""
    return tf.reduce_mean(backbone._blocks[-1]._norms[1](middle + fed), axis=1)


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"layers": 0}, "at least 1"),
        ({"model_width": 60}, "model_width 60 must be a multiple of tokens 16"),
        ({"active_share": 0.0}, "above 0 and at most 1, not 0.0"),
        ({"pooling": "max"}, "pooling is mean or flatten"),
        ({"activation": "tanh"}, "activation is relu or gelu"),
    ],
)
def test_wrong_factors(factors: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**factors)

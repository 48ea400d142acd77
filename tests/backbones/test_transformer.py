"""The Transformer backbone: its parts in order, the norm's place, pooling, and what each factor costs."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.backbones.transformer import Backbone, Config
from tests.layers.case import weights_of
from tests.layers.references import dense, norm, relu
from tests.layers.test_encoder_block import encode

SMALL = {"model_width": 4, "tokens": 3, "layers": 2, "heads": 2, "ffn_width": 5}
X = tf.constant(np.random.default_rng(0).random((5, 12)), tf.float32)


def _build(**factors: object) -> Backbone:
    backbone = Backbone(Config(**{**SMALL, **factors}))
    backbone({"tokens": X})
    source = np.random.default_rng(1)
    for variable in backbone.trainable_variables:
        variable.assign(source.normal(1.0 if "gamma" in variable.name else 0.0, 0.5, variable.shape))
    return backbone


@pytest.mark.parametrize("kind", ["pre", "post"])
@pytest.mark.parametrize("pooling", ["mean", "flatten"])
def test_equals_the_equations(kind: str, pooling: str) -> None:
    backbone = _build(norm=kind, pooling=pooling)
    weights = {name: variable.numpy().astype(np.float64) for name, variable in weights_of(backbone).items()}
    x = X.numpy().astype(np.float64)
    tokens = dense(weights, "tokens/last", relu(dense(weights, "tokens/hidden_0", x))).reshape(5, 3, 4)
    for name in ("block_0/", "block_1/"):
        inside = {key.removeprefix(name): value for key, value in weights.items() if key.startswith(name)}
        tokens = encode(inside, tokens, 2, kind)["output"]
    tokens = norm(weights, "norm", tokens) if kind == "pre" else tokens
    expected = tokens.mean(axis=1) if pooling == "mean" else tokens.reshape(5, 12)
    np.testing.assert_allclose(backbone({"tokens": X}), expected, rtol=1e-4, atol=1e-5)


def test_without_token_layers_permuted_tokens_change_nothing() -> None:
    """Attention and mean pooling see a set; only the token layers know the places."""
    free, bound = _build(token_layers=0), _build(token_layers=1)
    permuted = tf.reshape(tf.gather(tf.reshape(X, [5, 3, 4]), [2, 0, 1], axis=1), [5, 12])
    np.testing.assert_allclose(free({"tokens": permuted}), free({"tokens": X}), rtol=1e-4, atol=1e-5)
    assert np.abs(bound({"tokens": permuted}) - bound({"tokens": X})).max() > 1e-2


def test_a_head_costs_the_same_however_many_there_are() -> None:
    one, two, four = (Backbone(Config(heads=heads)).multiply_adds() for heads in (1, 2, 4))
    assert four - two == 2 * (two - one) == 2 * 2 * (4 * 16 * 32 * 32 + 2 * 16 * 16 * 32)


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"heads": 0}, "at least 1"),
        ({"head_width": -1}, "at least 0"),
        ({"norm": "both"}, "norm is pre or post, not 'both'"),
        ({"pooling": "max"}, "pooling is mean or flatten"),
        ({"activation": "tanh"}, "activation is relu or gelu"),
    ],
)
def test_wrong_factors(factors: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**factors)

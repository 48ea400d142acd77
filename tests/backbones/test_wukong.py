"""Wukong: its layers in order, what each sees, and the order of interactions that they reach."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.backbones.wukong import Backbone, Config
from tests.layers.case import weights_of
from tests.layers.references import dense, norm, relu
from tests.layers.test_factorization_block import factorise

SMALL = {"model_width": 4, "tokens": 3, "layers": 2, "fm_tokens": 2, "linear_tokens": 3, "fm_rank": 2, "mlp_width": 6}
X = tf.constant(np.random.default_rng(0).random((5, 12)), tf.float32)


@pytest.mark.parametrize("pooling", ["mean", "flatten"])
def test_equals_the_equations(pooling: str) -> None:
    """3 tokens become 5 by a mapped residual, then 5 stay 5."""
    backbone = Backbone(Config(**SMALL, pooling=pooling))
    backbone({"tokens": X})
    weights = {name: variable.numpy().astype(np.float64) for name, variable in weights_of(backbone).items()}
    tokens = dense(weights, "tokens/last", relu(dense(weights, "tokens/hidden_0", X.numpy().astype(np.float64)))).reshape(5, 3, 4)
    for block in ("block_0", "block_1"):
        inside = {key.removeprefix(f"{block}/fm/"): value for key, value in weights.items() if key.startswith(f"{block}/fm/")}
        parts = [factorise(inside, tokens, 2, 1, 2)["output"], weights[f"{block}/linear/mix"] @ tokens]
        shortcut = weights["block_0/shortcut/mix"] @ tokens if block == "block_0" else tokens
        tokens = norm(weights, f"{block}/norm", np.concatenate(parts, axis=1) + shortcut)
    expected = tokens.mean(axis=1) if pooling == "mean" else tokens.reshape(5, 20)
    np.testing.assert_allclose(backbone({"tokens": X}), expected, rtol=1e-4, atol=1e-5)
    assert "block_1/shortcut/mix" not in weights


def test_wrong_factors() -> None:
    for factors, message in (({"fm_tokens": 0}, "at least 1"), ({"fm_rank": -1}, "at least 0"), ({"pooling": "max"}, "mean or flatten")):
        with pytest.raises(ValueError, match=message):
            Config(**factors)

"""DAGFM: its tokens, its states, and what is read out of them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.backbones.dagfm import Backbone, Config
from tests.layers.case import weights_of
from tests.layers.references import dense, norm
from tests.layers.test_dag_interaction import TestDagInteractionInner, TestDagInteractionOuter

X = tf.constant(np.random.default_rng(0).random((5, 12)), tf.float32)
CASES = {"outer": TestDagInteractionOuter, "inner": TestDagInteractionInner}


@pytest.mark.parametrize("readout", ["sums", "states"])
@pytest.mark.parametrize("interaction", ["outer", "inner"])
def test_equals_the_equations(interaction: str, readout: str) -> None:
    """Three tokens of width 4, two steps: 3 x 3 sums, or 3 x 4 numbers of added states; with the norm, and without."""
    factors = {"interaction": interaction, "readout": readout, "layer_norm": interaction == "outer"}
    backbone = Backbone(Config(model_width=4, tokens=3, depth=2, **factors))
    found = backbone({"tokens": X}).numpy()
    weights = {name: variable.numpy().astype(np.float64) for name, variable in weights_of(backbone).items()}
    tokens = dense(weights, "tokens/last", X.numpy().astype(np.float64)).reshape(5, 3, 4)
    inside = {key.removeprefix("block_0/"): value for key, value in weights.items() if key.startswith("block_0/")}
    states = CASES[interaction]().reference(inside, {"tokens": tokens})["output"]
    expected = states.sum(axis=3).reshape(5, 9) if readout == "sums" else states.sum(axis=1).reshape(5, 12)
    expected = norm(weights, "norm", expected) if interaction == "outer" else expected
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_without_token_layers_the_projection_s_views_are_the_tokens() -> None:
    """C starts as the identity, so the first T sums are those of the cut projection."""
    backbone = Backbone(Config(model_width=4, tokens=3, depth=1, token_layers=0, layer_norm=False))
    np.testing.assert_allclose(backbone({"tokens": X})[:, :3], X.numpy().reshape(5, 3, 4).sum(axis=2), rtol=1e-5)


def test_wrong_factors() -> None:
    wrong = (({"depth": 0}, "at least 1"), ({"interaction": "cross"}, "outer or inner"), ({"readout": "mean"}, "sums or states"))
    for factors, message in wrong:
        with pytest.raises(ValueError, match=message):
            Config(**factors)

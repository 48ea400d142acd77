"""DHEN's ensemble against its equation: three ways to join; maps and a shortcut where widths differ and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.layers.ensemble import Ensemble
from tests.layers.case import Arrays, LayerCase
from tests.layers.references import dense, norm

N, TOKENS, D = 4, 2, 3


class TestEnsembleConcat(LayerCase):
    kind = "concat"

    def make(self) -> Ensemble:
        return Ensemble(self.kind, TOKENS, D)

    def inputs(self, source: np.random.Generator) -> Arrays:
        """The second member has the width that all must have."""
        widths = {"x": 7, "first": 5, "second": TOKENS * D}
        return {name: source.normal(0, 1, (N, width)) for name, width in widths.items()}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        """LN over each embedding of (joined members + W x)."""
        members = [dense(weights, "map_0", inputs["first"]), inputs["second"]]
        if self.kind == "concat":
            joined = np.concatenate(members, axis=1)
        else:
            shares = weights["weight"] if self.kind == "weighted_sum" else np.ones(2)
            joined = shares[0] * members[0] + shares[1] * members[1]
        summed = joined + inputs["x"] @ weights["shortcut/kernel"]
        pieces = [norm(weights, "norm", summed[:, start : start + D]) for start in range(0, summed.shape[1], D)]
        steps = {"member_0": members[0], "member_1": members[1], "joined": joined, "summed": summed}
        return {**steps, "output": np.concatenate(pieces, axis=1)}


class TestEnsembleSum(TestEnsembleConcat):
    kind = "sum"


class TestEnsembleWeightedSum(TestEnsembleConcat):
    kind = "weighted_sum"


def _values(*widths: int) -> list[tf.Tensor]:
    source = np.random.default_rng(0)
    return [tf.constant(source.normal(0, 1, (N, width)), tf.float32) for width in widths]


@pytest.mark.parametrize("kind", ["concat", "sum", "weighted_sum"])
def test_one_member_without_shortcut_and_norm_is_the_member(kind: str) -> None:
    first, member = _values(7, 6)
    np.testing.assert_array_equal(Ensemble(kind, TOKENS, D, shortcut=False, layer_norm=False)([first, member]), member)


@pytest.mark.parametrize("kind", ["concat", "sum", "weighted_sum"])
def test_one_member_is_the_normed_sum_of_member_and_input(kind: str) -> None:
    first, member = _values(6, 6)
    layer = Ensemble(kind, TOKENS, D)
    expected = tf.keras.layers.LayerNormalization()(tf.reshape(first + member, [N, TOKENS, D]))
    np.testing.assert_allclose(layer([first, member]), tf.reshape(expected, [N, 6]), rtol=1e-5, atol=1e-6)
    names = {variable.name.split("/")[-1] for variable in layer.trainable_variables}
    assert not {"kernel:0", "bias:0"} & names  # no map and no shortcut to learn


def test_a_weighted_sum_starts_as_the_mean() -> None:
    members = _values(6, 6, 6)
    layer = Ensemble("weighted_sum", TOKENS, D, shortcut=False, layer_norm=False)
    np.testing.assert_allclose(layer(members), (members[1] + members[2]) / 2, rtol=1e-6)


def test_order_of_members_matters_to_concat_alone() -> None:
    first, one, two = _values(6, 6, 6)
    for kind, same in (("concat", False), ("sum", True)):
        layer = Ensemble(kind, TOKENS, D, shortcut=False)
        assert np.allclose(layer([first, one, two]), layer([first, two, one]), atol=1e-6) is same


def test_wrong_kind() -> None:
    with pytest.raises(ValueError, match="an ensemble is concat, sum, weighted_sum, not 'mean'"):
        Ensemble("mean", 1, 1)


def test_multiply_adds() -> None:
    """Members of 5 and 6 to 6 (one map), and a shortcut from 7 to 12 or 6; none where widths agree."""
    assert Ensemble("concat", TOKENS, D).multiply_adds(7, [5, 6]) == 5 * 6 + 7 * 12
    assert Ensemble("sum", TOKENS, D).multiply_adds(7, [5, 6]) == 5 * 6 + 7 * 6
    assert Ensemble("sum", TOKENS, D).multiply_adds(6, [6, 6]) == 0
    assert Ensemble("sum", TOKENS, D, shortcut=False).multiply_adds(7, [6]) == 0

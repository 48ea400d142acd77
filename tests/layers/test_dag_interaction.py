"""DAGFM's states against sums over all chains of nodes, and against the equations step by step."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from cvr.layers.dag_interaction import DagInteraction
from tests.layers.case import Arrays, LayerCase, weights_of

TOKENS, WIDTH = 3, 4
EDGES = {edge: place for place, edge in enumerate((f, s) for f in range(TOKENS) for s in range(f, TOKENS))}


class TestDagInteractionOuter(LayerCase):
    interaction = "outer"

    def make(self) -> DagInteraction:
        return DagInteraction(2, self.interaction)

    def inputs(self, source: np.random.Generator) -> Arrays:
        return {"tokens": source.normal(0, 1, (4, TOKENS, WIDTH))}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        """Node by node, edge by edge."""
        first = weights["mix"] @ inputs["tokens"]
        states = [first]
        for step in range(2):
            following = np.zeros_like(first)
            for (f, s), place in EDGES.items():
                p, read = weights[f"p_{step}"][place], states[-1][:, f]
                if self.interaction == "inner":
                    following[:, s] += p * read
                else:
                    following[:, s] += (read @ p)[:, None] * weights[f"q_{step}"][place]
            states.append(first * following)
        return {**{f"state_{step}": state for step, state in enumerate(states)}, "output": np.stack(states, axis=1)}


class TestDagInteractionInner(TestDagInteractionOuter):
    interaction = "inner"


@pytest.mark.parametrize("case", [TestDagInteractionInner, TestDagInteractionOuter])
def test_two_steps_are_all_monomials_of_degree_three(case: type[TestDagInteractionOuter]) -> None:
    """C the identity: h^2_s = sum over f <= g <= s of e_s e_g e_f with weights; 10 monomials of 3 tokens, and no others."""
    layer = case().build("float64")
    weights = {name: variable.numpy() for name, variable in weights_of(layer).items()}
    layer.mix.assign(np.eye(TOKENS))
    tokens = np.random.default_rng(5).normal(0, 1, (2, TOKENS, WIDTH))
    expected, used = np.zeros((2, TOKENS, WIDTH)), set()
    for f, g, s in itertools.product(range(TOKENS), repeat=3):
        if not f <= g <= s:
            continue
        used.add((f, g, s))
        p, then_p = weights["p_0"][EDGES[f, g]], weights["p_1"][EDGES[g, s]]
        if case.interaction == "inner":
            expected[:, s] += tokens[:, s] * then_p * tokens[:, g] * p * tokens[:, f]
        else:
            middle = tokens[:, g] * (tokens[:, f] @ p)[:, None] * weights["q_0"][EDGES[f, g]]
            expected[:, s] += tokens[:, s] * (middle @ then_p)[:, None] * weights["q_1"][EDGES[g, s]]
    assert len(used) == 10
    np.testing.assert_allclose(layer.trace(tf.constant(tokens))["state_2"], expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("interaction", ["outer", "inner"])
def test_at_the_start_states_keep_their_size_at_every_node(interaction: str) -> None:
    """C is the identity; with tokens of variance 1 what a node gathers has variance 1, also the last of 40, which reads 40 nodes."""
    tf.keras.utils.set_random_seed(1)
    layer = DagInteraction(1, interaction)
    tokens = np.random.default_rng(6).normal(0, 1, (200, 40, 32)).astype(np.float32)
    layer(tokens)
    steps = layer.trace(tf.constant(tokens))
    np.testing.assert_array_equal(steps["state_0"], tokens)
    size = np.sqrt(np.mean(np.square(steps["state_1"] / tokens), axis=(0, 2)))
    assert 0.6 < size.min() and size.max() < 1.6, size
    other = DagInteraction(2, interaction)
    other(tokens)
    assert not np.allclose(other.p[0], other.p[1])  # every step has a draw of its own
    assert abs(size[:10].mean() / size[-10:].mean() - 1) < 0.25


def test_multiply_adds() -> None:
    assert DagInteraction(3, "outer").multiply_adds(5, 4) == 100 * 7
    assert DagInteraction(3, "inner").multiply_adds(5, 4) == 100 * 4

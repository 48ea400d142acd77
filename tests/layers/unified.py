"""Unified attention in NumPy float64, as SUAN writes it: one sequence per candidate, the candidate its last token."""

from __future__ import annotations

import numpy as np

from cvr.layers.unified_factors import UnifiedFactors
from tests.layers.references import relu, softmax
from tests.layers.test_rms_norm import rms_norm
from tests.layers.test_swi_glu import swi_glu

Arrays = dict[str, np.ndarray]
EPSILON = 1e-6


def inside(weights: Arrays, name: str) -> Arrays:
    """The weights of a layer by their path in it."""
    return {key.removeprefix(name + "/"): value for key, value in weights.items() if key.startswith(name + "/")}


def read(weights: Arrays, query: np.ndarray, tokens: np.ndarray, heads: int, bias: np.ndarray, match: np.ndarray) -> tuple:
    """One token's attention, head by head: its shares `[H, L]` and W_o of what it reads."""
    q, width = query @ weights["query/kernel"], len(query) // heads
    keys, values = np.split(tokens @ weights["key_value/kernel"], 2, axis=1)
    found, shares = np.zeros(len(query)), np.zeros((heads, len(tokens)))
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        logits = keys[:, own] @ q[own] / np.sqrt(width) + bias
        if match.any():
            logits += weights["match_bias"][head] * match
        shares[head] = softmax(logits)
        found[own] = shares[head] @ values[:, own]
        if match.any():
            found[own] += shares[head][match].sum() * weights["match_value"][own]
    return shares, found @ weights["output/kernel"]


def attend(weights: Arrays, tokens: np.ndarray, heads: int, bias: np.ndarray, match: np.ndarray) -> np.ndarray:
    """Self-attention of all tokens, each with its row of the bias; only the last one, the candidate, may match events."""
    none = np.zeros(len(tokens), bool)
    last = len(tokens) - 1
    return np.stack([read(weights, token, tokens, heads, bias[i], match if i == last else none)[1] for i, token in enumerate(tokens)])


def cross(weights: Arrays, tokens: np.ndarray, profile: np.ndarray, heads: int) -> np.ndarray:
    """Attention of each token to the profile."""
    none = np.zeros(len(profile), bool)
    return np.stack([read(weights, token, profile, heads, np.zeros(len(profile)), none)[1] for token in tokens])


def gate(weights: Arrays, pooled: np.ndarray) -> np.ndarray:
    """g_1: a softmax over two branches, channel by channel."""
    both = relu(pooled @ weights["reduce/kernel"]) @ weights["branches/kernel"]
    return softmax(np.stack(np.split(both, 2, axis=-1), axis=-1))[..., 0]


def block(
    weights: Arrays, factors: UnifiedFactors, tokens: np.ndarray, bias: np.ndarray, match: np.ndarray, real: np.ndarray,
    profile: np.ndarray | None,
) -> Arrays:  # fmt: skip
    """A UAB on one sequence `[L, D]`: bias `[L, L]`, match `[L]` of the last token, real `[L]`: which tokens the gate's mean is over."""
    norms = [weights[f"norm_{i}/gamma"] for i in range(3)]
    clean = factors.residual == "clean"
    normed = rms_norm(norms[0], tokens, EPSILON)
    attended = attend(inside(weights, "attention"), normed, factors.heads, bias, match)
    summed = attended + (tokens if clean else normed)
    middle = rms_norm(norms[1], summed, EPSILON)
    mixed, steps = middle, {"attended": attended, "middle": middle}
    if profile is not None:
        crossed = cross(inside(weights, "cross"), middle, profile, factors.heads)
        pooled = middle + crossed
        if factors.gate == "sample":
            pooled = np.broadcast_to(pooled[real].mean(axis=0), pooled.shape)
        share = gate(inside(weights, "gate"), pooled)
        mixed = share * middle + (1 - share) * crossed
        steps["crossed"] = crossed
    if clean:
        total = summed + mixed
        output = total + swi_glu(inside(weights, "feed"), rms_norm(norms[2], total, EPSILON))["output"]
    else:
        total = rms_norm(norms[2], middle + mixed, EPSILON)
        output = total + swi_glu(inside(weights, "feed"), total)["output"]
    return {**steps, "mixed": mixed, "output": output}


def sees(factors: UnifiedFactors, distance: int) -> bool:
    """Whether an event sees one that is so many places older."""
    if distance < 0:
        return False
    return not factors.window or distance < factors.window or bool(factors.dilation and distance % factors.dilation == 0)


def biases(weights: Arrays, factors: UnifiedFactors, real: np.ndarray, age: np.ndarray, length: int) -> np.ndarray:
    """`[K + 1, K + 1]` of a list's events and, last, a candidate; minus infinity where a token does not see another."""
    count = len(real)
    places, ages = [*range(count), -1], [*age, 0.0]
    found = np.full((count + 1, count + 1), -np.inf)
    for i in range(count + 1):
        for j in range(count + 1):
            distance = places[j] - places[i]
            visible = (j == count or real[j]) and (i == count or (j < count and sees(factors, distance)))
            if visible or i == j:
                bucket = min(int(np.floor(np.log(max(abs(ages[i] - ages[j]), 1.0)) / 0.301)), factors.time_buckets)
                found[i, j] = weights["place_table"][min(distance, length), 0] + weights["time_table"][bucket, 0]
    return found


def stack(weights: Arrays, factors: UnifiedFactors, inputs: Arrays, profile: list[np.ndarray]) -> Arrays:
    """Every candidate's own sequence through all blocks."""
    kernel, places = weights["tokens/kernel"], weights["places"]
    length = len(places) - 1
    events = inputs["events"] @ kernel
    events[:, :length] += places[1:]
    candidates = inputs["candidates"] @ kernel + places[0]
    steps: Arrays = {"tokens": events, "candidates": candidates}
    found: dict[str, list[np.ndarray]] = {}
    for n, row in enumerate(inputs["list_index"]):
        own = inside(weights, "profile")
        texts = [vector[row] @ own[f"token_{f}/kernel"] + own[f"token_{f}/bias"] for f, vector in enumerate(profile)]
        tokens = np.concatenate([events[row], candidates[n : n + 1]])
        real = np.append(inputs["real"][row], True)
        match = np.append(inputs["match"][n], False)
        bias = biases(inside(weights, "bias"), factors, inputs["real"][row], inputs["age"][row], length)
        for i in range(factors.layers):
            made = block(inside(weights, f"block_{i}"), factors, tokens, bias, match, real, np.stack(texts) if texts else None)
            tokens = made["output"]
            found.setdefault(f"block_{i}", []).append(tokens[-1])
        last = rms_norm(weights["norm/gamma"], tokens[-1], EPSILON) if factors.residual == "clean" else tokens[-1]
        found.setdefault("output", []).append(last)
    return {**steps, **{name: np.stack(rows) for name, rows in found.items()}}

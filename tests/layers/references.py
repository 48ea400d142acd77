"""The equations that several layers share, in NumPy: dense layers, layer norm, activations, softmax."""

from __future__ import annotations

import numpy as np
from scipy.special import erf

Arrays = dict[str, np.ndarray]


def relu(x: np.ndarray) -> np.ndarray:
    """max(x, 0)."""
    return np.maximum(x, 0.0)


def gelu(x: np.ndarray) -> np.ndarray:
    """x Phi(x), Phi the standard normal's distribution function."""
    return x * (1.0 + erf(x / np.sqrt(2.0))) / 2.0


def dense(weights: Arrays, name: str, x: np.ndarray) -> np.ndarray:
    """x K + b of the dense layer `name`."""
    return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]


def norm(weights: Arrays, name: str, x: np.ndarray, epsilon: float = 1e-3) -> np.ndarray:
    """gamma (x - mean) / sqrt(variance + epsilon) + beta over the last axis."""
    mean = x.mean(axis=-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
    return weights[f"{name}/gamma"] * (x - mean) / np.sqrt(variance + epsilon) + weights[f"{name}/beta"]


def softmax(x: np.ndarray) -> np.ndarray:
    """exp(x) over its sum along the last axis."""
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def salted_row(number: int, buckets: int, salt: int) -> int:
    """4 + h mod buckets for an id and a 64-bit salt: h = mix(mix(id ^ salt)), mix(x) = x' ^ (x' >> 32), x' = x * 0x9E3779B97F4A7C15.

    In whole numbers: 64 bits, whose highest is a sign when the remainder is taken.
    """
    if number < 4:
        return number
    hashed = number ^ salt
    for _ in range(2):
        hashed = hashed * 0x9E3779B97F4A7C15 % 2**64
        hashed ^= hashed >> 32
    return 4 + (hashed - 2**64 if hashed >= 2**63 else hashed) % buckets

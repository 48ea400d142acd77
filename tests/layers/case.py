"""The test case that every layer passes: equal to its reference step by step, stable, savable, configurable, fit for bfloat16.

A subclass in `test_<layer>.py` names the layer, its inputs and its reference: a function in NumPy float64, written from the equations,
that gives every intermediate by the name under which `layer.trace` gives it. Inputs, weights and intermediates are stored in
`golden/<subclass>.npz` (`python -m tests.layers.write_golden` writes them), so that layer and reference cannot drift together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

GOLDEN = Path(__file__).parent / "golden"
Arrays = dict[str, np.ndarray]
TOLERANCE = {"float32": (1e-5, 1e-4), "float64": (1e-10, 1e-8)}
"""Of values and of gradients, relative to the largest of the compared array (at least 1)."""


@contextmanager
def policy(name: str) -> Iterator[None]:
    """Layers made inside compute under a Keras policy."""
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(name)
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(before)


def close(found: Any, expected: np.ndarray, tolerance: float, name: str) -> None:
    """Fails where values differ by more than `tolerance` of the largest expected one (or of 1)."""
    found = np.asarray(tf.cast(found, tf.float64)) if np.asarray(expected).dtype.kind == "f" else np.asarray(found)
    assert found.shape == expected.shape, f"{name}: {found.shape}, expected {expected.shape}"
    worst = np.abs(found - expected).max(initial=0.0) / max(1.0, np.abs(expected).max(initial=0.0))
    assert worst <= tolerance, f"{name}: differs by {worst:.2e}, allowed {tolerance:.0e}"


def weights_of(layer: tf.keras.layers.Layer) -> dict[str, tf.Variable]:
    """Trainable variables by their path inside the layer: `aggregate/kernel`."""
    return {v.name.removeprefix(layer.name + "/").removesuffix(":0"): v for v in layer.trainable_variables}


def slope(function: Callable[[], float], values: np.ndarray, place: tuple[int, ...], step: float = 1e-5) -> float:
    """Derivative of `function` by one number of `values`, from five points: exact to 1e-9 for smooth functions of size 10."""
    before, sums = values[place], 0.0
    for offset, factor in ((-2, 1), (-1, -8), (1, 8), (2, -1)):
        values[place] = before + offset * step
        sums += factor * function()
    values[place] = before
    return sums / (12 * step)


class LayerCase:
    """Inherit it as `class TestMaskBlock(LayerCase)` and define `make`, `inputs` and `reference`."""

    places = 3  # numbers of each array whose gradient is compared
    mixed_output = tf.bfloat16  # type of the output under policy mixed_bfloat16

    def make(self) -> tf.keras.layers.Layer:
        """A new layer."""
        raise NotImplementedError

    def inputs(self, source: np.random.Generator) -> Arrays:
        """Named inputs with at least four rows; the reference reads them by name, the layer in this order."""
        raise NotImplementedError

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        """Every intermediate by name, in float64; `output` among them."""
        raise NotImplementedError

    def arguments(self, tensors: Sequence[Any]) -> tuple[Any, ...]:
        """The layer's arguments: one tensor as it is, several as a tuple. Override for layers with more than one argument."""
        return (tensors[0],) if len(tensors) == 1 else (tuple(tensors),)

    def result(self, found: Any) -> tf.Tensor:
        """The tensor that equals `output` of the reference, of what the layer returns. Override where that is no tensor."""
        return found

    def rows(self, inputs: Arrays, order: np.ndarray) -> Arrays:
        """The inputs of the chosen rows of the output. Override where not every input has a row for each."""
        return {name: value[order] for name, value in inputs.items()}

    def start(self, source: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Weights for the tests: all of them random, biases and norms too, so that none can be left out unseen."""
        return source.normal(1.0 if name.endswith("gamma") else 0.0, 0.6, shape)

    # -- what the tests are made of

    def golden(self) -> Arrays:
        """Inputs, weights and intermediates, worked out by the reference: keys `inputs/x`, `weights/kernel`, `trace/output`."""
        source = np.random.default_rng(7)
        inputs = self.inputs(source)
        with policy("float64"):
            layer = self.make()
            self._run(layer, inputs, np.float64)
        weights = {name: self.start(source, name, tuple(v.shape)) for name, v in weights_of(layer).items()}
        parts = {"inputs": inputs, "weights": weights, "trace": self.reference(weights, inputs)}
        return {f"{part}/{name}": value for part, arrays in parts.items() for name, value in arrays.items()}

    def stored(self, part: str) -> Arrays:
        """The golden file's arrays of one part."""
        with np.load(GOLDEN / f"{type(self).__name__}.npz") as file:
            return {name.removeprefix(part + "/"): file[name] for name in file.files if name.startswith(part + "/")}

    def _tensors(self, inputs: Arrays, dtype: Any) -> list[tf.Tensor]:
        return [tf.constant(x, dtype if x.dtype.kind == "f" else None) for x in inputs.values()]

    def _run(self, layer: tf.keras.layers.Layer, inputs: Arrays, dtype: Any = np.float32) -> tf.Tensor:
        return self.result(layer(*self.arguments(self._tensors(inputs, dtype))))

    def build(self, dtype: str = "float32") -> tf.keras.layers.Layer:
        """A layer of the given type with the golden weights."""
        with policy(dtype):
            layer = self.make()
            self._run(layer, self.stored("inputs"), tf.bfloat16 if "bfloat16" in dtype else dtype)
        weights = self.stored("weights")
        assert set(weights) == set(weights_of(layer))
        for name, variable in weights_of(layer).items():
            variable.assign(weights[name])
        return layer

    # -- the tests

    def test_reference_is_the_golden_one(self) -> None:
        stored, now = self.stored("trace"), self.reference(self.stored("weights"), self.stored("inputs"))
        assert list(stored) == list(now)
        for name, value in now.items():
            close(value, stored[name], 1e-12, name)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_every_step_equals_the_reference(self, dtype: str) -> None:
        layer, expected = self.build(dtype), self.stored("trace")
        found = layer.trace(*self.arguments(self._tensors(self.stored("inputs"), dtype)))
        assert set(found) == set(expected)
        for name, value in expected.items():
            close(found[name], value, TOLERANCE[dtype][0], name)
        close(self._run(layer, self.stored("inputs"), dtype), expected["output"], TOLERANCE[dtype][0], "call")

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_gradients_equal_differences_of_the_reference(self, dtype: str) -> None:
        layer, weights, inputs = self.build(dtype), self.stored("weights"), self.stored("inputs")
        source = np.random.default_rng(3)
        mix = source.normal(0, 1, self.stored("trace")["output"].shape)
        tensors = self._tensors(inputs, dtype)
        floats = [tensor for tensor in tensors if tensor.dtype.is_floating]
        with tf.GradientTape() as tape:
            tape.watch(floats)
            total = tf.reduce_sum(self.result(layer(*self.arguments(tensors))) * mix)
        names = [name for name, x in inputs.items() if x.dtype.kind == "f"]
        owners = [*zip(names, [inputs] * len(names), strict=True), *((name, weights) for name in weights)]
        gradients = tape.gradient(total, [*floats, *weights_of(layer).values()], unconnected_gradients="zero")
        for (name, arrays), gradient in zip(owners, gradients, strict=True):
            values = arrays[name]
            for _ in range(min(self.places, values.size)):
                place = tuple(int(source.integers(n)) for n in values.shape)
                expected = slope(lambda: float((self.reference(weights, inputs)["output"] * mix).sum()), values, place)
                got = float(tf.convert_to_tensor(gradient)[place])
                assert abs(got - expected) <= TOLERANCE[dtype][1] * max(1.0, abs(expected)), f"{name}{place}: {got}, {expected}"

    def test_stable_and_rows_do_not_see_each_other(self) -> None:
        layer, inputs = self.build(), self.stored("inputs")
        whole = self._run(layer, inputs).numpy()
        np.testing.assert_array_equal(self._run(layer, inputs), whole)
        order = np.array([2, 0, 3])
        part = self._run(layer, self.rows(inputs, order))
        np.testing.assert_allclose(part, whole[order], rtol=1e-5, atol=1e-5)

    def test_savable(self, tmp_path: Path) -> None:
        layer, inputs = self.build(), self.stored("inputs")
        symbols = [tf.keras.Input(x.shape[1:], dtype=np.float32 if x.dtype.kind == "f" else x.dtype) for x in inputs.values()]
        model = tf.keras.Model(symbols, layer(*self.arguments(symbols)))
        model.save(tmp_path / "model.keras")
        loaded = tf.keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(self.result(loaded(self._tensors(inputs, np.float32))), self._run(layer, inputs))

    def test_configurable(self) -> None:
        layer = self.build()
        copy = type(layer).from_config(layer.get_config())
        assert copy.get_config() == layer.get_config()
        self._run(copy, self.stored("inputs"))
        for one, other in zip(copy.weights, layer.weights, strict=True):
            assert one.shape == other.shape and one.dtype == other.dtype
            one.assign(other)
        np.testing.assert_array_equal(self._run(copy, self.stored("inputs")), self._run(layer, self.stored("inputs")))

    def test_bfloat16(self) -> None:
        layer, expected = self.build("mixed_bfloat16"), self.stored("trace")["output"]
        output = self._run(layer, self.stored("inputs"), tf.bfloat16)
        assert output.dtype == self.mixed_output and all(v.dtype == tf.float32 for v in layer.trainable_variables)
        assert np.isfinite(tf.cast(output, tf.float32)).all()
        close(output, expected, 0.1, "bfloat16")

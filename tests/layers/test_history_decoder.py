"""The decoder over a history against its equations, with and without candidates."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.layers.history_decoder import HistoryDecoder
from cvr.tracing import without_memory
from tests.layers.case import Arrays, LayerCase
from tests.layers.histories import history_inputs
from tests.layers.test_decoder_block import decoder_block
from tests.layers.test_rms_norm import rms_norm
from tests.profiler import products_of

LAYERS = 2


def _decode(weights: Arrays, tokens: np.ndarray, visible: np.ndarray) -> Arrays:
    """All layers in order of time."""
    steps = {}
    for i in range(LAYERS):
        own = {key.removeprefix(f"block_{i}/"): value for key, value in weights.items() if key.startswith(f"block_{i}/")}
        tokens = steps[f"block_{i}"] = decoder_block(own, tokens, visible, 1)["output"]
    return {**steps, "output": rms_norm(weights["norm/gamma"], tokens)}


class TestHistoryDecoder(LayerCase):
    """States after each event: five histories of up to four events, one of them empty."""

    places = 1

    def make(self) -> HistoryDecoder:
        return HistoryDecoder(heads=1, layers=LAYERS)

    def inputs(self, source: np.random.Generator) -> Arrays:
        return history_inputs(source)

    def arguments(self, tensors: list) -> tuple:
        return tuple(tensors)

    def start(self, source: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
        return super().start(source, name, shape) * (0.3 if "ffn" in name else 1.0)

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        steps = _decode(weights, inputs["events"][:, ::-1], inputs["real"][:, ::-1])
        return {name: value[:, ::-1] for name, value in steps.items()}


class TestHistoryDecoderCandidates(TestHistoryDecoder):
    """Six items of the same lists: each as one more event at the end of a sequence of its own."""

    def inputs(self, source: np.random.Generator) -> Arrays:
        return {
            **super().inputs(source),
            "candidates": source.normal(0, 1, (6, 4)),
            "list_index": np.array([0, 0, 1, 2, 3, 4]),
        }

    def rows(self, inputs: Arrays, order: np.ndarray) -> Arrays:
        return {name: value[order] if name in ("candidates", "list_index") else value for name, value in inputs.items()}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        found: dict[str, list[np.ndarray]] = {}
        for candidate, row in zip(inputs["candidates"], inputs["list_index"], strict=True):
            events = np.concatenate([inputs["events"][row, ::-1], candidate[None]])
            visible = np.append(inputs["real"][row, ::-1], True)
            for name, value in _decode(weights, events[None], visible[None]).items():
                found.setdefault(name, []).append(value[0, -1])
        return {name: np.array(values) for name, values in found.items()}


@pytest.fixture(scope="module")
def layer() -> HistoryDecoder:
    return TestHistoryDecoder().build()


def test_a_more_recent_event_changes_no_earlier_state(layer: HistoryDecoder) -> None:
    inputs = history_inputs(np.random.default_rng(5))
    events, real = inputs["events"].astype(np.float32), tf.constant(inputs["real"])
    changed = events.copy()
    changed[:, 0] += 1.0  # the most recent one
    before, after = layer(tf.constant(events), real).numpy(), layer(tf.constant(changed), real).numpy()
    np.testing.assert_array_equal(after[:, 1:], before[:, 1:])
    assert np.abs(after[0, 0] - before[0, 0]).max() > 0.01


def test_longer_padding_changes_nothing_whatever_it_holds(layer: HistoryDecoder) -> None:
    inputs = TestHistoryDecoderCandidates().stored("inputs")
    arrays = [inputs["events"].astype(np.float32), inputs["real"], inputs["candidates"].astype(np.float32), inputs["list_index"]]
    output = layer(*map(tf.constant, arrays)).numpy()
    events = np.pad(arrays[0], [(0, 0), (0, 3), (0, 0)], constant_values=50.0)
    events[:, :4][~arrays[1]] = -50.0
    longer = layer(*map(tf.constant, [events, np.pad(arrays[1], [(0, 0), (0, 3)]), *arrays[2:]]))
    np.testing.assert_allclose(longer, output, rtol=1e-4, atol=1e-5)


def test_candidates_do_not_see_each_other(layer: HistoryDecoder) -> None:
    """Together and one by one: the same."""
    inputs = TestHistoryDecoderCandidates().stored("inputs")
    events, candidates = (tf.constant(inputs[name], tf.float32) for name in ("events", "candidates"))
    real, index = tf.constant(inputs["real"]), tf.constant(inputs["list_index"])
    together = layer(events, real, candidates, index)
    alone = [layer(events[row : row + 1], real[row : row + 1], candidates[i : i + 1], [0]) for i, row in enumerate(inputs["list_index"])]
    np.testing.assert_allclose(tf.concat(alone, axis=0), together, rtol=1e-5, atol=1e-5)


def test_multiply_adds(layer: HistoryDecoder) -> None:
    """Two layers on 5 events of width 4, inner width 32; for candidates the second one only remembers."""
    attention, ffn = 4 * 5 * 16 + 2 * 25 * 4, 5 * 3 * 4 * 32
    assert layer.sequence_multiply_adds(5) == 2 * (attention + ffn)
    assert layer.list_multiply_adds(5) == attention + ffn + 2 * 5 * 16
    assert layer.item_multiply_adds(5) == 2 * (4 * 16 + 2 * 5 * 4 + 3 * 4 * 32)


@pytest.mark.parametrize("candidates", [False, True])
def test_its_count_is_what_the_profiler_counts(candidates: bool) -> None:
    layer = HistoryDecoder(heads=2, layers=3)
    specs = [tf.TensorSpec([3, 6, 8]), tf.TensorSpec([3, 6], tf.bool), tf.TensorSpec([7, 8]), tf.TensorSpec([7], tf.int32)]
    given = specs if candidates else specs[:2]
    with without_memory():
        graph = tf.function(layer, autograph=False).get_concrete_function(*given).graph
    if candidates:
        assert products_of(graph) == 2 * (3 * layer.list_multiply_adds(6) + 7 * layer.item_multiply_adds(6))
    else:
        assert products_of(graph) == 2 * 3 * layer.sequence_multiply_adds(6)


def test_xla_computes_the_same() -> None:
    layer, inputs = TestHistoryDecoderCandidates().build(), TestHistoryDecoderCandidates().stored("inputs")
    given = [tf.constant(x, tf.float32 if x.dtype.kind == "f" else None) for x in inputs.values()]
    compiled = tf.function(layer, jit_compile=True, autograph=False)
    np.testing.assert_allclose(compiled(*given), layer(*given), rtol=1e-4, atol=1e-5)

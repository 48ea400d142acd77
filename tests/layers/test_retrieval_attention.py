"""ETA against its equations: codes packed by NumPy, a stable sort, and attention over what it gives."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.layers.event_attention import EventAttention
from cvr.layers.retrieval_attention import RetrievalAttention
from tests.layers.case import Arrays, LayerCase, weights_of
from tests.layers.test_event_attention import attend
from tests.layers.test_sim_hash import packed

BITS, WIDTH, HEADS = 12, 4, 2
ITEM_INPUTS = ("candidates", "match", "list_index")
Given = dict[str, np.ndarray]


def distances_of(candidates: np.ndarray, items: np.ndarray, real: np.ndarray, list_index: np.ndarray) -> np.ndarray:
    """`[N, K]`: bits by which bytes differ, m + 1 at padding."""
    own, others = packed(candidates, BITS, 0), packed(items, BITS, 0)
    differ = np.unpackbits(own[:, None] ^ others[list_index], axis=-1).sum(axis=-1)
    return np.where(real[list_index], differ, BITS + 1).astype(np.float64)


class TestRetrievalAttention(LayerCase):
    """Two items of a list of six events, one of a list of two (fewer than k), one of an empty history, one of a single event."""

    top_k, recent = 3, 2

    def make(self) -> RetrievalAttention:
        return RetrievalAttention(BITS, self.top_k, self.recent, HEADS)

    def inputs(self, source: np.random.Generator) -> Arrays:
        real = np.arange(6) < np.array([6, 2, 0, 1])[:, None]
        coarse = [np.round(source.normal(0, 1, shape) * 8) / 8 for shape in ((5, WIDTH), (4, 6, WIDTH))]  # same codes in bfloat16
        return {
            "candidates": coarse[0],
            "items": coarse[1],
            "events": source.normal(0, 1, (4, 6, WIDTH)),
            "real": real,
            "match": source.random((5, 6)) < 0.3,
            "list_index": np.array([0, 0, 1, 2, 3]),
        }

    def arguments(self, tensors: list) -> tuple:
        return tuple(tensors)

    def rows(self, inputs: Arrays, order: np.ndarray) -> Arrays:
        return {name: value[order] if name in ITEM_INPUTS else value for name, value in inputs.items()}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        index, steps = inputs["list_index"], {}
        rows = np.arange(len(index))[:, None]

        def read(name: str, places: np.ndarray) -> np.ndarray:
            own = {key.removeprefix(f"{name}/"): value for key, value in weights.items() if key.startswith(f"{name}/")}
            lists = index[:, None]
            chosen = inputs["events"][lists, places], inputs["real"][lists, places], inputs["match"][rows, places]
            return attend(own, inputs["candidates"], *chosen)["output"]

        if self.top_k:
            distances = steps["distances"] = distances_of(inputs["candidates"], inputs["items"], inputs["real"], index)
            steps["nearest"] = read("nearest", np.argsort(distances, axis=1, kind="stable")[:, : self.top_k])
        if self.recent:
            steps["latest"] = read("latest", np.tile(np.arange(self.recent), (len(index), 1)))
        return {**steps, "output": np.concatenate([steps[name] for name in ("nearest", "latest") if name in steps], axis=1)}


class TestRetrievalAttentionAlone(TestRetrievalAttention):
    recent = 0


class TestLatestEventsAlone(TestRetrievalAttention):
    top_k = 0


def made(lists: int, items: int, length: int, source: np.random.Generator) -> Given:
    """Inputs of histories of random lengths, some empty."""
    counts = source.integers(0, length + 1, lists)
    shown = source.integers(0, lists, items)
    return {
        "candidates": source.normal(0, 1, (items, WIDTH)).astype(np.float32),
        "items": source.normal(0, 1, (lists, length, WIDTH)).astype(np.float32),
        "events": source.normal(0, 1, (lists, length, WIDTH)).astype(np.float32),
        "real": np.arange(length) < counts[:, None],
        "match": source.random((items, length)) < 0.1,
        "list_index": np.sort(shown),
    }


def test_distances_are_those_of_the_nearest_as_multisets_and_padding_comes_last() -> None:
    """20 lists of up to 40 events, 100 items: what is read has the k smallest distances, whichever of equal ones."""
    inputs = made(20, 100, 40, np.random.default_rng(0))
    layer, tensors = RetrievalAttention(BITS, 8, 0, 1), [tf.constant(value) for value in inputs.values()]
    layer(*tensors)
    found = layer.trace(*tensors)["distances"]
    expected = distances_of(*(inputs[name] for name in ("candidates", "items", "real", "list_index")))
    np.testing.assert_array_equal(found, expected)
    closeness, places = (part.numpy() for part in tf.math.top_k(-found, 8))
    np.testing.assert_array_equal(-closeness, np.sort(expected, axis=1)[:, :8])
    counts = inputs["real"].sum(axis=1)[inputs["list_index"]]
    np.testing.assert_array_equal((places < counts[:, None]).sum(axis=1), np.minimum(counts, 8))


def test_with_as_many_as_there_are_it_is_attention_over_all() -> None:
    """k >= K, also more: every event is read, the choice changes nothing."""
    inputs = made(6, 20, 9, np.random.default_rng(1))
    tensors = {name: tf.constant(value) for name, value in inputs.items()}
    for top_k in (9, 50):
        layer = RetrievalAttention(BITS, top_k, 0, HEADS)
        output = layer(*tensors.values())
        whole, index = EventAttention(HEADS), tensors["list_index"]
        arguments = tensors["candidates"], tf.gather(tensors["events"], index), tf.gather(tensors["real"], index), tensors["match"]
        whole(*arguments)
        for name, variable in weights_of(whole).items():
            variable.assign(weights_of(layer)[f"nearest/{name}"])
        np.testing.assert_allclose(output, whole(*arguments), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("top_k", "recent"), [(3, 0), (3, 2)])
def test_only_chosen_and_recent_events_have_a_gradient(top_k: int, recent: int) -> None:
    """The items' vectors, which only choose, have none; an event that no item chose has none."""
    inputs = made(5, 6, 30, np.random.default_rng(2))
    tensors = {name: (tf.Variable if value.dtype == np.float32 else tf.constant)(value) for name, value in inputs.items()}
    layer = RetrievalAttention(BITS, top_k, recent, HEADS)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(*(tf.convert_to_tensor(value) for value in tensors.values())) ** 2)
    by_items, by_events = tape.gradient(total, [tensors["items"], tensors["events"]])
    assert by_items is None
    distances = distances_of(*(inputs[name] for name in ("candidates", "items", "real", "list_index")))
    read = np.zeros((5, 30), bool)
    for row, order in zip(inputs["list_index"], np.argsort(distances, axis=1, kind="stable")[:, :top_k], strict=True):
        read[row, order] = True
        read[row, :recent] = True
    np.testing.assert_array_equal(np.abs(tf.convert_to_tensor(by_events)).max(axis=2) > 0, read & inputs["real"])


def test_longer_padding_changes_nothing_whatever_it_holds() -> None:
    inputs = made(4, 10, 5, np.random.default_rng(3))
    layer = RetrievalAttention(BITS, 8, 4, HEADS)  # more than there are: padding is chosen, and masked
    before = layer(*map(tf.constant, inputs.values()))
    wide = [(0, 0), (0, 6)]
    longer = {
        **inputs,
        **{name: np.pad(inputs[name], [*wide, (0, 0)], constant_values=9.0) for name in ("items", "events")},
        **{name: np.pad(inputs[name], wide) for name in ("real", "match")},
    }
    np.testing.assert_allclose(layer(*map(tf.constant, longer.values())), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("jit", [False, True])
def test_no_tensor_holds_items_by_events_by_width(jit: bool) -> None:
    """Also of the gradients: with 40 items, 300 events and 8 numbers each nothing has 96,000 numbers; compiled by XLA it gives the same."""
    source = np.random.default_rng(4)
    inputs = {name: tf.constant(value) for name, value in made(2, 40, 300, source).items()}
    inputs |= {name: tf.concat([inputs[name]] * 2, axis=-1) for name in ("candidates", "items", "events")}
    layer = RetrievalAttention(64, 10, 10, HEADS)
    expected = layer(*inputs.values())

    def step(*given: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch((given[0], given[2]))
            output = layer(*given)
        return [output, *tape.gradient(output, [given[0], given[2], *layer.trainable_variables])]

    function = tf.function(step, autograph=False, jit_compile=jit)
    np.testing.assert_allclose(function(*inputs.values())[0], expected, rtol=1e-4, atol=1e-4)
    graph = function.get_concrete_function(*inputs.values()).graph
    sizes = [tensor.shape.num_elements() or 0 for operation in graph.get_operations() for tensor in operation.outputs if tensor.shape.rank]
    assert 40 * 300 in sizes and max(sizes) <= 2 * 300 * 64 < 40 * 300 * 8


def test_multiply_adds() -> None:
    """Of 7 events: codes of width 4 and 12 bits once per list; per item its code, 3 nearest and 2 latest events in 2 heads."""
    layer = TestRetrievalAttention().build()
    assert layer.list_multiply_adds(7) == 7 * 4 * 12
    assert layer.item_multiply_adds(7) == 48 + 2 * (48 + 2 * 3 * 4) + 2 * (48 + 2 * 2 * 4)
    assert layer.item_multiply_adds(1) == 48 + 2 * 2 * (48 + 2 * 4)
    alone = TestLatestEventsAlone().build()
    assert alone.list_multiply_adds(7) == 0 and alone.item_multiply_adds(7) == 2 * (48 + 2 * 2 * 4)

"""The generator: what it may see, what it learns, what it costs."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.errors import CvrError
from cvr.generative_losses import sampled_softmax
from cvr.generator import Generator, GeneratorConfig, build_generator, choose_sequence
from cvr.optimizers import make_optimizer
from cvr.schema import parse_spec
from cvr.transforms import FIRST_ID, UNSEEN
from tests.profiler import products_of
from tests.support import LEAN, SPEC

ENCODER = "encoder: {name: decoder, layers: 1, heads: 2}}"
DECODER = LEAN.replace("embedding: {buckets: 20, dim: 2}}", f"embedding: {{buckets: 20, dim: 8}}, {ENCODER}")
ITEMS = np.arange(FIRST_ID, FIRST_ID + 6)
Arrays = dict[str, np.ndarray]


def _generator(seed: int = 0, negatives: int = 16) -> Generator:
    return build_generator(parse_spec(DECODER), GeneratorConfig("recent", negatives, seed=seed), ITEMS)


def _batch(sequences: list[list[int]]) -> Arrays:
    """Sequences of items, the most recent first, of four places; clicks on even items, purchases of odd ones; every event is a target."""
    item = np.array([row + [0] * (4 - len(row)) for row in sequences], np.int64)
    target = (item > 0) & np.roll(item > 0, -1, axis=1)
    target[:, -1] = False
    return {"item": item, "action": np.where(item >= FIRST_ID, FIRST_ID + item % 2, item), "target": target}


def _losses(generator: Generator, batch: Arrays, draw: int = 3) -> tuple[np.ndarray, int]:
    losses, count = generator.losses_of({name: tf.constant(value) for name, value in batch.items()}, tf.constant(draw, tf.int64))
    return losses.numpy(), int(count)


def test_a_later_event_changes_no_loss_of_an_earlier_one() -> None:
    generator = _generator()
    before, changed = _batch([[7, 6, 5, 4]]), _batch([[7, 9, 5, 4]])
    for batch in (before, changed):
        batch["target"] = np.array([[False, False, True, False]])  # 5, after 4
    np.testing.assert_array_equal(_losses(generator, before)[0], _losses(generator, changed)[0])
    for batch in (before, changed):
        batch["target"] = np.array([[True, False, False, False]])  # 7, after 4, 5 and 6 or 9
    assert np.abs(_losses(generator, before)[0] - _losses(generator, changed)[0]).min() > 1e-4


def test_the_loss_is_the_mean_over_targets() -> None:
    generator = _generator()
    parts = [[4, 5, 6], [8, 9], [7, 7, 7, 7]]
    single = [_losses(generator, _batch([part])) for part in parts]
    together, count = _losses(generator, _batch(parts))
    assert [n for _, n in single] == [2, 1, 3] and count == 6
    np.testing.assert_allclose(together, sum(loss * n for loss, n in single) / 6, rtol=1e-5)


def test_without_targets_there_is_no_loss_and_no_gradient() -> None:
    """Empty, unseen and one-event histories."""
    generator = _generator()
    batch = {name: tf.constant(value) for name, value in _batch([[], [UNSEEN], [5]]).items()}
    with tf.GradientTape() as tape:
        losses, count = generator.losses_of(batch, tf.constant(0, tf.int64))
        total = generator.total(losses)
    assert losses.numpy().tolist() == [0.0, 0.0] and int(count) == 0
    for gradient in tape.gradient(total, generator.trainable_variables):
        assert gradient is None or not np.any(tf.convert_to_tensor(gradient))


def test_negatives_are_of_the_catalogue_and_repeat_with_their_seed() -> None:
    generator = _generator(negatives=500)
    drawn = [generator.negatives(tf.constant(draw, tf.int64)).numpy() for draw in (1, 1, 2)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert np.any(drawn[0] != drawn[2]) and set(drawn[0]) == set(ITEMS)
    assert np.any(_generator(1, 500).negatives(tf.constant(1, tf.int64)).numpy() != drawn[0])
    share = np.mean(drawn[0] == ITEMS[0])
    assert abs(share - 1 / 6) < 0.1


def test_hashed_rows_that_collide_are_one_item() -> None:
    """Of 20 buckets, 4 and 24 share a row."""
    same = _generator().extraction.same(tf.constant([4, 5], tf.int64), tf.constant([24, 5, 6], tf.int64))
    assert same.numpy().tolist() == [[True, False, False], [False, True, False]]


def test_a_deterministic_sequence_is_learned() -> None:
    """Item i is followed by i + 1, after 9 comes 4: both losses go to about 0, from log of the choices before."""
    generator = _generator()
    rate = tf.keras.optimizers.schedules.PolynomialDecay(0.02, 1000, 0.02)
    optimizer = make_optimizer(lambda: generator.extraction.table_variables, lambda: generator.dense_variables, rate, rate)
    rows = [[4 + (start - step) % 6 for step in range(4)] for start in range(6)]
    batch = {name: tf.constant(value) for name, value in _batch(rows).items()}

    @tf.function(autograph=False)
    def step(draw: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            losses, _ = generator.losses_of(batch, draw)
            total = generator.total(losses)
        variables = generator.trainable_variables
        optimizer.apply_gradients(list(zip(tape.gradient(total, variables), variables, strict=True)))
        return losses

    losses = [step(tf.constant(number, tf.int64)).numpy() for number in range(200)]
    assert losses[0][0] > 1.0 and losses[0][1] > 0.5
    assert np.max(losses[-10:]) < 0.02


def test_flops_are_what_the_profiler_counts() -> None:
    generator = _generator()
    shapes = {"item": tf.TensorSpec([3, 4], tf.int64), "action": tf.TensorSpec([3, 4], tf.int64)}
    states = tf.function(lambda batch: generator.extraction(batch), autograph=False).get_concrete_function(shapes).graph
    assert products_of(states) == 3 * generator.sequence_flops()

    def losses(before: tf.Tensor, targets: tf.Tensor, negatives: tf.Tensor) -> list[tf.Tensor]:
        loss = sampled_softmax(before, targets, negatives, tf.zeros([5, 16], tf.bool), 0.05)
        return [loss, generator.next_action(before)]

    vectors = [tf.TensorSpec([n, 8]) for n in (5, 5, 16)]
    graph = tf.function(losses, autograph=False).get_concrete_function(*vectors).graph
    assert products_of(graph) == 5 * generator.target_flops()


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        (DECODER, "seen", "--sequence=seen: the spec has no such feature of kind sequence; it has recent"),
        (SPEC, None, "the spec has recent, bought; pre-training needs one, name it"),
        (LEAN, None, "--encoder: mean cannot tell what comes next"),
        (DECODER.replace("buckets: 20", "buckets: 1"), None, "one row for all items tells none from another"),
        (DECODER.replace("dim: 8}", "dim: 8, shrinkage: 3}"), None, "scaled by counts"),
    ],
)
def test_sequences_that_cannot_be_pre_trained(text: str, name: str | None, message: str) -> None:
    with pytest.raises(CvrError, match=message):
        choose_sequence(parse_spec(text), name)


def test_heads_that_do_not_fit() -> None:
    spec = parse_spec(DECODER.replace("heads: 2", "heads: 3"))
    with pytest.raises(CvrError, match="features.recent.encoder: decoder: heads=3 and events of width 8: .* multiple of 6"):
        build_generator(spec, GeneratorConfig("recent"), ITEMS)


def test_bfloat16() -> None:
    """Losses stay in float32, and near those of float32 on the same weights."""
    spec, batch = parse_spec(DECODER), _batch([[4, 5, 6], [9, 8]])
    exact = build_generator(spec, GeneratorConfig("recent", 16), ITEMS)
    rounded = build_generator(spec, GeneratorConfig("recent", 16, precision="mixed_bfloat16"), ITEMS)
    found = rounded.losses_of({name: tf.constant(value) for name, value in batch.items()}, tf.constant(3, tf.int64))[0]
    assert found.dtype == tf.float32 and all(variable.dtype == tf.float32 for variable in rounded.trainable_variables)
    np.testing.assert_allclose(found, _losses(exact, batch)[0], rtol=0.1)

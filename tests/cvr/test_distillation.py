"""Losses of distillation against NumPy in float64, what they are blind to, and which model's gradients they change."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from cvr.data import Batch, Budget, dummy_batch
from cvr.distillation import DISTILL_LOSSES, Distillation, DistillingStep, Teacher, distillation_losses, same_level
from cvr.errors import CvrError
from cvr.guard import LossGuard
from cvr.losses import Loss
from cvr.optimizers import OptimizerConfig, RankerOptimizer, make_optimizer
from cvr.ranker import Ranker, RankerConfig, build_ranker
from cvr.step import TrainingStep
from tests.support import LEAN, batch_of, random_columns, tiny_spec

LENGTHS = (3, 1, 4, 2)
LONGEST, TASKS, PADDING = 5, 2, 3
ITEMS = sum(LENGTHS)


def _batch(lengths: tuple[int, ...] = LENGTHS) -> Batch:
    """Lists of these lengths, an empty one, and padding items that point to it."""
    index = np.concatenate([np.repeat(np.arange(len(lengths)), lengths), np.full(PADDING, len(lengths))])
    offset = np.concatenate([*(np.arange(n) for n in lengths), np.zeros(PADDING)])
    return {
        "list_index": tf.constant(index, tf.int32),
        "item_offset": tf.constant(offset, tf.int32),
        "item_mask": tf.constant([1.0] * sum(lengths) + [0.0] * PADDING),
        "list_size": tf.constant([*lengths, 0], tf.int32),
    }


def _logits(seed: int) -> np.ndarray:
    """`[N, T]` with padding; the level of each list is its own."""
    source = np.random.default_rng(seed)
    levels = np.repeat(source.normal(0, 5, [len(LENGTHS), TASKS]), LENGTHS, axis=0)
    return np.concatenate([levels + source.normal(0, 2, [ITEMS, TASKS]), np.full([PADDING, TASKS], np.nan)])


def _of_list(kind: str, student: np.ndarray, teacher: np.ndarray, t: float, level: bool) -> float:
    """One list and task, as the equations say."""
    if len(student) < 2 and not (level and kind != "softmax"):
        return 0.0
    if not level:
        student, teacher = student - student.mean(), teacher - teacher.mean()
    if kind == "mse":
        return float(np.sum((teacher - student) ** 2))
    if kind == "bce":
        p, q = (1 / (1 + np.exp(-z / t)) for z in (teacher, student))
        return float(-np.sum(p * np.log(q) + (1 - p) * np.log(1 - q)))
    p, q = (np.exp(z / t) / np.exp(z / t).sum() for z in (teacher, student))
    return float(-np.sum(p * np.log(q)))


def _reference(kind: str, student: np.ndarray, teacher: np.ndarray, t: float, level: bool) -> np.ndarray:
    """`[T]`, the mean over lists, in float64."""
    ends = np.cumsum(LENGTHS)[:-1]
    pairs = list(zip(np.split(student[:ITEMS], ends), np.split(teacher[:ITEMS], ends), strict=True))
    sums = [sum(_of_list(kind, s[:, task], z[:, task], t, level) for s, z in pairs) for task in range(TASKS)]
    return np.array(sums) / len(LENGTHS)


def _slope(function: Callable[[np.ndarray], np.ndarray], at: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """Gradient of the sum over tasks by central differences; of padding 0."""
    found = np.zeros_like(at)
    for place in np.ndindex(ITEMS, TASKS):
        change = np.zeros_like(at)
        change[place] = step
        found[place] = (function(at + change).sum() - function(at - change).sum()) / (2 * step)
    return found


def _losses(
    kind: str, student: np.ndarray, teacher: np.ndarray, t: float = 1.0, level: bool = False, batch: Batch | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(loss `[T]`, its gradients by both logits)."""
    z_s, z_t = (tf.constant(z, tf.float32) for z in (student, teacher))
    with tf.GradientTape() as tape:
        tape.watch([z_s, z_t])
        values = distillation_losses(z_s, z_t, batch or _batch(), LONGEST, Distillation(kind, temperature=t), level)
    slopes = tape.gradient(values, [z_s, z_t], unconnected_gradients="zero")
    return values.numpy(), slopes[0].numpy(), slopes[1].numpy()


@pytest.mark.parametrize("level", [False, True])
@pytest.mark.parametrize(("kind", "t"), [("bce", 1.0), ("bce", 3.0), ("mse", 1.0), ("softmax", 1.0), ("softmax", 3.0)])
def test_values_and_gradients(kind: str, t: float, level: bool) -> None:
    student, teacher = _logits(0), _logits(1)
    values, by_student, by_teacher = _losses(kind, student, teacher, t, level)
    np.testing.assert_allclose(values, _reference(kind, student, teacher, t, level), rtol=2e-5)
    np.testing.assert_allclose(by_student, _slope(lambda z: _reference(kind, z, teacher, t, level), student), atol=2e-5)
    np.testing.assert_allclose(by_teacher, _slope(lambda z: _reference(kind, student, z, t, level), teacher), atol=2e-5)
    assert (by_student[ITEMS:] == 0).all() and (by_teacher[ITEMS:] == 0).all()  # whose logits are NaN here


@pytest.mark.parametrize("kind", DISTILL_LOSSES)
def test_compiled_by_xla(kind: str) -> None:
    """Values and gradients, also with NaN at padding."""
    student, teacher = (tf.constant(_logits(seed), tf.float32) for seed in (0, 1))

    @tf.function(jit_compile=True)
    def compiled() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(student)
            values = distillation_losses(student, teacher, _batch(), LONGEST, Distillation(kind))
        return [values, tape.gradient(values, student)]

    values, slope, _ = _losses(kind, student.numpy(), teacher.numpy())
    np.testing.assert_allclose(compiled()[0], values, rtol=1e-5)
    np.testing.assert_allclose(compiled()[1], slope, atol=1e-5)


@pytest.mark.parametrize("kind", DISTILL_LOSSES)
def test_levels_of_lists_mean_nothing(kind: str) -> None:
    """A shift of a list by its own constant, the teacher's or the student's, changes nothing; a gradient sums to 0 in a list."""
    student, teacher = _logits(0), _logits(1)
    shift = np.concatenate([np.repeat([[40.0], [-30.0], [7.0], [-3.0]], LENGTHS, axis=0), np.zeros([PADDING, 1])])
    values, slope, _ = _losses(kind, student, teacher)
    for moved in (_losses(kind, student + shift, teacher), _losses(kind, student, teacher - shift)):
        np.testing.assert_allclose(moved[0], values, rtol=1e-4)
        np.testing.assert_allclose(moved[1], slope, atol=1e-4)
    sums = np.add.reduceat(slope[:ITEMS], np.concatenate([[0], np.cumsum(LENGTHS)[:-1]]))
    np.testing.assert_allclose(sums, np.zeros_like(sums), atol=1e-6)


@pytest.mark.parametrize("kind", DISTILL_LOSSES)
def test_lists_of_one_item_and_padding_are_0_exactly(kind: str) -> None:
    source = np.random.default_rng(0)
    student, teacher = (source.normal(0, 9, [2 + PADDING, TASKS]) for _ in range(2))
    for batch in (_batch((1, 1)), _batch(())):
        rows = int(batch["item_mask"].shape[0])
        values, *slopes = _losses(kind, student[:rows], teacher[:rows], batch=batch)
        assert (values == 0).all() and all((slope == 0).all() for slope in slopes)
    assert (_losses("softmax", student, teacher, level=True, batch=_batch((1, 1)))[0] == 0).all()


@pytest.mark.parametrize("kind", DISTILL_LOSSES)
def test_the_gradient_is_0_where_student_and_teacher_agree(kind: str) -> None:
    teacher = _logits(1)
    assert np.abs(_losses(kind, teacher, teacher)[1]).max() < 1e-6
    assert np.abs(_losses(kind, _logits(0), teacher)[1]).max() > 0.05


def test_t_squared_keeps_the_size_of_the_gradient() -> None:
    """With k the loss at t = 1: t^2 k(z / t) has the gradient t k'(z / t), and for large t that of a squared difference, whatever t is."""
    student, teacher = _logits(0), _logits(1)
    for kind in ("bce", "softmax"):
        plain = _losses(kind, student, teacher)[1]
        for t in (2.0, 5.0):
            hot = _losses(kind, t * student, t * teacher, t)[1]
            np.testing.assert_allclose(Distillation(kind, temperature=t).factor * hot, t * plain, rtol=1e-4, atol=1e-5)
    squares = _losses("mse", student, teacher)[1] / 2
    sizes = np.concatenate([np.repeat(LENGTHS, LENGTHS), np.ones(PADDING)])[:, None]
    for t in (300.0, 600.0):
        for kind, share in (("bce", 1 / 4), ("softmax", 1 / sizes)):
            slope = Distillation(kind, temperature=t).factor * _losses(kind, student, teacher, t)[1]
            np.testing.assert_allclose(slope, share * squares, atol=0.02)
    assert Distillation("bce", weight=3.0, temperature=2.0).factor == 12.0


def test_which_losses_share_a_level() -> None:
    calibrated, regression = Loss("calibrated_softmax", 2.0), Loss("regression_compatible", listwise_share=0.2)
    assert not same_level(Loss(), Loss()) and not same_level(calibrated, regression)
    assert same_level(calibrated, Loss("calibrated_softmax", 2.0)) and not same_level(calibrated, Loss("calibrated_softmax", 1.0))
    assert same_level(regression, Loss("regression_compatible"))  # both parts of it are least at the same logits


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss": "kl"}, "--distill_loss=kl: there are bce, mse, softmax"),
        ({"weight": -1.0}, "--distill_weight=-1.0 must be at least 0"),
        ({"temperature": 0.0}, "--distill_temperature=0.0 must be above 0"),
        ({"loss": "mse", "temperature": 2.0}, "--distill_temperature=2 with --distill_loss=mse: .* leave it out"),
    ],
)
def test_values_that_mean_nothing(values: dict[str, object], message: str) -> None:
    with pytest.raises(CvrError, match=message):
        Distillation(**values)  # type: ignore[arg-type]


# Which model learns from it ---------------------------------------------------------------------------------------------

SPEC = tiny_spec(LEAN)
FACTORS = {"student": {"cross_width": 4, "deep_width": 4}, "teacher": {"cross_width": 8, "deep_width": 12}}


def _ranker(who: str) -> Ranker:
    """With dropout, so that a step which draws other numbers differs."""
    config = RankerConfig("dcnv2", FACTORS[who], experts=1, expert_width=4, tower_width=0, dropout=0.2, seed=len(who))
    return build_ranker(SPEC, config, dummy_batch(SPEC))


def _optimizer(ranker: Ranker) -> RankerOptimizer:
    config = OptimizerConfig(clip_norm=0.5, weight_decay=0.01)
    return make_optimizer(lambda: ranker.extraction.table_variables, lambda: ranker.dense_variables, 0.01, 0.01, config)


def _step(how: Distillation | None, trains: bool = True) -> TrainingStep:
    """Of a student alone, or with a teacher."""
    rankers = [_ranker("teacher"), _ranker("student")]
    optimizers = [_optimizer(ranker) for ranker in rankers]
    plain = TrainingStep(rankers[1], optimizers[1], LossGuard(TASKS), 6, Loss())
    return DistillingStep(plain, Teacher(rankers[0], Loss(), trains, how), optimizers[0] if trains else None) if how else plain


def _trained(how: Distillation | None, trains: bool = True) -> TrainingStep:
    """After two batches."""
    step = _step(how, trains)
    for seed in (1, 2):
        step(batch_of(SPEC, random_columns(SPEC, 6, seed), Budget(36, 8)))
    return step


def _same(first: Ranker, second: Ranker) -> bool:
    pairs = zip(first.variables, second.variables, strict=True)
    return all(np.array_equal(a.numpy(), b.numpy()) for a, b in pairs)


@pytest.fixture(scope="module")
def steps() -> dict[str, TrainingStep]:
    """The same two batches, by what taught."""
    kinds = {"alone": None, "nothing": Distillation(weight=0.0), "bce": Distillation(weight=5.0, temperature=2.0)}
    return {**{name: _trained(how) for name, how in kinds.items()}, "both": _trained(Distillation(weight=5.0, temperature=2.0, both=True))}


def test_the_student_s_errors_do_not_reach_the_teacher(steps: dict[str, TrainingStep]) -> None:
    """Weights and moments after two steps with a clip, to the bit; and with --distill_both they do."""
    plain, taught, both = (steps[name] for name in ("nothing", "bce", "both"))
    assert _same(plain.teacher.ranker, taught.teacher.ranker) and not _same(plain.ranker, taught.ranker)
    moments = [[value.numpy() for value in step.teacher_optimizer.optimizers[0].variables] for step in (plain, taught)]
    assert all(np.array_equal(a, b) for a, b in zip(*moments, strict=True)) and len(moments[0]) > 5
    assert not _same(plain.teacher.ranker, both.teacher.ranker)


def test_gradients_of_the_teacher_are_its_own_to_the_bit(steps: dict[str, TrainingStep]) -> None:
    batch = batch_of(SPEC, random_columns(SPEC, 6, 3), Budget(36, 8))
    student, teacher = (steps["bce"].ranker, steps["bce"].teacher.ranker)

    def gradients(weight: float, both: bool) -> list[np.ndarray]:
        how = Teacher(teacher, Loss(), True, Distillation("bce", weight, 2.0, both))
        with tf.GradientTape() as tape:
            own, distilled = how.losses(student(batch), teacher(batch), batch, 6, Loss())
            total = tf.reduce_sum(own) + how.how.factor * tf.reduce_sum(distilled)
        found = tape.gradient(total, teacher.trainable_variables)
        return [tf.convert_to_tensor(gradient).numpy() for gradient in found]

    without = gradients(0.0, False)
    assert all(np.array_equal(a, b) for a, b in zip(without, gradients(7.0, False), strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(without, gradients(7.0, True), strict=True))


def test_a_weight_of_0_leaves_the_student_as_if_alone(steps: dict[str, TrainingStep]) -> None:
    assert _same(steps["alone"].ranker, steps["nothing"].ranker)


def test_a_finished_teacher_does_not_change_and_scores_without_dropout() -> None:
    step = _trained(Distillation("softmax"), trains=False)
    assert _same(step.teacher.ranker, _ranker("teacher"))
    assert set(step.state) == {"guard", "gate_use", "teacher_guard"}
    assert int(step.teacher.ranker.dropout_step.numpy()) == 0 and int(step.ranker.dropout_step.numpy()) == 2


def test_what_is_logged(steps: dict[str, TrainingStep]) -> None:
    step = steps["bce"]
    assert set(step.state) == {"guard", "gate_use", "teacher_guard", "teacher", "teacher_optimizer"}
    found = step.take_values()
    names = {f"{kind}/{task}" for kind in ("teacher_loss", "distillation") for task in SPEC.task_names}
    assert names | {"teacher_gradient_norm"} <= set(found) and all(found[name] > 0 for name in names)
    assert found["teacher_gradient_norm"] > 0 and step.take_values()["teacher_gradient_norm"] == 0.0


def test_a_teacher_that_goes_wrong_is_seen() -> None:
    step = _step(Distillation())
    step.teacher.ranker.head.logit_kernel.assign(tf.fill(step.teacher.ranker.head.logit_kernel.shape, np.nan))
    step(batch_of(SPEC, random_columns(SPEC, 6, 1), Budget(36, 8)))
    (_, _), (guard, names) = step.guards
    bad = guard.bad_step()
    assert bad is not None and "the loss is not finite (teacher_loss/purchase nan" in bad.describe(names)

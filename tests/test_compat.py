"""tensorflow-ranking on current TensorFlow: the placeholders, and the losses, metrics and data sets that we rely on."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_ranking as tfr
from tensorflow_serving.apis import input_pb2

from cvr import compat

ROOT = Path(__file__).resolve().parents[1]


def _run(program: str, *paths: Path) -> str:
    """The output of a program in a fresh interpreter whose path begins with `paths`."""
    first = f"import sys; sys.path[:0] = {[str(path) for path in (*paths, ROOT)]!r}\n"
    answer = subprocess.run(
        [sys.executable, "-c", first + program], capture_output=True, text=True, check=False, timeout=120
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


@pytest.fixture
def fake_tensorflow(tmp_path: Path) -> Path:
    """A `tensorflow` package without an estimator, quick to import."""
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").touch()
    return tmp_path


def test_a_real_estimator_wins(fake_tensorflow: Path) -> None:
    (fake_tensorflow / "tensorflow" / "estimator.py").write_text("NAME = 'real'\n")
    assert _run("import cvr, tensorflow.estimator as e; print(e.NAME)", fake_tensorflow) == "real"


def test_a_missing_estimator_is_replaced(fake_tensorflow: Path) -> None:
    program = "import cvr, tensorflow.estimator as e; print(type(e).__name__, type(e.Estimator).__name__)"
    assert _run(program, fake_tensorflow) == "PlaceholderModule Placeholder"


def test_other_missing_modules_still_fail(fake_tensorflow: Path) -> None:
    program = "import cvr\ntry:\n    import tensorflow.absent\nexcept ModuleNotFoundError as e:\n    print(e.name)"
    assert _run(program, fake_tensorflow) == "tensorflow.absent"


def test_importing_cvr_does_not_import_tensorflow_and_selects_legacy_keras() -> None:
    program = "import cvr, os; print('tensorflow' in sys.modules, os.environ['TF_USE_LEGACY_KERAS'])"
    assert _run(program) == "False 1"


def test_install_twice_adds_one_finder() -> None:
    compat.install()
    compat.install()
    assert sum(isinstance(finder, compat.EstimatorFinder) for finder in sys.meta_path) == 1


def test_calling_a_placeholder_says_why() -> None:
    module = compat.PlaceholderModule("tensorflow.estimator")
    with pytest.raises(NotImplementedError, match=r"tensorflow\.estimator\.export\.run was removed .* 2\.16.*Keras"):
        module.export.run(1)


def test_subclassing_a_placeholder_fails_only_when_used() -> None:
    module = compat.PlaceholderModule("tensorflow.estimator")

    class Mine(module.Estimator):  # type: ignore[name-defined,misc]
        pass

    with pytest.raises(NotImplementedError, match="Estimator was removed"):
        Mine()


def test_python_does_not_take_a_placeholder_for_something_else() -> None:
    module = compat.PlaceholderModule("tensorflow.estimator")
    with pytest.raises(AttributeError):
        _ = module.__wrapped__
    with pytest.raises(AttributeError):
        _ = module.Estimator.__len__


def test_keras_is_the_legacy_one() -> None:
    assert tf.keras.Model.__module__.startswith("tf_keras")


# Losses. TF-Ranking's own published values; the first is -log(exp(.6) / (exp(.6) + exp(.8))) = log(1 + exp(.2)).


def test_softmax_loss_golden_value() -> None:
    loss = tfr.keras.losses.SoftmaxLoss()([[1.0, 0.0]], [[0.6, 0.8]])
    assert float(loss) == pytest.approx(math.log(1 + math.exp(0.2)), abs=1e-6)
    assert float(loss) == pytest.approx(0.7981389, abs=1e-6)


def test_softmax_loss_ragged_equals_padded() -> None:
    ragged = tfr.keras.losses.SoftmaxLoss(ragged=True)(
        tf.ragged.constant([[1.0, 0.0], [0.0, 1.0, 0.0]]), tf.ragged.constant([[0.6, 0.8], [0.5, 0.8, 0.4]])
    )
    padded = tfr.keras.losses.SoftmaxLoss()([[1.0, 0.0, -1.0], [0.0, 1.0, 0.0]], [[0.6, 0.8, 9.0], [0.5, 0.8, 0.4]])
    assert float(ragged) == pytest.approx(0.83911896, abs=1e-6)
    assert float(padded) == pytest.approx(0.83911896, abs=1e-6)


def test_softmax_loss_masks_by_label_only_down_to_the_log_of_1e_10() -> None:
    """Why logits are centred first: padding keeps the logit ln(1e-10), so very low real logits lose to it."""
    loss = tfr.keras.losses.SoftmaxLoss()
    labels = [[1.0, 0.0, -1.0]]
    near = float(loss(labels, [[0.6, 0.8, 0.0]]))
    far = float(loss(labels, [[0.6 - 100, 0.8 - 100, 0.0]]))
    assert near == pytest.approx(math.log(1 + math.exp(0.2)), abs=1e-6)
    assert far == pytest.approx(math.log(1e-10) + 99.4, rel=1e-3)


def test_softmax_loss_weighs_lists_by_their_label_sum_and_skips_lists_without() -> None:
    """Two purchases give the plain sum of both cross entropies, none gives 0; the mean divides by all lists."""
    scores = [[0.6, 0.8, 0.1], [0.3, 0.2, 0.1]]
    loss = tfr.keras.losses.SoftmaxLoss()([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]], scores)
    log_total = math.log(sum(math.exp(score) for score in scores[0]))
    assert float(loss) == pytest.approx(((log_total - 0.6) + (log_total - 0.8)) / 2, abs=1e-6)


def test_softmax_loss_gradient_is_total_label_times_probability_minus_label() -> None:
    labels = tf.constant([[1.0, 0.0, 1.0]])
    scores = tf.Variable([[0.6, 0.8, -0.3]])
    with tf.GradientTape() as tape:
        loss = tfr.keras.losses.SoftmaxLoss()(labels, scores)
    expected = 2 * tf.nn.softmax(scores).numpy() - labels.numpy()
    np.testing.assert_allclose(tape.gradient(loss, scores), expected, atol=1e-6)


# Metrics of one list: scores rank the items b, c, a; relevant are b (rank 1) and a (rank 3). The last is padding.
LABELS = [[1.0, 1.0, 0.0, -1.0]]
SCORES = [[0.1, 0.9, 0.5, 7.0]]


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (tfr.keras.metrics.MeanAveragePrecisionMetric, (1 / 1 + 2 / 3) / 2),
        (tfr.keras.metrics.MRRMetric, 1.0),
        (tfr.keras.metrics.NDCGMetric, (1 + 1 / math.log2(4)) / (1 + 1 / math.log2(3))),
    ],
)
def test_metrics_by_hand(metric: type[tf.keras.metrics.Metric], expected: float) -> None:
    measured = metric()
    measured.update_state(LABELS, SCORES)
    assert float(measured.result()) == pytest.approx(expected, abs=1e-6)


def test_mrr_is_the_rank_of_the_first_relevant_item() -> None:
    measured = tfr.keras.metrics.MRRMetric()
    measured.update_state([[0.0, 1.0, 1.0]], [[3.0, 1.0, 2.0]])
    assert float(measured.result()) == pytest.approx(1 / 2)


def test_map_counts_a_list_without_a_relevant_item_as_zero() -> None:
    """The trap behind "leave such lists out": the mean over both lists is half the first one's 1/2."""
    measured = tfr.keras.metrics.MeanAveragePrecisionMetric()
    measured.update_state([[0.0, 1.0], [0.0, 0.0]], [[3.0, 1.0], [1.0, 2.0]])
    assert float(measured.result()) == pytest.approx(1 / 4)


# ELWC (ExampleListWithContext), the record that TF-Ranking users read.


def _example(**features: float | bytes) -> tf.train.Example:
    def feature(value: float | bytes) -> tf.train.Feature:
        if isinstance(value, bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))

    return tf.train.Example(
        features=tf.train.Features(feature={name: feature(value) for name, value in features.items()})
    )


def _list_record(query: bytes, prices: list[float], labels: list[float]) -> bytes:
    record = input_pb2.ExampleListWithContext()
    record.context.CopyFrom(_example(query=query))
    record.examples.extend(_example(price=p, label=y) for p, y in zip(prices, labels, strict=True))
    return record.SerializeToString()


def test_elwc_data_set_round_trip(tmp_path: Path) -> None:
    path = str(tmp_path / "lists.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(_list_record(b"red shoes", [1.5, 2.5], [0.0, 1.0]))
        writer.write(_list_record(b"tent", [3.5, 4.5, 5.5], [1.0, 0.0, 0.0]))
    dataset = tfr.data.build_ranking_dataset(
        file_pattern=path,
        data_format=tfr.data.ELWC,
        batch_size=2,
        context_feature_spec={"query": tf.io.FixedLenFeature([1], tf.string)},
        example_feature_spec={
            "price": tf.io.FixedLenFeature([1], tf.float32, [0.0]),
            "label": tf.io.FixedLenFeature([1], tf.float32, [-1.0]),
        },
        mask_feature_name="mask",
        shuffle=False,
        num_epochs=1,
    )
    (batch,) = list(dataset)
    assert batch["query"].numpy().tolist() == [[b"red shoes"], [b"tent"]]
    assert batch["price"].numpy()[..., 0].tolist() == [[1.5, 2.5, 0.0], [3.5, 4.5, 5.5]]
    assert batch["label"].numpy()[..., 0].tolist() == [[0.0, 1.0, -1.0], [1.0, 0.0, 0.0]]
    assert batch["mask"].numpy().tolist() == [[True, True, False], [True, True, True]]

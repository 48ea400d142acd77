"""Probabilities in the graph against cvr.calibration in NumPy: every loss and method, by every signature, and what the gate refuses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import tensorflow as tf

from cvr import records
from cvr.calibration import CALIBRATION_FILE, METHODS, Calibration, TaskCalibration, load_calibration
from cvr.errors import CvrError
from cvr.losses import LOSSES
from cvr.manifest import publish_json
from export.batching import Batching
from export.checks import Subject, compare_all, compare_probabilities, report
from export.client import Client, table
from export.example import example_search
from export.extras import about
from export.parity import check_calibration
from export.probabilities import probabilities
from export.request import to_arrays
from export.saved_model import save_version
from export.servable import Servable
from export.server import Server
from export.services import Models
from tests.export.conftest import Exported
from tests.export.tiny import make_run
from tests.support import random_columns

COUNTS = {"items": 9, "positives": 3, "log_loss": (0.2, 0.1)}
KNOTS = {"log_odds": [-6.0, -3.0, -3.0 + 1e-9, 1.0, 2.0], "probability": [0.0, 0.01, 0.2, 0.2, 0.9]}
SHAPES = {
    "platt": TaskCalibration(slope=0.8, intercept=-0.3, **COUNTS),
    "isotonic": TaskCalibration(**KNOTS, **COUNTS),
    "temperature": TaskCalibration(temperature=1.7, **COUNTS),
}


def _calibration(loss: str, tasks: dict[str, TaskCalibration], checkpoint: str = "weights-1") -> Calibration:
    return Calibration(
        method="platt", loss=loss, anchor_label=0.5, condition="converted", split="validation", data="0", checkpoint=checkpoint,
        created="now", lists=4, tasks=tasks,
    )  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("loss", LOSSES)
def test_the_graph_equals_numpy(loss: str, method: str) -> None:
    source = np.random.default_rng(0)
    lengths = np.array([1, 7, 2, 30, 5])
    scores = source.normal(-2, 3, lengths.sum()).astype(np.float32)
    scores[3:5], scores[20] = [200.0, -300.0], 90.0  # extreme logits, too
    calibration = _calibration(loss, {"buy": SHAPES[method]})
    index = tf.constant(np.repeat(np.arange(5), lengths), tf.int32)
    found = probabilities(calibration, {"buy": tf.constant(scores)}, index, tf.constant(5))["probability/buy"].numpy()
    expected = calibration.probabilities("buy", scores, lengths)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    assert found.dtype == np.float32 and len(np.unique(found)) > 4 and (0 < found).all() and (found < 1).all()


def test_at_and_beyond_the_knots() -> None:
    calibration = _calibration("regression_compatible", {"buy": SHAPES["isotonic"]})
    scores = np.array([-9.0, -6.0, -4.5, -3.0, 0.0, 1.0, 1.5, 2.0, 8.0], np.float32)
    found = probabilities(calibration, {"buy": tf.constant(scores)}, tf.zeros([9], tf.int32), tf.constant(1))["probability/buy"]
    np.testing.assert_allclose(found, [1e-6, 1e-6, 0.005, 0.01, 0.2, 0.2, 0.55, 0.9, 0.9], rtol=1e-5)


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A run whose purchases are calibrated by isotonic regression and whose clicks by Platt scaling, exported."""
    folder = tmp_path_factory.mktemp("calibrated")
    ranker, run = make_run(folder / "model")
    tasks = {"purchase": SHAPES["isotonic"], "click": SHAPES["platt"]}
    publish_json(run.folder / CALIBRATION_FILE, _calibration("softmax", tasks, run.info["checkpoint"]))
    version = save_version(run, ranker, folder / "export", 1, Batching(allowed_sizes=(4, 16), timeout_ms=2.0))
    stored = records.encode(run.spec, random_columns(run.spec, 6))
    return Exported(ranker, run, folder / "export", version, folder / "lists", stored)


@pytest.fixture(scope="module")
def subject_of_calibrated(calibrated: Exported) -> Iterator[Subject]:
    servable = Servable(calibrated.version)
    server = Server(Models("cvr", {1: servable}))
    server.start()
    calibration = load_calibration(calibrated.run.folder, calibrated.run.info["checkpoint"])
    with Client(f"127.0.0.1:{server.port}", timeout=60.0) as client:
        yield Subject(calibrated.run.spec, calibrated.ranker, servable, client, calibration)
    server.stop(grace=0.0)


def test_the_gate_compares_them(subject_of_calibrated: Subject, calibrated: Exported) -> None:
    subject = subject_of_calibrated
    searches = [example_search(subject.spec, items=1 + 3 * seed, seed=seed) for seed in range(3)]
    assert subject.calibration is not None
    found = compare_probabilities(subject, subject.calibration, calibrated.records, searches)
    assert found.name == "probability" and found.largest_difference <= 1e-6 and found.logits > 40
    every = compare_all(subject, calibrated.records[:1], searches[:1])
    assert every[-1].name == "probability" and report(every, 1e-5)["passed"]
    shifted = SHAPES["platt"].model_copy(update={"intercept": -0.30002})
    other = subject.calibration.model_copy(update={"tasks": {"purchase": SHAPES["isotonic"], "click": shifted}})
    wrong = compare_probabilities(subject, other, calibrated.records, searches)
    assert wrong.largest_difference < 1e-5 and not wrong.passes(1e-5)  # less than the tolerance of logits is too much
    assert not report([wrong], 1e-5)["passed"]


def test_rows_of_a_call_are_one_list(subject_of_calibrated: Subject) -> None:
    """Splitting a search into two calls changes softmax probabilities and not logits."""
    subject = subject_of_calibrated
    search = example_search(subject.spec, items=6)
    halves = subject.client.predict(to_arrays(search, subject.servable.inputs("serving_default")), "preprocess")
    whole = subject.client.predict(halves, "score")
    part = subject.client.predict({**halves, "item_features": halves["item_features"][:3]}, "score")
    np.testing.assert_allclose(part["click"], whole["click"][:3], atol=1e-5)
    assert (part["probability/click"] > whole["probability/click"][:3]).all()
    ranked = subject.client.rank(search.context, search.items, search.history)
    assert set(ranked[0].probabilities) == {"purchase", "click"} == set(ranked[0].logits)
    served = [item.probabilities["click"] for item in ranked]
    np.testing.assert_allclose(served, whole["probability/click"][[item.row for item in ranked]], atol=1e-6)
    assert "P(click)" in table(ranked).splitlines()[0]


def test_the_model_says_what_they_mean(calibrated: Exported, exported: Exported) -> None:
    told = about(calibrated.version)["calibration"]
    assert told["outputs"] == ["probability/purchase", "probability/click"]
    assert told["meaning"] == "P(positive | shown in a search list with at least one positive of the primary task)"
    assert about(exported.version)["calibration"] is None
    assert not any("probability" in name for name in about(exported.version)["signatures"]["serving_default"]["outputs"])


def test_a_calibration_that_came_after_the_export(calibrated: Exported) -> None:
    now = load_calibration(calibrated.run.folder, calibrated.run.info["checkpoint"])
    check_calibration(calibrated.version, about(calibrated.version), now)
    with pytest.raises(CvrError, match="was exported when the run had no calibration; export the run again"):
        check_calibration(calibrated.version, {"calibration": None}, now)
    with pytest.raises(CvrError, match="had another calibration"):
        check_calibration(calibrated.version, about(calibrated.version), None)

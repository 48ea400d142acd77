"""LambdaMART as a baseline: it learns a planted rule, chooses on the validation lists alone, and reports as `cvr.evaluate` does."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cvr.errors import CvrError
from cvr.metrics import rank_metrics, tie_breaker
from cvr.scoring import ScoredLists
from tests.commands import run_main
from tests.support import LEAN, random_columns, tiny_spec, write_lists
from tools import gbdt_baseline
from tools.gbdt import boosting, tuning
from tools.gbdt.boosting import DEFAULTS, Booster, Fitted, Machine, Ranking, parse_params

SMALL = ("--params=min_data_in_leaf=5,num_leaves=7,learning_rate=0.1", "--patience=10", "--threads=1", "--bootstrap=20")
FILES = {"summary.json", "per_list.parquet", "scores.parquet", "importances.parquet", "trials.json", "model_purchase.txt"}


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lists in which the cheapest item is bought and the first one clicked; in the test lists nothing was clicked."""
    folder, spec = tmp_path_factory.mktemp("gbdt") / "lists", tiny_spec(LEAN)

    def columns(count: int, seed: int) -> object:
        made = random_columns(spec, count, seed)
        price = np.where(np.isfinite(made.item_num[:, 0]), made.item_num[:, 0], np.inf)
        starts = np.cumsum(made.lengths) - made.lengths
        cheapest = price == np.repeat(np.minimum.reduceat(price, starts), made.lengths)
        made.labels[:, 0], made.labels[:, 1] = cheapest & np.isfinite(price), (made.position == 1) & (seed < 3)
        return made

    write_lists(folder, {"train": [columns(300, 1)], "validation": [columns(80, 2)], "test": [columns(80, 3)]}, LEAN)
    return folder


def _run(lists: Path, output: Path, *arguments: str) -> dict:
    run_main(gbdt_baseline, f"--lists={lists}", f"--output={output}", *SMALL, *arguments)
    return json.loads((output / "summary.json").read_text())


@pytest.fixture(scope="module")
def result(lists: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("gbdt") / "result"
    _run(lists, output, "--tune=3")
    return output


def test_it_finds_the_rule(result: Path) -> None:
    summary = json.loads((result / "summary.json").read_text())
    assert {path.name for path in result.iterdir()} == FILES
    purchase = summary["tasks"]["purchase"]
    assert purchase["map"] > 0.9 > purchase["baselines"]["display_order"]["map"] + 0.1
    importances = pd.read_parquet(result / "importances.parquet")
    assert importances.column[0] == "price" and importances.share[0] > 0.5 and importances.share.sum() == pytest.approx(1)
    assert summary["features"] == ["price", "touched", "device"]
    assert set(summary["left_out"]) == {"tags", "recent"}


def test_the_report_is_that_of_the_scores(result: Path) -> None:
    scores = pd.read_parquet(result / "scores.parquet")
    lengths = scores.groupby("search_id", sort=False).size().to_numpy()
    arguments = (scores.score_purchase.to_numpy(), scores.label_purchase.to_numpy(), lengths, tie_breaker(scores["item"].to_numpy()))
    per_list = pd.read_parquet(result / "per_list.parquet")
    np.testing.assert_array_equal(per_list["map"], rank_metrics(*arguments).map)
    assert per_list.task.unique().tolist() == ["purchase"]


def test_the_best_on_validation_is_kept(result: Path) -> None:
    trials = json.loads((result / "trials.json").read_text())["purchase"]
    model = json.loads((result / "summary.json").read_text())["models"]["purchase"]
    assert len(trials) == 3 and trials[0]["params"] == {**DEFAULTS, **parse_params(SMALL[0].removeprefix("--params=").split(","))}
    best = max(trials, key=lambda trial: trial["validation_map"])
    assert (model["params"], model["trees"], model["validation_map"]) == (best["params"], best["trees"], best["validation_map"])
    assert (result / "model_purchase.txt").read_text().count("\nTree=") == best["trees"]


def test_final_trains_on_validation_lists_too(lists: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = _run(lists, tmp_path / "final", "--final", "--tasks=purchase,click", "--seed=1")
    assert summary["train_splits"] == ["train", "validation"]
    trials = json.loads((tmp_path / "final" / "trials.json").read_text())
    for task in ("purchase", "click"):
        assert summary["models"][task]["trees"] == trials[task][0]["trees"]
        assert (tmp_path / "final" / f"model_{task}.txt").read_text().count("\nTree=") == trials[task][0]["trees"]
    assert summary["tasks"]["click"]["lists"] == 0 and summary["tasks"]["click"]["map"] is None
    said = capsys.readouterr().out
    assert "click: 300 lists with a positive" in said and "click: 380 lists with a positive" in said
    fixed = _run(lists, tmp_path / "fixed", "--train_splits=train,validation", "--validation_split=", "--seed=1",
                 f"--trees={summary['models']['purchase']['trees']}")  # fmt: skip
    assert fixed["tasks"]["purchase"] == summary["tasks"]["purchase"]


def test_lists_without_a_positive_are_left_out() -> None:
    none, labels = np.zeros(5), np.array([[0, 1], [0, 0], [1, 0], [1, 0], [1, 0]], np.float32)
    ids = np.array([b"a", b"b"], object)
    lists = ScoredLists(ids, none[:2], np.array([3, 2]), np.arange(11, 16), none, none, labels, none, np.ones((5, 4)))
    found = Ranking.of(lists.scores, lists, 1)
    assert found.lengths.tolist() == [3] and found.item.tolist() == [11, 12, 13] and found.labels.tolist() == [1, 0, 0]
    assert found.mean_average_precision(np.array([0.2, 0.3, 0.1])) == 0.5


@pytest.fixture(scope="module")
def halves() -> list[Ranking]:
    """Thirty lists of ten items to train on and as many to validate on; the first column tells of the positives, with noise."""
    source = np.random.default_rng(0)
    values = source.normal(size=(600, 3)).astype(np.float32)
    labels = (values[:, 0] + source.normal(size=600) > 1).astype(np.float32)
    labels[::10] = 1
    return [Ranking(values[s], labels[s], np.full(30, 10), np.arange(300)) for s in (slice(0, 300), slice(300, 600))]


def _fit(halves: list[Ranking], machine: Machine) -> Fitted:
    return Booster(("a", "b", "c"), [], halves[0], machine).fit({**DEFAULTS, "min_data_in_leaf": 5}, 50, halves[1], 10)


def test_validation_map_is_that_of_the_kept_trees(halves: list[Ranking]) -> None:
    fitted, held_out = _fit(halves, Machine(0, 1)), halves[1]
    scores = [fitted.booster.predict(held_out.values, num_iteration=n + 1) for n in range(fitted.trees)]
    curve = [held_out.mean_average_precision(s) for s in scores]
    assert fitted.validation_map == curve[-1] == max(curve)


def test_same_seed_same_trees_and_another_seed_others(halves: list[Ranking]) -> None:
    trees = [_fit(halves, Machine(seed, threads)).booster.trees_to_dataframe() for seed, threads in ((1, 1), (1, 2), (2, 1))]
    pd.testing.assert_frame_equal(trees[0], trees[1], check_exact=True)
    assert not trees[0].equals(trees[2])


def test_drawn_configurations_differ_and_begin_with_the_given_one() -> None:
    first = {**DEFAULTS, "num_leaves": 5}
    found = tuning.draw(first, 20, seed=3)
    assert found[0] == first and found == tuning.draw(first, 20, seed=3) != tuning.draw(first, 20, seed=4)
    assert len({tuning.as_flag(params) for params in found}) == 20
    assert set(tuning.GRID) == set(DEFAULTS)
    assert parse_params(tuning.as_flag(found[7]).split(",")) == found[7]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--params=leaves=3"], "unknown parameter 'leaves'"),
        (["--params=num_leaves=few"], "num_leaves='few' is no int"),
        (["--tasks=rent"], "no task 'rent' in the spec; there are purchase, click"),
        (["--validation_split=", "--final"], "--final and --tune need lists to choose on"),
        (["--split=validation", "--final"], "must not name a split that is trained on"),
        (["--train_splits=train,test"], "must not name a split that is trained on"),
        (["--split=later"], "split 'later' holds no list"),
    ],
)
def test_contradictions_are_errors(lists: Path, tmp_path: Path, arguments: list[str], text: str) -> None:
    with pytest.raises(CvrError, match=text):
        run_main(gbdt_baseline, f"--lists={lists}", f"--output={tmp_path}", *arguments)
    assert not list(tmp_path.iterdir())


def test_a_finished_result_stays(lists: Path, result: Path) -> None:
    with pytest.raises(CvrError, match="already holds an evaluation"):
        _run(lists, result)


def test_without_lightgbm_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(CvrError, match=r'pip install "cvr\[gbdt\]"'):
        boosting.load_lightgbm()

"""Every study of arms on results that are known: claims, findings, result table and page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tools.scaling.made import finish
from tools.comparison.statistics import Resampling
from tools.scaling import report, studies
from tools.scaling.declare import Setup
from tools.scaling.logs import FULL, Source
from tools.scaling.results import Results
from tools.scaling.runs import Runs
from tools.scaling.status import findings, judge
from tools.scaling_study import arms_table

HOW = Resampling(200, margin=0.005)
FACTORS = {"data": 0.02, "backbone": 0.01, "embedding": 0.01}


def _words(tmp_path: Path, name: str, gain: Callable[[str], float], flops: Callable[[str], int] = lambda arm: 1000) -> dict[str, str]:
    """Status words; the page and the result table are made on the way."""
    module = studies.load(name)
    study = module.declare(Setup(False, FULL.period))
    finish(tmp_path, study, gain, flops)
    runs = Runs(study, Source(tmp_path / "out", "", given="lists"), tmp_path / "out", "", 2)
    places = {arm.name: [runs.evaluation(arm.name, seed) for seed in range(2)] for arm in study.arms}
    infos = {arm.name: [runs.info(arm.name, seed) for seed in range(2)] for arm in study.arms}
    results = Results(study, places, infos, "purchase")
    judged = judge([*arms_table(study), *module.contrasts(study, results)], results, HOW)
    found = [*module.findings(study, results, HOW), *findings(judged)]
    made = report.make_report(results, judged, found, module.sections(study, results, judged), report.Report("", "", "", 0.005))
    page = made.html()
    assert all(arm.name in page for arm in study.evaluated) and all(one.requirement in page for one in found)
    assert len(results.rows(tmp_path / "out")) >= 2 * len(study.evaluated)
    return {one.requirement: one.word for one in found}


def _factorial(arm: str) -> float:
    """Gains that add up; other backbones are .01 apart, and all gain the same from data."""
    others = {"dcnv2": -0.01, "transformer": -0.02, "rankmixer": -0.03}
    backbone, _, amount = arm.partition(", ")
    return others[backbone] + 0.02 * (amount == "all data") if backbone in others else sum(FACTORS.get(one, 0.0) for one in arm.split("+"))


def test_compound(tmp_path: Path) -> None:
    assert _words(tmp_path, "compound", _factorial) == dict.fromkeys(("R70", "R71", "R72"), "reproduced direction")


def test_compound_where_gains_do_not_add_up_and_orders_change(tmp_path: Path) -> None:
    changed = {"data+backbone+embedding": 0.06, "rankmixer, all data": 0.05}
    words = _words(tmp_path, "compound", lambda arm: changed.get(arm, _factorial(arm)))
    assert words == dict.fromkeys(("R70", "R72", "R71"), "not reproduced")


@pytest.mark.parametrize(("wider", "word"), [(0.04, "reproduced direction"), (0.01, "not reproduced")])
def test_ensemble(tmp_path: Path, wider: float, word: str) -> None:
    gains = {"dcnv2": 0.0, "masknet": 0.01, "dhen": 0.02, "masknet at its FLOPs": wider, "dcnv2 at its FLOPs": 0.005}
    words = _words(tmp_path, "ensemble", gains.__getitem__, lambda arm: 1040 if "its FLOPs" in arm else 1000)
    assert words == {"R69 equal FLOPs": "exact", "R68": "reproduced direction", "R69": word}


def test_embedding(tmp_path: Path) -> None:
    """Dimension gains .01 per doubling, the vocabulary .005, both add up; query and title gain nothing."""

    def gain(arm: str) -> float:
        doublings = {"4": 0, "8": 1, "16": 2, "32": 3}[arm.rpartition(" ")[2]]
        return (0.01 * doublings + 0.005 * ("10x" in arm)) if arm.startswith("item") else 0.0

    direction = "reproduced direction"
    assert _words(tmp_path, "embedding", gain) == {"R63": "not testable here", "R61": direction, "R62": direction, "R64": direction}


def test_data(tmp_path: Path) -> None:
    days = {"5 days": 0.0, "10 days": 0.01, "20 days": 0.02, "40 days": 0.03}
    assert _words(tmp_path, "data", days.__getitem__) == {"R66": "exact", "R65": "reproduced direction"}


def test_coverage(tmp_path: Path) -> None:
    words = _words(tmp_path, "coverage", lambda arm: 0.0)
    assert words == {"R67 identity": "not reproduced", "R67": "reproduced direction"}  # made-up runs differ by their noise


@pytest.mark.parametrize(("both", "words"), [(0.02, ("reproduced direction",) * 2), (0.01, ("reproduced direction", "not reproduced"))])
def test_uniscale(tmp_path: Path, both: float, words: tuple[str, str]) -> None:
    """Naive mixing loses, each part of the routing repairs; only in the first case the gain needs both parts."""
    gains = {"ES3, naive": -0.02, "ES3, DREF": 0.01, "ES3, DAPGA": 0.01, "ES3, both": both, "feed, naive": -0.01}
    found = _words(tmp_path, "uniscale", lambda arm: gains.get(arm, 0.0))
    assert found == dict.fromkeys(("U1", "U2", "U3", "U4", "U6"), words[0]) | {"U5": words[1]}


@pytest.mark.parametrize(("softmax", "word"), [(0.01, "reproduced direction"), (0.0, "not reproduced")])
def test_distillation(tmp_path: Path, softmax: float, word: str) -> None:
    """Each way of teaching is a claim of its own."""
    gains = {"teacher": 0.03, "beside, bce": 0.02, "beside, softmax": softmax, "before, mse": 0.01, "lightsuan by suan": 0.01}
    found = _words(tmp_path, "distillation", lambda arm: gains.get(arm, 0.0))
    rest = dict.fromkeys(("3.8 beside", "3.10 before", "3.8 DistilSUAN"), "reproduced direction")
    assert found == {"3.8 cost": "mechanism only", "3.8 beside, softmax": word, **rest}


@pytest.mark.parametrize(("clean", "light", "words"), [(0.01, 0.0, ("reproduced direction",) * 2), (0.0, -0.02, ("not reproduced",) * 2)])
def test_suan(tmp_path: Path, clean: float, light: float, words: tuple[str, str]) -> None:
    """.01 per grade above baselines that are one grade below; in the second case a clean residual brings nothing, and LightSUAN loses."""

    def gain(arm: str) -> float:
        kind, _, rest = arm.partition(" ")
        if kind not in ("suan", "lightsuan"):
            return 0.0
        return 0.01 * int(rest[0]) + (clean if "clean" in rest else 0.0) + (light if kind == "lightsuan" else 0.0)

    found = _words(tmp_path, "suan", gain)
    assert found.pop("3.8 cost") == "mechanism only"
    assert (found.pop("3.8 pre-norm"), found.pop("3.8 sparse and shared")) == words
    assert found == dict.fromkeys(("3.8 grades", "3.8 above mean", "3.8 above target attention"), "reproduced direction")

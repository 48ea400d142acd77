"""The command on a tiny run: interrupted, resumed, refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cvr.errors import CvrError
from cvr.runs import load_ranker, load_run
from cvr.scoring import score_split
from tests.commands import run_main
from tests.export.tiny import make_run
from tests.support import LEAN, random_columns, tiny_spec, write_lists
from tools import importance
from tools.permutation.sample import Draw, draw_sample
from tools.permutation.scorer import Scorer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("importance")
    make_run(made / "run0", LEAN)
    shutil.copytree(made / "run0", made / "run1")
    write_lists(made / "lists", {"validation": [random_columns(tiny_spec(LEAN), 12, longest=9)]}, LEAN)
    (made / "families.yaml").write_text(
        "families: {history: [recent, touched], item: [price, tags], search: [device]}\nshares: {with: history, of: {all: [item]}}\n"
    )
    return made


def _run(folder: Path, *more: str, runs: str = "run0", output: str = "out") -> int:
    given = [f"--lists={folder}/lists", f"--output={folder}/{output}", f"--families={folder}/families.yaml", "--replicates=100"]
    names = ",".join(str(folder / name) for name in runs.split(","))
    return run_main(importance, f"--run={names}", *given, *more)


def test_the_unshuffled_scores_are_those_of_evaluation(folder: Path) -> None:
    ranker, run = load_ranker(folder / "run0")
    scored, _ = score_split(ranker, run.spec, str(folder / "lists"), "validation", 64)
    sample = draw_sample(run.spec, Draw(str(folder / "lists"), "validation", "purchase", 100, batch_items=40))
    positive = np.add.reduceat(scored.labels[:, 0], np.cumsum(scored.lengths) - scored.lengths) > 0
    expected = sample.precision(scored.of_lists(positive).scores[:, 0])
    np.testing.assert_array_equal(Scorer(ranker, sample).precision(), expected)


def test_an_interrupted_measurement_goes_on_and_ends_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, calls = Scorer.precision, []

    def counted(self: Scorer, *arguments: object) -> np.ndarray:
        calls.append(arguments)
        if len(calls) == 57:
            raise KeyboardInterrupt
        return whole(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Scorer, "precision", counted)
    with pytest.raises(KeyboardInterrupt):
        _run(folder)
    assert not (folder / "out" / "importance.json").exists()
    with pytest.raises(CvrError, match="holds a measurement with other settings .*seed: 0 then, 1 now"):
        _run(folder, "--seed=1")
    assert _run(folder) == 0
    sets = int(capsys.readouterr().out.split(" sets of features")[0].split("\n")[-1])
    assert len(calls) == 57 + sets * 10 - 50  # the base and 5 whole sets were kept, the 6th began anew
    found = json.loads((folder / "out" / "importance.json").read_text())
    assert {"features.png", "families.png", "interactions_across.png", "table.md"} <= {path.name for path in (folder / "out").iterdir()}
    row = next(row for row in found["found"]["table2"] if row["shuffle"] == "across")
    assert row["joint_share"]["value"] == (1 if row["joint"]["value"] > 0 else None)
    names = {row["name"] for row in found["found"]["features"]}
    assert names == set(load_run(folder / "run0").spec.features)
    with pytest.raises(CvrError, match="already holds a result"):
        _run(folder)


def test_runs_that_do_not_belong_together_are_refused(folder: Path) -> None:
    with pytest.raises(CvrError, match="a run is given twice"):
        _run(folder, runs="run0,run0", output="refused")
    info = json.loads((folder / "run1" / "run.json").read_text())
    info["model"]["experts"] = 3
    shutil.copytree(folder / "run1", folder / "run2")
    (folder / "run2" / "run.json").write_text(json.dumps(info))
    with pytest.raises(CvrError, match="run2 is another model than .*run0"):
        _run(folder, runs="run0,run2", output="refused")

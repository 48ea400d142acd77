"""`tools.study_backbones` on runs that are finished already: what is chosen, compared and printed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cvr.errors import CvrError
from tests.commands import run_main
from tests.support import random_columns, tiny_spec, write_lists
from tools import study_backbones

LISTS = 40
BASE = np.linspace(0.2, 0.8, LISTS)


def _run_info(folder: Path, **info: object) -> None:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"status": "finished", **info}))


def _evaluation(folder: Path, values: np.ndarray) -> Path:
    folder.mkdir(parents=True)
    frame = pd.DataFrame({"search_id": [f"s{i}" for i in range(LISTS)], "time": np.arange(LISTS), "items": 3, "positives": 1})
    frame.assign(map=values, map_display_order=0.4, task="purchase").to_parquet(folder / "per_list.parquet")
    (folder / "summary.json").write_text(json.dumps({"split": "test", "data": "d"}))
    return folder


@pytest.fixture
def study(tmp_path: Path) -> list[str]:
    """Two backbones, two configurations each, two seeds; wukong is better by .1, its seeds differ by .02."""
    write_lists(tmp_path / "lists", {"train": [random_columns(tiny_spec(), 2)]})
    (tmp_path / "base.flags").write_text("--epochs=1\n")
    for backbone, validation, gain in (("masknet", (0.5, 0.6), 0.0), ("wukong", (0.7, 0.4), 0.1)):
        for rate, value in zip(("1", "2"), validation, strict=True):
            _run_info(tmp_path / "out" / "tuning" / backbone / f"learning_rate={rate}", validation={"purchase": value})
        for seed in range(2):
            final = tmp_path / "out" / "final" / backbone
            costs = {"parameters": 1234567, "flops_per_item": 2_500_000, "items_per_second_train": 1000.0 + 500 * seed}
            _run_info(final / f"seed{seed}", **costs)
            _evaluation(final / f"evaluation{seed}", BASE + gain + 0.01 * (2 * seed - 1) * (backbone == "wukong"))
    flags = [f"--lists={tmp_path / 'lists'}", f"--base={tmp_path / 'base.flags'}", f"--output={tmp_path / 'out'}", "--seeds=2"]
    return [*flags, "--backbones=masknet,wukong", "--grid=learning_rate=1,2", "--replicates=500"]


def test_table_and_json(tmp_path: Path, study: list[str]) -> None:
    _evaluation(tmp_path / "trees", BASE - 0.05)
    run_main(study_backbones, *study, f"--beside=trees={tmp_path / 'trees'}")
    result = json.loads((tmp_path / "out" / "study.json").read_text())
    rows = {row["system"]: row for row in result["systems"]}
    assert list(rows) == ["trees", "display_order", "masknet", "wukong"]
    assert {name: round(row["map"], 6) for name, row in rows.items()} == {
        "trees": 0.45, "display_order": 0.4, "masknet": 0.5, "wukong": 0.6,
    }  # fmt: skip
    assert rows["masknet"]["chosen"] == {"learning_rate": "2"} and rows["wukong"]["chosen"] == {"learning_rate": "1"}
    assert rows["wukong"]["map_sd"] == pytest.approx(0.02 / 2**0.5) and rows["trees"]["map_sd"] is None
    low, high = rows["masknet"]["map_ci"]
    assert (high - low) / 2 == pytest.approx(1.96 * BASE.std() / LISTS**0.5, rel=0.15)
    differences = {row["system"]: row["difference"] for row in result["differences"]}
    assert differences == pytest.approx({"display_order": -0.05, "masknet": 0.05, "wukong": 0.15})
    table = (tmp_path / "out" / "table.md").read_text().splitlines()
    assert table[0].startswith("| system | test mAP, purchase | seeds (sd) | parameters | FLOPs per item | items/s | difference to trees |")
    assert "| 2 (±0.0141) | 1,234,567 | 2.50 M | 1,250 | +0.1500 [" in table[-1] and table[-1].endswith("| learning_rate 1 |")
    assert (tmp_path / "out" / "differences.png").stat().st_size > 5000


def test_commands_are_printed_until_the_tuning_is_done(tmp_path: Path, study: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out" / "final" / "wukong" / "seed1" / "run.json").unlink()
    run_main(study_backbones, *study, "--print_commands")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 and "--backbone=wukong" in lines[0] and "--learning_rate=1" in lines[0] and "--seed=1" in lines[0]
    (tmp_path / "out" / "tuning" / "masknet" / "learning_rate=1" / "run.json").unlink()
    run_main(study_backbones, *study, "--print_commands")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 and "--train_splits=train --validation_split=validation" in lines[0]


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--splits=train,test", "give three"),
        ("--backbones=masknut", "there is no 'masknut'"),
        ("--base=no.flags", "no flagfile"),
    ],
)
def test_wrong_flags_are_named(study: list[str], flag: str, message: str) -> None:
    with pytest.raises(CvrError, match=message):
        run_main(study_backbones, *study, flag)

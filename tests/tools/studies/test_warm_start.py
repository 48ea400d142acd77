"""The warm-start study: its days, its runs, its costs by hand, and its report on runs that are finished already."""

from __future__ import annotations

import datetime
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cvr.schema import parse_spec
from tests.commands import run_main
from tests.support import DAY, random_columns, tiny_spec, write_lists
from tools import study_warm_start
from tools.studies import jobs
from tools.studies.jobs import Job
from tools.studies.warm_start import FEATURE, FULL, QUICK, WINDOW_DAYS, WarmStudy, estimate, specs
from tools.studies.warm_start_cost import Costs, describe, flops, item_epochs

CHOSEN = {"scratch": (("rate", "3"),), "recent": (("rate", "2"),), "warm": (("rate", "1"),)}
LISTS = 60
BASE = np.linspace(0.2, 0.8, LISTS)


def _study(folder: Path) -> WarmStudy:
    return WarmStudy(folder, "base.flags", QUICK, threads=1)


def _option(line: str, name: str) -> str:
    found = re.search(rf"--{name}=(\S*)", line)
    assert found is not None, f"{name} in {line}"
    return found[1]


def test_cost_by_hand() -> None:
    """Base 20 days, recent 4, as many epochs of all; fine-tuning takes half as many."""
    costs = Costs(base=40.0, scratch=48.0, warm=4.0, recent=8.0)
    assert costs.cold_overhead == 5.0  # 48 / 8 - 1
    assert costs.warm_overhead(1) == 4.5  # (40 + 4) / 8 - 1
    assert costs.warm_overhead(5) == 0.5  # (8 + 4) / 8 - 1
    assert costs.break_even == pytest.approx(40 / 44)
    text = describe("days", costs, [5])
    assert "cold: 48 / 8 - 1 = +500%  (the paper's own: +264%)" in text
    assert "warm, m = 5: (40 / 5 + 4) / 8 - 1 = +50%  (the paper's own, m not stated: +36%)" in text


def test_cost_of_a_run() -> None:
    run = {"flops_per_item": 100, "flops_per_list": 30, "items": 50, "lists": 10, "epochs_done": 2}
    assert flops(run) == 3 * 2 * (5000 + 300)
    assert item_epochs(run) == 100


def test_launches_do_not_share_test_days_and_nothing_trains_on_them(tmp_path: Path) -> None:
    lines = [job.commands[0].line for job in WarmStudy(tmp_path, "f", FULL).build()]
    days = [[datetime.date.fromisoformat(_option(line, name)) for name in ("validation_from", "test_from", "end")] for line in lines]
    start = datetime.date(2026, 1, 1)
    assert [[(day - start).days for day in row] for row in days] == [
        [16, 20, 24], [20, 24, 28], [24, 28, 32], [28, 32, 36], [32, 36, 40], [36, 40, 44], [20, 24, 28],
    ]  # fmt: skip
    assert _option(lines[-1], "spec").endswith("feature.yaml") and _option(lines[1], "spec").endswith("plain.yaml")
    log = WarmStudy(tmp_path, "f", FULL).logs()[0].commands[0].line
    assert "--days=47" in log and "--feature_launch_day=20" in log


def test_the_specs_differ_by_the_feature(project_root: Path) -> None:
    text = (project_root / "configs/features/synthetic.yaml").read_text()
    plain, launched = (parse_spec(found) for found in specs(text, datetime.date(2026, 1, 21)).values())
    assert set(launched.features) - set(plain.features) == {FEATURE} and len(plain.features) == len(parse_spec(text).features) - 1
    assert str(launched.features[FEATURE].introduced_on) == "2026-01-21"
    assert max(task.window for task in plain.tasks.values()) == WINDOW_DAYS * DAY


def test_who_starts_where_and_trains_on_what(tmp_path: Path) -> None:
    study = _study(tmp_path)
    for job in study.from_scratch(CHOSEN):
        assert "warm_start_from" not in job.commands[0].line
        expected = {"base": "train", "recent": "validation"}.get(job.name.split()[0], "train,validation")
        assert _option(job.commands[0].line, "train_splits") == expected
        assert f"--rate={'2' if 'recent' in job.name else '3'} " in job.commands[0].line
    lines = {command.done.parent: command.line for job in study.warm(CHOSEN) for command in job.commands}
    trained = {folder: line for folder, line in lines.items() if "cvr.train" in line}
    runs = tmp_path / "runs"
    starts = {str(folder.relative_to(runs)): _option(line, "warm_start_from") for folder, line in trained.items()}
    assert starts == {
        f"launch{launch}/{arm}/seed{seed}": f"{runs}/launch1/{start}/seed{seed}"
        for seed in (0, 1)
        for launch, arm, start in ((1, "warm", "base"), (1, "warm_feature", "base"), (2, "chain", "warm"), (2, "fixed", "base"))
    }  # fmt: skip
    assert all(_option(line, "train_splits") == "validation" and "--rate=1 " in line for line in trained.values())
    assert _option(lines[runs / "launch2" / "chain" / "seed1"], "lists").endswith("plain2")
    assert _option(lines[runs / "launch1" / "warm_feature" / "seed0"], "lists").endswith("feature1")
    assert all("--split=test" in line for folder, line in lines.items() if folder not in trained)


def test_the_tuning_is_over_before_the_first_launch(tmp_path: Path) -> None:
    study = _study(tmp_path)
    choices = [(("rate", "1"),), (("rate", "2"),)]
    for arm, splits in (("scratch", "train,validation"), ("recent", "validation"), ("warm", "validation")):
        found = [job.commands[0].line for job in study.tuning(arm, choices).values()]
        assert [_option(line, "rate") for line in found] == ["1", "2"]
        assert all(_option(line, "train_splits") == splits and line.count("plain0") == 1 for line in found)
        assert all(("--warm_start_from" in line) == (arm == "warm") for line in found)
    assert _option(study.tuning_base(choices[0]).commands[0].line, "train_splits") == "train"


def test_estimate_in_minutes(tmp_path: Path) -> None:
    """A base: 9 s and 2 epochs of 14 days (the log's) with 60 searches of 10 items at 20,000 a second; 9 s for its evaluation."""
    base = _study(tmp_path).from_scratch(CHOSEN)[0]
    assert QUICK.days == 14 and estimate([base], QUICK) == pytest.approx((9 + 2 * 14 * 600 / 20_000 + 9) / 60)
    for command in base.commands:
        command.done.parent.mkdir(parents=True)
        command.done.write_text("{}")
    assert estimate([base], QUICK) == 0


GAINS = {"base": -0.1, "recent": -0.05, "warm": 0.001, "scratch_feature": 0.02, "warm_feature": 0.021, "chain": 0.002, "fixed": -0.03}


def _publish(folder: Path, name: str, content: dict[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content))


def _finish(job: Job) -> None:
    """What each command of a job would have left, with the arms' gains planted."""
    for command in job.commands:
        arm, folder = command.done.parent.parent.name, command.done.parent
        if command.done.name == "summary.json" and not command.finished:
            seed = int(folder.name.removeprefix("seed"))
            folder.mkdir(parents=True)
            frame = pd.DataFrame({"search_id": [f"s{i}" for i in range(LISTS)], "time": np.arange(LISTS), "items": 3, "positives": 1})
            values = BASE + GAINS.get(arm, 0.0) + 0.0002 * (2 * seed - 1)
            frame.assign(map=values, task="purchase").to_parquet(folder / "per_list.parquet")
            _publish(folder, "summary.json", {"split": "test", "data": "d"})
        elif command.finished:
            continue
        elif command.words[0] == "cvr.train":
            items = 100 if "--train_splits=validation" in command.words else 500
            costs = {"items": items, "lists": 10, "epochs_done": 2, "flops_per_item": 7, "flops_per_list": 0, "seconds_train": 1.0 * items}
            score = 0.7 if "rate=2" in str(folder) else 0.6
            _publish(folder, "run.json", {"status": "finished", "validation": {"purchase": score}, **costs})
        elif command.words[0] == "pipelines.build_lists":
            write_lists(folder, {"train": [random_columns(tiny_spec(), 2)]})
        else:
            _publish(folder, command.done.name, {})


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the jobs that the study executes; nothing is really run."""
    names: list[str] = []

    def fake(found: list[Job], parallel: int, title: str) -> None:
        for job in found:
            if not job.finished:
                names.append(job.name)
                _finish(job)

    monkeypatch.setattr(study_warm_start, "execute", fake)
    return names


def test_report_of_planted_differences(tmp_path: Path, ran: list[str], project_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project_root)
    flags = [f"--output={tmp_path}", "--quick", "--base=configs/demo.flags", "--grid=rate=1,2", "--replicates=500"]
    run_main(study_warm_start, *flags)
    result = json.loads((tmp_path / "study.json").read_text())
    arms = {row["system"]: row for row in result["arms"]}
    assert {name: round(row["difference"], 4) for name, row in arms.items()} == {
        "base": -0.1, "recent": -0.05, "warm": 0.001, "warm_feature": 0.001, "scratch_feature": 0.02,
    }  # fmt: skip
    assert arms["warm_feature"]["reference"] == "scratch_feature" and arms["warm"]["verdict"].endswith("equivalent")
    assert [(row["slice"], row["system"], round(row["difference"], 4)) for row in result["chain"]] == [
        ("2", "chain", 0.002),
        ("2", "fixed", -0.03),
    ]
    assert [round(found["change"], 4) for found in result["drift"]] == [0.001, -0.031]
    assert result["costs"]["item-epochs"] == {"base": 1000, "scratch": 1000, "warm": 200, "recent": 200, "break_even": 1.25}
    assert result["chain_flops"] == {"scratch": 3 * 2 * 7 * 1000, "chain": 3 * 2 * 7 * 700}
    assert "cold: 1000 / 200 - 1 = +400%" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "warm_start.png").stat().st_size > 10_000
    ran.clear()
    shutil.rmtree(tmp_path / "evaluations/launch2/chain/seed1")
    run_main(study_warm_start, *flags)
    assert ran == ["chain seed 1"]


def test_stages_wait_for_each_other(
    tmp_path: Path, ran: list[str], project_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--print_commands prints the first unfinished stage only, and what is finished never again."""
    monkeypatch.chdir(project_root)
    flags = [f"--output={tmp_path}", "--quick", "--base=configs/demo.flags", "--grid=rate=1,2", "--replicates=500", "--print_commands"]
    study, seen = _study(tmp_path), []
    for _ in range(7):
        run_main(study_warm_start, *flags)
        lines = capsys.readouterr().out.splitlines()
        seen.append((len(lines), {line.split()[2] for line in lines}))
        stages = [study.logs(), study.build(), *_tuning(study), study.from_scratch(_chosen()), study.warm(_chosen())]
        for job in next(stage for stage in stages if not all(job.finished for job in stage)):
            if not job.finished:
                _finish(job)
    train = {"cvr.train"}
    assert seen == [(1, {"tools.make_logs"}), (4, {"pipelines.build_lists"}), (4, train), (1, train), (2, train), (10, train), (6, train)]
    assert ran == []


def _chosen() -> dict[str, tuple[tuple[str, str], ...]]:
    return dict.fromkeys(CHOSEN, (("rate", "2"),))


def _tuning(study: WarmStudy) -> list[list[Job]]:
    choices = [(("rate", "1"),), (("rate", "2"),)]
    first = [job for arm in ("scratch", "recent") for job in study.tuning(arm, choices).values()]
    return [first, [study.tuning_base(choices[1])], [*study.tuning("warm", choices).values()]]


def test_printing_leaves_out_what_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = _study(tmp_path).build()
    _finish(found[0])
    jobs.print_commands(found)
    assert len(capsys.readouterr().out.splitlines()) == len(found) - 1

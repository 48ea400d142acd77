"""Runs of a study: finished ones are skipped, failed ones named, the rest goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cvr.errors import CvrError
from tools.studies.backbones import Study, best, outcomes, parse_grid, spread
from tools.studies.jobs import Command, Job, execute


def _write(path: Path) -> Command:
    """A command that formats `<path>.in` into `path`: fails where that is no JSON."""
    return Command(("json.tool", str(path.with_suffix(".in")), str(path)), path)


def _job(folder: Path, *names: str) -> Job:
    return Job("+".join(names), tuple(_write(folder / name) for name in names), folder / "log" / f"{names[0]}.log")


def test_commands_run_in_turn_and_finished_ones_are_not_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.in").write_text(json.dumps({"made": name}))
    (tmp_path / "a").write_text('{"made": "before"}')
    jobs = [_job(tmp_path, "a", "b"), _job(tmp_path, "c")]
    execute(jobs, 2, "test")
    assert json.loads((tmp_path / "a").read_text()) == {"made": "before"}
    assert [json.loads((tmp_path / name).read_text()) for name in ("b", "c")] == [{"made": "b"}, {"made": "c"}]
    assert (tmp_path / "log" / "a.log").read_text() == f"$ python -m json.tool {tmp_path}/b.in {tmp_path}/b\n"
    (tmp_path / "c").unlink()
    execute(jobs, 2, "again")
    assert "again: 1 of 2 runs are done already" in capsys.readouterr().out and (tmp_path / "c").is_file()


def test_a_failure_names_job_command_and_log(tmp_path: Path) -> None:
    (tmp_path / "a.in").write_text("{")
    with pytest.raises(CvrError, match=r"a: exit code 1 of\n  python -m json.tool .*a.in") as caught:
        execute([_job(tmp_path, "a")], 1, "test")
    assert str(tmp_path / "log" / "a.log") in str(caught.value)
    assert "Expecting property name" in str(caught.value)


@pytest.mark.parametrize(("text", "finished"), [('{"status": "training"}', False), ('{"status": "finished"}', True), ("{}", True)])
def test_a_training_in_progress_is_not_finished(tmp_path: Path, text: str, finished: bool) -> None:
    (tmp_path / "run.json").write_text(text)
    assert Command(("cvr.train",), tmp_path / "run.json").finished is finished


def test_grid() -> None:
    found = parse_grid("rate=1,2;dropout=0.5")
    assert found == [(("rate", "1"), ("dropout", "0.5")), (("rate", "2"), ("dropout", "0.5"))]
    assert parse_grid("") == [()]
    with pytest.raises(CvrError, match="--grid: 'rate' is not name=value"):
        parse_grid("rate")


def test_the_highest_validation_map_is_chosen_and_only_then_the_test_split_is_read(tmp_path: Path) -> None:
    study = Study(tmp_path, "base.flags", "lists")
    choices = parse_grid("rate=.1,.2,.3")
    jobs = study.tuning("masknet", choices)
    assert len({job.log for job in jobs.values()}) == 3
    for job, value in zip(jobs.values(), (0.5, 0.7, 0.6), strict=True):
        assert "--split=test" not in job.commands[0].line
        assert "--train_splits=train --validation_split=validation --seed=0" in job.commands[0].line
        job.commands[0].done.parent.mkdir(parents=True)
        job.commands[0].done.write_text(json.dumps({"validation": {"purchase": value}}))
    assert best(outcomes(jobs, "purchase")) == (("rate", ".2"),)
    final = study.final("masknet", choices[1], 2)
    assert [command.words[0] for command in final[1].commands] == ["cvr.train", "cvr.evaluate"]
    assert "--rate=.2 --threads=0 --train_splits=train,validation --validation_split= --seed=1" in final[1].commands[0].line


def test_spread_over_seeds() -> None:
    assert spread([1.0, 2.0, 3.0]) == (2.0, 1.0)
    assert spread([1.0]) == (1.0, 0.0)

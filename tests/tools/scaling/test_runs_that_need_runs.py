"""Arms whose flags name another arm's run, and arms of another program: their commands, their order, their time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cvr import backbones
from tests.commands import run_main
from tests.tools.scaling.made import finish
from tools import scaling_study
from tools.scaling import studies
from tools.scaling.declare import Arm, Contrast, Setup, Study, change
from tools.scaling.estimate import flags_in, minutes_left, multiply_adds, pilots
from tools.scaling.logs import Source
from tools.scaling.runs import Runs
from tools.studies.jobs import Job

SMALL = (("backbone", "dcnv2"), ("cross_width", "8"), ("deep_width", "8"))
ARMS = (
    Arm("taught twice", "small", (*SMALL, ("teacher_run", "{run:taught}"))),
    Arm("taught", "small", (*SMALL, ("teacher_run", "{run:large one}"), ("warm_start_from", "{run:items}/best"))),
    Arm("small", "small", SMALL),
    Arm("large one", "large", (("backbone", "dcnv2"), ("cross_width", "64"))),
    Arm("items", "", (("epochs", "1"),), program="cvr.pretrain"),
)
STUDY = Study("needs", "Runs that need runs", "small", ARMS, (), {"small": "small", "large": "large one"})
CHOSEN = {"small": (("learning_rate", "0.1"),), "large": (("learning_rate", "0.2"),)}


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(STUDY, Source(tmp_path, "", given="lists"), tmp_path, "base.flags", 2)


def _done(job: Job, seconds: float = 40.0, first: bool = False) -> None:
    for command in job.commands[: 1 if first else None]:
        command.done.parent.mkdir(parents=True, exist_ok=True)
        command.done.write_text(json.dumps({"status": "finished", "seconds_train": seconds}))


def test_a_run_in_a_flag_is_that_of_the_same_seed_and_is_needed(runs: Runs, tmp_path: Path) -> None:
    jobs = runs.jobs(CHOSEN)
    taught = jobs["taught", 1]
    words = taught.commands[0].words
    assert words[:2] == ("cvr.train", "--flagfile=base.flags") and "--learning_rate=0.1" in words and "--seed=1" in words
    assert f"--teacher_run={tmp_path}/runs/large_one/seed1" in words and f"--warm_start_from={tmp_path}/runs/items/seed1/best" in words
    assert taught.needs == (jobs["large one", 1].commands[0], jobs["items", 1].commands[0])  # not their evaluations
    assert not jobs["small", 1].needs
    assert STUDY.before("taught twice") == ("large one", "items", "taught")


def test_another_program_has_no_evaluation_and_only_its_own_flags(runs: Runs, tmp_path: Path) -> None:
    job = runs.jobs(CHOSEN)["items", 0]
    folder = f"{tmp_path}/runs/items/seed0"
    assert [command.line for command in job.commands] == [
        f"python -m cvr.pretrain --lists=lists --output={folder} --seed=0 --threads=0 --epochs=1"
    ]
    assert job.commands[0].done == Path(folder) / "run.json"
    assert [arm.name for arm in STUDY.evaluated] == ["taught twice", "taught", "small", "large one"]


def test_jobs_wait_for_what_they_need(runs: Runs) -> None:
    jobs = runs.jobs(CHOSEN)
    assert {key for key, job in jobs.items() if not job.ready} == {(name, seed) for name in ("taught twice", "taught") for seed in (0, 1)}
    _done(jobs["large one", 0], first=True)
    _done(jobs["items", 0])
    assert jobs["taught", 0].ready and not jobs["taught", 1].ready and not jobs["taught twice", 0].ready
    assert jobs["items", 0].finished and not jobs["large one", 0].finished  # its evaluation is left, for which nothing waits


def test_an_estimate_counts_teachers_and_runs_what_a_pilot_needs(runs: Runs, tmp_path: Path) -> None:
    small, large = (multiply_adds(STUDY.arm(name)) for name in ("small", "large one"))
    assert large > 4 * small
    taught = multiply_adds(STUDY.arm("taught"), STUDY)
    assert taught == small + large // 3  # items is no arm of a ranker
    jobs = runs.jobs(CHOSEN)
    assert [job.name for job in pilots(runs, jobs)] == ["small, seed 0", "large one, seed 0", "items, seed 0"]
    for job in pilots(runs, jobs):
        _done(job, {"items": 7.0}.get(job.name.partition(",")[0], 30.0))
    left = minutes_left(runs, jobs)
    assert not pilots(runs, jobs)
    assert left == pytest.approx((7 * 20 + 6 * 30 + 7) / 60)  # of 10 runs 3 are done; both trainings took 30 s, so all are expected to
    flagfile = tmp_path / "teacher.flags"
    flagfile.write_text("# A teacher\n--backbone=wukong\n--variant=S\n--layers=1\n")
    assert flags_in(str(flagfile)) == {"backbone": "wukong", "variant": "S", "layers": "1"}
    teacher = backbones.load("wukong").Backbone(backbones.make_config("wukong", {"layers": 1}, "S")).multiply_adds()
    assert multiply_adds(Arm("online", "small", (*SMALL, ("teacher_flagfile", str(flagfile))))) == small + teacher
    assert multiply_adds(Arm("base", "small", (("encoder", "gru"),)), STUDY, str(flagfile)) == teacher


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ((Arm("a", "f", (("x", "{run:b}"),)),), "arm 'a' needs the run of 'b', which is no arm of it"),
        ((Arm("a", "f", (("x", "{run:b}"),)), Arm("b", "f", (("x", "{run:a}"),))), "arms need each other: a, b, a"),
        ((Arm("a", "", ()),), "arm 'a' of cvr.train has no family"),
        ((Arm("a", "f", (), program="cvr.pretrain"),), "arm 'a' of cvr.pretrain has a family"),
        ((Arm("a", "f", (("x", "{run:b}"),)), Arm("b", "g", ())), "family 'f' is tuned with 'a', which needs another run"),
    ],
)
def test_declarations_that_cannot_be_run(arms: tuple[Arm, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Study("wrong", "", "a", arms, (), {"f": "a"})


class _Module:
    """A study as its module."""

    @staticmethod
    def declare(setup: Setup) -> Study:
        del setup
        return STUDY

    @staticmethod
    def contrasts(study: Study, results: object) -> list[Contrast]:
        del study, results
        return [Contrast("taught less small", change("small", "taught"), "higher", "by hand")]

    findings = sections = staticmethod(lambda *rest: [])


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    flags = finish(tmp_path, STUDY, lambda arm: 0.02 * (arm == "taught"), lambda arm: 1000)
    monkeypatch.setattr(studies, "load", lambda name: _Module)
    return [*flags[1:], "--study=backbone"]


def test_the_page_is_about_what_was_evaluated(finished: list[str], tmp_path: Path) -> None:
    (tmp_path / "out" / "evaluations" / "items" / "seed0" / "summary.json").unlink()
    assert run_main(scaling_study, *finished) == 0
    found = json.loads((tmp_path / "out" / "study.json").read_text())
    assert [one["name"] for one in found["contrasts"]] == ["taught twice", "taught", "large one", "taught less small"]
    assert [(one["requirement"], one["word"]) for one in found["findings"]] == [("by hand", "reproduced direction")]
    assert "| items |" not in (tmp_path / "out" / "table.md").read_text()


def test_commands_are_printed_when_they_can_run(finished: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines that are printed together are independent."""
    for arm in ("large_one", "taught"):
        (tmp_path / "out" / "runs" / arm / "seed1" / "run.json").unlink()
    run_main(scaling_study, *finished, "--print_commands")
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 1 and "--cross_width=64" in said.out and "--seed=1" in said.out
    assert said.err == "1 more runs need some of these; the same command prints them afterwards\n"

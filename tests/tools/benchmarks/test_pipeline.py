"""The pipeline benchmark's turns, checks, report and tables, with commands that are only pretended to run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cvr.errors import CvrError
from tools.benchmarks import events, pipeline, report, runner, tables, variants
from tools.benchmarks.draws import LogSettings
from tools.benchmarks.goals import Goal
from tools.benchmarks.measure import Run
from tools.benchmarks.variants import Cell

SECONDS = {"pipelines.build_lists": 3.0, "tools.benchmarks.duckdb_lists": 1.5, "tools.benchmarks.plain_beam": 9.0}


class Pretended:
    """Instead of `measure.run`: makes logs, writes outputs of 1,000 bytes, and takes the seconds above, one for an empty build."""

    def __init__(self, wrong: str = "") -> None:
        self.commands: list[str] = []
        self._wrong = wrong

    def __call__(self, module: str, given: Sequence[str], cpus: int, folder: Path) -> Run:
        flags = dict(flag.lstrip("-").partition("=")[::2] for flag in given)
        self.commands.append(f"{module.rpartition('.')[2]} {Path(flags.get('input', '')).name}")
        output = Path(flags["output"])
        if module.endswith("events"):
            numbers = {key: int(flags[key]) for key in ("events", "seed", "items", "queries") if key in flags}
            events.write_log(LogSettings(**numbers, hot=float(flags["hot"])), output)
        elif module.endswith("labels"):
            found: dict[str, Any] = {Path(path).stem: {"counts": 7} for path in flags["parquet"].split(",") if path}
            found |= {name: {"counts": 8 if name == self._wrong else 7} for name in ("lists", "examples") if name in flags}
            output.write_text(json.dumps(found))
        elif output.suffix:
            output.write_bytes(b"x" * 1_000)
        else:
            output.mkdir()
            (output / "part.tfrecord.gz").write_bytes(b"x" * 1_000)
        seconds = 1.0 if flags.get("input", "").endswith("/1000") else SECONDS.get(module, 0.0)
        return Run(f"python -m {module}", seconds + 2, seconds + 2, 2.0, 2.0, seconds, seconds, 2**20, 5_000, 0, 0.5)


def _runner(monkeypatch: pytest.MonkeyPatch, folder: Path, wrong: str = "") -> tuple[runner.Runner, Pretended]:
    pretended = Pretended(wrong)
    monkeypatch.setattr(runner, "run", pretended)
    return runner.Runner(folder, 1, 3, lambda line: None), pretended


def test_variants_take_turns_and_the_report_has_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made, pretended = _runner(monkeypatch, tmp_path / "work")
    names = ["attribution", "duckdb", "plain", "attribution-hot"]
    found = report.report(made, names, {2_000: 2, 3_000: 1})
    ran = [command for command in pretended.commands if not command.startswith(("events", "labels"))]
    startups = ["build_lists 1000", "duckdb_lists 1000", "plain_beam 1000"]
    first = ["build_lists 2000", "duckdb_lists 2000", "plain_beam 2000", "build_lists 3000", "duckdb_lists 3000", "build_lists 3000-hot"]
    check, second = ["duckdb_lists 3000-hot"], ["duckdb_lists 2000", "plain_beam 2000", "build_lists 2000"]
    assert ran == [*startups, *first, *check, *startups, *second]
    assert found["labels"].keys() == {"2000", "3000", "3000-hot"}
    keys = "format benchmark created machine versions settings startups runs results labels goals"
    assert found.keys() == set(keys.split())
    assert found["settings"] == {"variants": names, "repeats": {"2000": 2, "3000": 1}, "seed": 3, "hot": 0.3}
    assert {"processor", "cpus", "memory_gib"} <= found["machine"].keys() and "duckdb" not in found["startups"]["plain"]
    assert len(found["runs"]) == 9 and found["runs"][0]["command"] == "python -m pipelines.build_lists"
    result = next(r for r in report.results_of(found) if (r.variant, r.asked) == ("attribution", 2_000))
    assert result.lists == 67 and result.impressions == 67 * 25 and result.repeats == 2
    assert result.rate.median == pytest.approx(result.events / 2)  # 3 s, less 1 s of start-up
    assert result.output == pytest.approx(1_000 / 67) and result.shuffle == pytest.approx(5_000 / result.events)


def test_designs_that_disagree_fail_the_benchmark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made, _ = _runner(monkeypatch, tmp_path, wrong="lists")
    with pytest.raises(CvrError, match=r"the designs do not agree on the labels of .*attribution"):
        made.measure(["attribution", "duckdb"], {2_000: 1})


def test_a_log_made_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made, _ = _runner(monkeypatch, tmp_path)
    made.log(2_000, hot=False)
    other = runner.Runner(tmp_path, 1, 4, lambda line: None)
    with pytest.raises(CvrError, match=r"was made with \{'seed': 3\}"):
        other.log(2_000, hot=False)


def test_a_report_can_be_read_again_and_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made, _ = _runner(monkeypatch, tmp_path)
    found = report.report(made, ["full", "duckdb"], {2_000: 1})
    path = tmp_path / "report.json"
    path.write_text(json.dumps(found))
    again = report.read(path)
    assert report.results_of(again) == report.results_of(found)
    text = pipeline.shown(again, markdown=True, sizing=True)
    assert "| variant |" in text and "| full    |" in text and "- CPU: " in text and "Equal labels" in text
    assert "not measured" in text and "MISSED" in text  # 2,000 events in 2 s are far from 300,000 a second
    path.write_text('{"benchmark": "another"}')
    with pytest.raises(CvrError, match="is no report of tools.benchmarks.pipeline"):
        report.read(path)


def test_sizes_and_repeats() -> None:
    assert pipeline.sizes_and_repeats(["0.3", "10"], ["3"]) == {300_000: 3, 10_000_000: 3}
    assert pipeline.sizes_and_repeats(["0.3", "10"], ["3", "1"]) == {300_000: 3, 10_000_000: 1}
    for sizes, repeats in ((["x"], ["1"]), (["1", "3"], ["1", "2", "3"]), (["1", "1"], ["1"]), (["1"], ["0"])):
        with pytest.raises(CvrError, match="--sizes="):
            pipeline.sizes_and_repeats(sizes, repeats)


def test_which_variant_runs_where() -> None:
    assert variants.cells(["duckdb", "plain", "full-hot"], [3_000, 1_000]) == [
        Cell("duckdb", 1_000), Cell("plain", 1_000), Cell("duckdb", 3_000), Cell("full-hot", 3_000),
    ]  # fmt: skip
    with pytest.raises(CvrError, match="--only=spark: no such variant"):
        variants.check_variants(["spark"])


def test_tables() -> None:
    rows = tables.goal_rows([Goal("speed", ">=", 10, "x", 12.345), Goal("memory", "<=", 1.5, "GiB", None)])
    assert rows == [("speed", ">= 10 x", "12.35 x", "met"), ("memory", "<= 1.5 GiB", "", "not measured")]
    assert tables.table(("a", "b"), [("x", "10")], markdown=True) == "| a |  b |\n| - | -: |\n| x | 10 |"
    assert tables.table(("a", "b"), [("xy", "1")], markdown=False) == "a   b\nxy  1"

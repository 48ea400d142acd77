"""Studies that other commands make: their results as requirements, and the command that is run."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from cvr.errors import CvrError
from tests.commands import run_main
from tools import scaling_study
from tools.scaling.studies import importance, serving, warm_start
from tools.serving.peak import Peak, Probe
from tools.serving.sweep import table6_row


def _row(system: str, reference: str, difference: float, half: float, verdict: str, launch: str = "1") -> dict[str, Any]:
    found = {"difference": difference, "interval": [difference - half, difference + half], "mde": 0.004, "verdict": verdict}
    return {"slice": launch, "system": system, "reference": reference, **found, "p_corrected": 0.2, "p_equivalent_corrected": 0.01}


@pytest.fixture
def warm(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path / "out" / "measured"
    folder.mkdir(parents=True)
    (folder / "warm_start.png").write_bytes(b"picture")
    result = {
        "margin": 0.005,
        "size": {"launches": 4},
        "arms": [_row("base", "scratch", -0.02, 0.01, "lower"), _row("warm", "scratch", -0.001, 0.003, "equivalent")],
        "chain": [_row("chain", "scratch", -0.01, 0.004, "lower", "4")],
        "drift": [{"arm": "chain", "change": -0.009, "interval": [-0.013, -0.005]}],
        "costs": {"FLOPs": {"base": 80.0, "scratch": 100.0, "warm": 20.0, "recent": 20.0, "break_even": 1.0}},
    }
    (folder / "study.json").write_text(json.dumps(result))
    return tmp_path / "out", result


def test_warm_starts_as_requirements(warm: tuple[Path, dict[str, Any]]) -> None:
    folder, result = warm
    run_main(scaling_study, "--study=warm_start", f"--output={folder}")
    found = {one["requirement"]: one for one in json.loads((folder / "study.json").read_text())["findings"]}
    assert {name: one["word"] for name, one in found.items()} == {
        "R73": "reproduced direction", "R76": "reproduced direction", "R77": "reproduced direction", "R78": "mechanism only",
    }  # fmt: skip
    assert "cold +400% (the paper +264%), warm +100% (+36%)" in found["R78"]["why"]  # 100/20 - 1; (80/4 + 20)/20 - 1
    page = (folder / "report.html").read_text()
    assert base64.b64encode(b"picture").decode() in page and "-0.0010 [-0.0040, +0.0020]" in page
    result["arms"][1] = _row("warm", "scratch", -0.004, 0.003, "undecided")
    result["drift"][0]["interval"] = [-0.02, 0.001]
    assert [one.word for one in warm_start.findings(result)[:3]] == ["not reproduced"] * 3


def _sweep(items: dict[float, float]) -> dict[str, Any]:
    peaks = {timeout: Peak(50.0, Probe(1.0, 40.0, value), None) for timeout, value in items.items()}
    results = [{"timeout_ms": t, "row": table6_row(t, [peak]), "peaks": [{"items_per_second": items[t]}]} for t, peak in peaks.items()]
    return {"settings": {"limits_ms": [50.0]}, "results": results}


@pytest.mark.parametrize(
    ("items", "word"), [({0: 10.0, 5: 30.0, 30: 5.0}, "reproduced direction"), ({0: 40.0, 5: 30.0, 30: 5.0}, "not reproduced")]
)
def test_a_peak_inside_the_range_of_timeouts(items: dict[float, float], word: str) -> None:
    found = serving.findings(_sweep(items))
    assert [one.word for one in found] == [word, "not testable here"]
    assert f"highest at {max(items, key=items.__getitem__):g} ms" in found[0].why


def test_shares_beside_table_2(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps({"model": {"backbone": "masknet"}}))
    (tmp_path / "measured").mkdir()
    (tmp_path / "measured" / "families.png").write_bytes(b"picture")
    share = {"value": 0.4, "interval": [0.3, 0.5], "mde": 0.1}
    pair = {"shuffle": "across", "names": ["customer", "engagement"], "joint_share": share, "interaction_share": {"value": None}}
    result = {"runs": {str(tmp_path / "run"): []}, "found": {"table2": [pair]}}
    options = scaling_study.Options(tmp_path, True, "", 0.005, 1, 1, 100, lists="lists", run="run")
    (found,), sections = importance.report(result, options)
    expected = ("across: customer x engagement", "40.0 % [30.0, 50.0], detectable 10.0", "- (no drop in either category)", "47.90 %")
    assert found.word == "mechanism only" and sections[0].rows == [expected]


def test_what_is_missing_is_asked_for_and_commands_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for study, flag in (("importance", "--run"), ("serving", "--export")):
        with pytest.raises(CvrError, match=f"give {flag}"):
            run_main(scaling_study, f"--study={study}", f"--output={tmp_path}")
    run_main(scaling_study, "--study=warm_start", f"--output={tmp_path}", "--quick", "--print_commands")
    line = capsys.readouterr().out
    assert line.startswith(f"python -m tools.study_warm_start --output={tmp_path}/measured") and line.endswith(" --quick\n")
    assert not (tmp_path / "study.json").exists()

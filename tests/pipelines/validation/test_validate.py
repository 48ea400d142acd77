"""Whole validations of published folders: exit codes, the document, the page, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cvr.errors import CvrError
from cvr.records import ListColumns
from pipelines import validate
from pipelines.job import build
from pipelines.settings import Settings, parse_time
from pipelines.validation.results import Thresholds
from tests.pipelines.validation.folders import publish, replace_number, rewrite

Document = dict[str, Any]


def _validated(lists: Path, output: Path, monkeypatch: pytest.MonkeyPatch, **flags: Any) -> tuple[int, Document]:
    """Runs the main with default flags but these; gives the exit code and validation.json."""
    defaults = dataclasses.asdict(Thresholds()) | {"baseline": None, "fail_on": "fail", "leak_lists": 100_000}
    given = {"lists": str(lists), "output": str(output), **flags}
    monkeypatch.setattr(validate, "FLAGS", SimpleNamespace(**(defaults | given)))
    code = validate.main(["validate"])
    return code, json.loads((output / "validation.json").read_text())


def _open(document: Document) -> dict[str, str]:
    """Statuses by name of the checks that did not pass."""
    return {check["name"]: check["status"] for check in document["checks"] if check["status"] != "pass"}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("sound"))


def test_sound_lists_pass_and_are_like_themselves(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, document = _validated(sound, tmp_path, monkeypatch, baseline=str(sound))
    assert code == 0 and document["exit_code"] == 0
    assert _open(document) == {"test: distributions stay alike from day to day": "skip"}
    train = document["splits"]["train"]
    manifest = json.loads((sound / "manifest.json").read_text())["splits"]["train"]
    names = ("lists", "items", "labels", "lists_with", "first_time", "coverage")
    assert {name: train[name] for name in names} == {name: manifest[name] for name in names}
    price, told = train["features"]["all"]["price"]["numbers"], manifest["statistics"]["price"]
    assert price["mean"] == pytest.approx(told["total"] / told["count"])
    assert document["delays"]["click"]["cut_off"] == 0.1
    against = document["baseline"]
    assert against["volumes"]["train"]["before"] == against["volumes"]["train"]["now"]
    assert max(row["js"] for rows in against["drift"].values() for row in rows) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^train: 1,200 lists, [\d,]+ items, 3 days, labels: click", printed, re.M)
    assert "ok    no feature knows the label: the best single feature: clicks (highest first): AUC 0." in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["validation.html", "validation.json"]
    _check_page((tmp_path / "validation.html").read_text(), document)


def _check_page(page: str, document: Document) -> None:
    """It has every section and needs no other file."""
    titles = [
        "Lists",
        "Single features",
        "Funnel",
        "Position",
        "Label delays",
        "Coverage",
        "Drift",
        "Features",
        "Baseline",
    ]
    assert re.findall(r"<h2>(.*?)</h2>", page)[1:-1] == titles
    links = [link for link in re.findall(r'(?:src|href)="([^"]*)"', page) if not link.startswith(("#", "data:"))]
    assert not links and page.count("<svg") == 8
    assert all(f"{split['items']:,}" in page for split in document["splits"].values())


def _changed(columns: ListColumns, split: str, day: int) -> ListColumns:
    """The test split's prices are three times as high, every second of them is gone, and it has half as many clicks."""
    if split == "train":
        return columns
    values = np.where(np.arange(len(columns.item)) % 2, np.nan, 3 * columns.item_num[:, 0])
    labels = columns.labels * [[0, 1]] * (np.arange(len(columns.item)) % 4 > 0)[:, None]
    return replace_number(
        dataclasses.replace(columns, labels=labels, delay=np.where(labels > 0, columns.delay, -1)), "price", values
    )


def test_changes_against_a_baseline_warn(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = publish(tmp_path / "changed", change=_changed)
    code, document = _validated(changed, tmp_path / "out", monkeypatch, baseline=str(sound), fail_on="warn")
    assert code == 3
    found = {check["name"]: check["examples"] for check in document["checks"] if check["status"] == "warn"}
    assert found["train, test: distributions stay alike"][0].startswith("price: train to test")
    assert found["test: distributions stay alike from day to day"][0].startswith("price: baseline to now")
    assert found["counts and label rates change little"][0].startswith("test click labels per item: 0.3")
    assert found["coverage does not fall"] == ["test price: 100.0% before, 50.0% now"]
    assert found["coverage of training holds in the other splits"] == [
        "price: 100.0% on the last training day, 50.0% in test"
    ]


def _leak(columns: ListColumns, split: str, day: int) -> ListColumns:
    return replace_number(columns, "clicks", columns.labels[:, 0]) if split == "train" and day == 1 else columns


def test_the_command_fails_for_a_leak_on_one_day(tmp_path: Path) -> None:
    folder = publish(tmp_path / "lists", change=_leak, parts=1)
    command = [
        sys.executable,
        "-m",
        "pipelines.validate",
        f"--lists={folder}",
        f"--output={tmp_path / 'out'}",
        "--direct_num_workers=1",
    ]
    found = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert found.returncode == 3, found.stderr
    assert (
        "clicks (highest first): AUC 1.000" in found.stdout and "task click, train of 2026-01-02 alone" in found.stdout
    )
    assert found.stdout.splitlines()[-2].startswith("FAILED: ")
    assert json.loads((tmp_path / "out" / "validation.json").read_text())["exit_code"] == 3


def test_damage_is_counted_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = publish(tmp_path / "lists", lists=60)
    broken, gone, *_ = sorted(folder.glob("data-*/train/*/*.gz"))
    broken.write_bytes(broken.read_bytes()[:-40])
    gone.unlink()

    def forge(manifest: Document) -> None:
        manifest["spec_fingerprint"] = "0" * 16
        manifest["splits"]["validation"] = {"files": []}
        manifest["splits"]["test"]["first_time"] = manifest["splits"]["train"]["last_time"]

    rewrite(folder, forge)
    code, document = _validated(folder, tmp_path / "out", monkeypatch)
    assert code == 3
    checks = {check["name"]: check for check in document["checks"] if check["status"] == "fail"}
    assert set(checks) == {
        "every file is there and can be read",
        "file sizes are the manifest's",
        "SHA-256 of files are the manifest's",
        "the fingerprint is the spec's",
        "every split holds lists",
        "splits do not overlap in time",
    }
    unread = checks["every file is there and can be read"]["examples"]
    assert [example.split(":")[0] for example in unread] == [str(path.relative_to(folder)) for path in (broken, gone)]
    assert checks["every split holds lists"]["examples"] == ["validation holds no list"]
    assert _open(document)["counts of the manifest are those of the records"] == "skip"


def test_nothing_that_can_be_read_is_no_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = publish(tmp_path / "lists", days=1, lists=20)
    for path in folder.glob("data-*/*/*/*.gz"):
        path.unlink()
    code, document = _validated(folder, tmp_path / "out", monkeypatch)
    assert code == 3 and document["splits"] == {} and _open(document)["every search stands in one record"] == "skip"


def test_a_manifest_that_tells_another_story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forge(manifest: Document) -> None:
        train = manifest["splits"]["train"]
        train["labels"]["click"] = 1
        train["statistics"]["price"]["total"] = 1.0
        train["coverage"]["2026-01-01"]["price"]["missing"] = 3
        manifest["counts"]["splits"]["train"]["positions"]["click"]["1"] += 1

    folder = publish(tmp_path / "lists", days=1, lists=20)
    rewrite(folder, forge)
    code, document = _validated(folder, tmp_path / "out", monkeypatch)
    failed = {check["name"]: check["examples"] for check in document["checks"] if check["status"] == "fail"}
    told = {
        "counts of the manifest are those of the records": "train: labels: {'click': 1,",
        "list lengths and positions of the manifest are those of the records": "train: positions.click differs",
        "statistics of the manifest are those of the records": "train: price: count ",
        "coverage of the manifest is that of the records": "train: 2026-01-01 price: {'present': ",
    }
    assert code == 3 and failed.keys() == told.keys()
    assert all(len(failed[name]) == 1 and failed[name][0].startswith(start) for name, start in told.items())


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CvrError, match="no manifest.json in .*nothing; build the lists first"):
        _validated(tmp_path / "nothing", tmp_path / "out", monkeypatch)
    folder = publish(tmp_path / "elwc", days=1, lists=20)
    rewrite(folder, lambda manifest: manifest.update(record_format="elwc"))
    with pytest.raises(
        CvrError, match="elwc/manifest.json: these records have format elwc, and this command reads lists"
    ):
        _validated(folder, tmp_path / "out", monkeypatch)
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    rewrite(folder, lambda manifest: manifest.update(record_format="lists"))
    with pytest.raises(CvrError, match="--output=.*file cannot be written"):
        _validated(folder, tmp_path / "file", monkeypatch)


def test_trivago2019_raises_no_alarm(
    trivago_file: Path, project_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (project_root / "configs" / "features" / "trivago2019.yaml").read_text()
    time = parse_time("2018-11-08T15:33", "test_from")
    build(Settings("trivago2019", str(trivago_file), str(tmp_path / "lists"), text, test_from=time, partitions=2))
    code, document = _validated(tmp_path / "lists", tmp_path / "out", monkeypatch)
    assert code == 0
    drifting = [name for name in _open(document) if not name.startswith("train")]
    assert set(drifting) == {"test: distributions stay alike from day to day"}
    assert all(
        "item_" in example for check in document["checks"] if check["area"] == "drift" for example in check["examples"]
    )
    test = document["splits"]["test"]
    assert round(test["orders"]["display_order"]["purchase"]["map"], 4) == 0.4501 and test["lists"] == 2_721
    assert [score["feature"] for score in test["leaks"]["purchase"][:3]] == ["position", "place", "touched"]

"""The commands as a user runs them: in this process where that shows the same, else in one of their own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from cvr.errors import CvrError
from export import client, parity, save
from export.extras import about
from export.versions import published
from tests.commands import run_main
from tests.conftest import ROOT
from tests.export.conftest import Exported

TIMEOUT = 240.0


def _start(module: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", f"export.{module}", *arguments]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _example(exported: Exported) -> Path:
    return exported.version / "assets.extra" / "example_request.json"


def test_save_then_parity(exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = exported.run.folder.parent
    chosen = ("--allowed_batch_sizes=8,32", f"--lists={exported.lists}", "--split=test", "--num_lists=2", "--num_requests=1")
    assert run_main(save, f"--run={folder}", f"--output={tmp_path}", *chosen) == 0
    said = capsys.readouterr().out
    assert "version 1 of tiny" in said and "ok    SavedModel = checkpoint" in said and "models.config" in said
    told = about(tmp_path / "1")["parity"]
    assert told["checked"] and told["passed"] and told["lists"] == 2 and told["largest_difference"] <= 1e-5 and len(told["checks"]) == 9
    arguments = (f"--run={folder}", f"--export={tmp_path}", f"--lists={exported.lists}", "--num_lists=6", "--num_requests=3")
    assert run_main(parity, *arguments) == 0
    assert "gRPC = checkpoint" in capsys.readouterr().out
    found = json.loads((tmp_path / "parity.json").read_text(encoding="utf-8"))
    assert found["passed"] and found["largest_difference"] <= 1e-5 and found["lists"] == 6 and len(found["checks"]) == 9


def test_parity_of_a_running_server_above_the_tolerance(
    exported: Exported, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint's weights are changed after it was exported."""

    def changed(folder: Path) -> tuple[Any, Any]:
        ranker, found = load_ranker(folder)
        for variable in ranker.trainable_variables:
            variable.assign_add(tf.ones_like(variable) * 0.01)
        return ranker, found

    load_ranker, report = parity.load_ranker, tmp_path / "new" / "parity.json"
    monkeypatch.setattr(parity, "load_ranker", changed)
    arguments = (f"--run={exported.run.folder}", f"--export={exported.version}", f"--lists={exported.lists}", f"--output={report}")
    assert run_main(parity, *arguments, f"--target={target}", "--num_lists=4", "--num_requests=2") == 1
    assert not report.exists() and not json.loads(report.with_suffix(".failed.json").read_text(encoding="utf-8"))["passed"]


def test_client_ranks(exported: Exported, target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(client, f"--target={target}", f"--request={_example(exported)}") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["rank", "item", "shown", "score"] and len(lines) == 6
    assert run_main(client, f"--target={target}", f"--lists={exported.lists}", "--list_number=1") == 0
    assert capsys.readouterr().out.startswith("search 0-1\n")
    assert run_main(client, f"--target={target}", "--describe") == 0
    assert "serving_default" in capsys.readouterr().out


def test_what_a_user_gets_wrong(exported: Exported, target: str) -> None:
    trained, base = f"--run={exported.run.folder}", f"--output={exported.base}"
    with pytest.raises(CvrError, match="version 3 is already published"):
        run_main(save, trained, base, "--version=3")
    with pytest.raises(CvrError, match="--allowed_batch_sizes=a must be whole numbers"):
        run_main(save, trained, base, "--allowed_batch_sizes=a")
    with pytest.raises(CvrError, match="give one of --request=FILE, --lists=DIR or --describe"):
        run_main(client, f"--target={target}")
    with pytest.raises(CvrError, match="--list_number=99: split 'test' of .* has 12 lists"):
        run_main(client, f"--target={target}", f"--lists={exported.lists}", "--list_number=99")


def test_interrupted_save_leaves_nothing_half_published(exported: Exported, tmp_path: Path) -> None:
    process = _start("save", f"--run={exported.run.folder}", f"--output={tmp_path}")
    while not list(tmp_path.iterdir()) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=TIMEOUT)
    if process.returncode == 0:  # it was done before the signal came
        assert list(published(tmp_path)) == [1]
    else:
        assert process.returncode == 130 and "nothing was published" in err
        assert not list(tmp_path.iterdir())

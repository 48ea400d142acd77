"""Stages of a run: kept when complete, repeated when not, refused when made otherwise, stopped with their children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cvr.errors import CvrError
from tools.stages import Runner, Stage, child, run_child

WRITE = """
import pathlib, sys
out = pathlib.Path(sys.argv[1]); out.mkdir()
(out / "done").write_text(str(sys.argv[2:]))
"""
SLEEP = """
import pathlib, subprocess, sys, time
inner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
pathlib.Path("pids.new").write_text(str(inner.pid)); pathlib.Path("pids.new").rename("pids")
try:
    time.sleep(60)
except KeyboardInterrupt:
    pathlib.Path("interrupted").touch()
    raise
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "write.py").write_text(WRITE)
    (tmp_path / "fail.py").write_text("raise SystemExit(3)")
    (tmp_path / "sleep.py").write_text(SLEEP)
    return tmp_path


def _stage(root: Path, name: str = "one", *extra: str, module: str = "write") -> Stage:
    folder = root / "run" / name
    return Stage(name, f"Stage {name}", (module, str(folder), *extra), folder, "done")


def test_a_stage_runs_once_and_is_kept(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Runner(root / "run", root).run(_stage(root))
    made = (root / "run" / "one" / "done").stat().st_mtime_ns
    again = Runner(root / "run", root)
    again.run(_stage(root))
    assert "Stage one: kept" in capfd.readouterr().out
    assert (root / "run" / "one" / "done").stat().st_mtime_ns == made
    assert list(again.seconds) == ["one"]


def test_another_command_is_refused_with_the_way_out(root: Path) -> None:
    Runner(root / "run", root).run(_stage(root))
    with pytest.raises(CvrError, match=r"another command.*--force.*--run"):
        Runner(root / "run", root).run(_stage(root, "one", "--flag"))


def test_a_stage_without_its_published_output_is_repeated_and_all_after_it(root: Path) -> None:
    first = Runner(root / "run", root)
    first.run(_stage(root, "one"))
    first.run(_stage(root, "two"))
    (root / "run" / "one" / "done").unlink()
    before = (root / "run" / "two" / "done").stat().st_mtime_ns
    second = Runner(root / "run", root)
    second.run(_stage(root, "one"))
    second.run(_stage(root, "two"))
    assert (root / "run" / "two" / "done").stat().st_mtime_ns > before


RESUMING = """
import pathlib, sys
out = pathlib.Path(sys.argv[1]); out.mkdir(exist_ok=True)
before = len(list(out.iterdir()))
(out / f"part-{before}").touch()
(out / "run.json").write_text('{"status": "%s"}' % ("training" if before < 2 else "finished"))
"""


def test_an_unfinished_run_goes_on_where_the_stage_resumes(root: Path) -> None:
    (root / "resuming.py").write_text(RESUMING)
    folder = root / "run" / "one"
    for resumes, parts in ((True, 1), (True, 2), (True, 2), (False, 2)):
        stage = Stage("one", "Stage one", ("resuming", str(folder)), folder, "run.json", resumes=resumes)
        Runner(root / "run", root).run(stage)  # two calls make it complete, the others keep it
        assert len(list(folder.glob("part-*"))) == parts
    (folder / "run.json").write_text('{"status": "training"}')
    Runner(root / "run", root).run(stage)
    assert len(list(folder.glob("part-*"))) == 1  # one that does not resume begins with an empty folder


def test_a_failed_stage_is_named_and_not_taken_for_complete(root: Path) -> None:
    with pytest.raises(CvrError, match="stage 'one' failed with exit code 3"):
        Runner(root / "run", root).run(_stage(root, module="fail"))
    assert Runner(root / "run", root).seconds == {}


def _is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.02)


def test_leaving_the_block_interrupts_a_child_and_ends_its_own_children(root: Path) -> None:
    with child(["sleep"], root) as process:
        _wait_for(root / "pids")
    assert process.poll() is not None
    assert (root / "interrupted").exists()
    assert not _is_alive(int((root / "pids").read_text()))


def test_what_a_child_prints_goes_to_its_log(root: Path) -> None:
    (root / "talk.py").write_text("print('ready', flush=True)")
    with child(["talk"], root, root / "log") as process:
        process.wait()
    assert (root / "log").read_text() == "ready\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_parent_stops_everything(root: Path, number: signal.Signals) -> None:
    program = (
        "import sys, pathlib; from tools import stages; stages.interrupt_on_termination()\n"
        "stages.run_child(['sleep'], pathlib.Path(sys.argv[1]))"
    )
    project = Path(__file__).resolve().parents[2]
    parent = subprocess.Popen([sys.executable, "-c", program, str(root)], cwd=project, stderr=subprocess.PIPE)
    _wait_for(root / "pids")
    os.kill(parent.pid, number)
    _, said = parent.communicate(timeout=60)
    assert parent.returncode != 0
    assert said.count(b"Traceback") == 1  # this program's own, not also its child's
    assert (root / "interrupted").exists()
    assert not _is_alive(int((root / "pids").read_text()))


def test_the_exit_code_of_a_child(root: Path) -> None:
    assert run_child(["fail"], root) == 3

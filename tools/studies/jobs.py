"""A study's runs: commands with the file that says they are done, executed side by side, resumable one by one."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from cvr.errors import CvrError


@dataclasses.dataclass(frozen=True)
class Command:
    """One main of ours: `python -m <words>`; finished where the JSON file `done` exists and does not say `status: training`."""

    words: tuple[str, ...]
    done: Path

    @property
    def finished(self) -> bool:
        """Whether it ran to its end."""
        return self.done.is_file() and json.loads(self.done.read_text(encoding="utf-8")).get("status", "finished") == "finished"

    @property
    def line(self) -> str:
        """The command as it can be pasted into a shell."""
        return shlex.join(["python", "-m", *self.words])


@dataclasses.dataclass(frozen=True)
class Job:
    """A run of a study: commands one after the other, once those of other jobs that it `needs` are done. Their output goes to `log`."""

    name: str
    commands: tuple[Command, ...]
    log: Path
    needs: tuple[Command, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether all commands are done."""
        return all(command.finished for command in self.commands)

    @property
    def ready(self) -> bool:
        """Whether all that it needs is done."""
        return all(command.finished for command in self.needs)


class _Running:
    """A job in progress: one process at a time."""

    def __init__(self, job: Job) -> None:
        self.job, self.started = job, time.monotonic()
        self._waiting = [command for command in job.commands if not command.finished]
        job.log.parent.mkdir(parents=True, exist_ok=True)
        self._log = job.log.open("a", encoding="utf-8")
        self._command, self._process = self._next()

    def _next(self) -> tuple[Command, subprocess.Popen[bytes]]:
        command = self._waiting.pop(0)
        self._log.write(f"$ {command.line}\n")
        self._log.flush()
        process = subprocess.Popen([sys.executable, "-m", *command.words], stdout=self._log, stderr=subprocess.STDOUT)
        return command, process

    def poll(self) -> bool:
        """Goes on with the next command where one ended; whether the job is finished. Raises CvrError where one failed."""
        if self._process.poll() is None:
            return False
        if self._process.returncode or not self._command.finished:
            last = self.job.log.read_text(encoding="utf-8").strip().splitlines()[-1:]
            raise CvrError(
                f"{self.job.name}: exit code {self._process.returncode} of\n  {self._command.line}\n{''.join(last)}\n"
                f"see {self.job.log}; the same command of the study goes on from here"
            )
        if self._waiting:
            self._command, self._process = self._next()
            return False
        self._log.close()
        return True

    def stop(self) -> None:
        """Ends the process, which keeps what it has saved."""
        self._process.terminate()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._log.close()


def execute(jobs: Sequence[Job], parallel: int, title: str) -> None:
    """Runs all unfinished jobs, `parallel` at a time, in their order but for those that wait for others; a bar shows the time left, from
    the jobs so far.

    On Ctrl-C, or when a job fails, the running ones are stopped; the next call goes on. Raises CvrError naming job, command and log.
    """
    waiting = [job for job in jobs if not job.finished]
    if 0 < len(waiting) < len(jobs):
        print(f"{title}: {len(jobs) - len(waiting)} of {len(jobs)} runs are done already", flush=True)
    running: list[_Running] = []
    try:
        with tqdm(total=len(waiting), desc=title, unit="run", disable=not waiting) as bar:
            while waiting or running:
                for job in _ready(waiting, parallel - len(running)):
                    waiting.remove(job)
                    running.append(_Running(job))
                if not running:
                    raise _stuck(waiting[0])
                time.sleep(0.2)
                for one in [one for one in running if one.poll()]:
                    running.remove(one)
                    bar.set_postfix_str(f"{one.job.name} {time.monotonic() - one.started:.0f} s")
                    bar.update()
    finally:
        for one in running:
            one.stop()


def _ready(waiting: Sequence[Job], count: int) -> list[Job]:
    """At most `count` jobs that can start."""
    return list(itertools.islice((job for job in waiting if job.ready), count))


def _stuck(job: Job) -> CvrError:
    lost = next(command for command in job.needs if not command.finished)
    return CvrError(f"{job.name} needs {lost.done}, which nothing here makes; run first\n  {lost.line}")


def print_commands(jobs: Sequence[Job]) -> None:
    """A line per unfinished job that can run now; how many wait for these is said on stderr."""
    left = [job for job in jobs if not job.finished]
    for job in left:
        if job.ready:
            print(" && ".join(command.line for command in job.commands))
    waiting = sum(not job.ready for job in left)
    if waiting:
        print(f"{waiting} more runs need some of these; the same command prints them afterwards", file=sys.stderr)

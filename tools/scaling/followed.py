"""Studies that another command makes: what it is given, and its result as findings and a page.

Their modules define `TITLE`, `command(options) -> Command` and `report(result, options) -> ([Finding], [Section])`.
"""

from __future__ import annotations

import base64
import dataclasses
import subprocess
import sys
from pathlib import Path

from cvr.errors import CvrError
from tools.studies.jobs import Command


@dataclasses.dataclass(frozen=True)
class Options:
    """The flags that such commands are given."""

    output: Path
    quick: bool
    base: str
    margin: float
    parallel: int
    threads: int
    replicates: int
    lists: str | None = None
    run: str | None = None
    export: str | None = None

    def need(self, name: str, study: str) -> str:
        """A flag without a default. Raises CvrError where it was not given."""
        value = getattr(self, name)
        if not value:
            raise CvrError(f"--study={study} measures what is trained already: give --{name}")
        return str(value)

    @property
    def folder(self) -> Path:
        """Where the command writes."""
        return self.output / "measured"


def run(command: Command) -> None:
    """Runs the command where it has not finished, with its output shown. Raises CvrError where it fails."""
    if command.finished:
        return
    code = subprocess.run([sys.executable, "-m", *command.words], check=False).returncode
    if code or not command.finished:
        raise CvrError(f"exit code {code} of\n  {command.line}\nthe same command of the study goes on from here")


def picture(path: Path) -> str:
    """A plot as an element that needs no other file: SVG as it is, PNG as base64."""
    if path.suffix == ".svg":
        text = path.read_text(encoding="utf-8")
        return text[text.index("<svg") :]
    encoded = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{path.stem}" style="max-width:100%" src="data:image/png;base64,{encoded}">'

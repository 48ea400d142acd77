"""Writes the summary and the report page of a finished demo run, and prints the summary.

python -m tools.report --run=runs/synthetic --source=synthetic
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from cvr.errors import run_main
from tools.demo_plan import SOURCES, Choices
from tools.report.build import write_report
from tools.report.summary import SUMMARY_FILE, describe, summarise
from tools.stages import Runner

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("run", None, "Folder of the run, whose stages are all finished.", required=True)
    flags.DEFINE_enum("source", "synthetic", sorted(SOURCES), "What kind of logs it was made from.")


def main(argv: Sequence[str]) -> int:
    """Reads what the stages published, writes summary.json and report.html."""
    del argv
    choices = Choices(FLAGS.source, None, Path(FLAGS.run), SOURCES[FLAGS.source])
    summary = summarise(choices, Runner(choices.folder, Path.cwd()).seconds)
    page = write_report(choices, summary)
    print(f"{describe(summary)}\nwritten to {choices.folder / SUMMARY_FILE} and {page}")
    return 0


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()

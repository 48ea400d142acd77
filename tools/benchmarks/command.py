"""What the commands of all benchmarks have in common: `--json`, with a file or alone, and reading it again."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags

from cvr.errors import CvrError

_STDOUT = "-"


def define_json_flag() -> None:
    """--json."""
    flags.DEFINE_string("json", None, "Write the results as JSON to this file; --json alone prints JSON and no table.")


def define_report_flags() -> None:
    """--json, --read and --markdown."""
    define_json_flag()
    flags.DEFINE_string("read", None, "Measure nothing: show the results of this JSON file.")
    flags.DEFINE_bool("markdown", False, "Tables in Markdown.")


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses the flags, with --json alone meaning standard output."""
    try:
        return flags.FLAGS([f"--json={_STDOUT}" if argument == "--json" else argument for argument in argv])
    except flags.Error as error:
        print(f"error: {error}; --help lists all flags", file=sys.stderr)
        sys.exit(2)


def deliver(found: Mapping[str, Any], shown: Callable[[], str]) -> None:
    """Prints what was found, as `shown` has it or as JSON, and writes it to the file that --json names."""
    text = json.dumps(found, indent=1)
    chosen = flags.FLAGS.json
    if chosen and chosen != _STDOUT:
        Path(chosen).write_text(text + "\n", encoding="utf-8")
    print(text if chosen == _STDOUT else shown())


def measure_or_read(
    argv: Sequence[str], read: Callable[[Path], dict[str, Any]], measured: Callable[[], dict[str, Any]], shown: Callable[[Any], str]
) -> None:
    """Delivers what is measured, or what stands in the file of --read. Raises UsageError for an argument that is no flag."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; every option is a flag (--name=value)")
    found = read(Path(flags.FLAGS.read)) if flags.FLAGS.read else measured()
    deliver(found, lambda: shown(found))


def read_report(path: Path, benchmark: str) -> dict[str, Any]:
    """Reads what a benchmark's --json=FILE wrote. Raises CvrError where the file is none of it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CvrError(f"--read={path}: {error}; expected what --json=FILE wrote") from error
    if not isinstance(found, dict) or (found.get("benchmark"), found.get("format")) != (benchmark, 1):
        raise CvrError(f"--read={path}: this is no report of tools.benchmarks.{benchmark} in format 1")
    return found

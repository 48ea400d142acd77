"""What the commands of all benchmarks have in common: `--json`, with a file or alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

_STDOUT = "-"


def define_json_flag() -> None:
    """--json."""
    flags.DEFINE_string("json", None, "Write the results as JSON to this file; --json alone prints JSON and no table.")


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

"""Errors that are meant to be read by a user, and the entry point that prints them without a traceback."""

from __future__ import annotations

import difflib
import logging as python_logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

from absl import app, flags, logging

_FLAGFILE = re.compile(r"^--?flagfile[=\s](.+)$", re.MULTILINE)
INTERRUPTED = "\ninterrupted; nothing was published, run the same command again"


class CvrError(ValueError):
    """Something the user can mend; the message names the file, feature or flag, what was expected and what to do."""


def _without_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print(INTERRUPTED, file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def _is_news(record: python_logging.LogRecord) -> bool:
    """Beam warns whenever it is imported without its Google Cloud extra, whose BigQuery client nothing here uses."""
    return not record.getMessage().startswith("apitools not found")


def quiet_start() -> None:
    """Ctrl-C while a command still imports its libraries ends it without a traceback, and Beam's import says nothing; called by each
    package's `__init__`.

    Does nothing where no command of this project starts: `sys.argv[0]` is "-m" while Python imports the package of `python -m`.
    """
    if sys.argv and (sys.argv[0] == "-m" or os.path.basename(sys.argv[0]).startswith("cvr-")):
        sys.excepthook = _without_traceback
        python_logging.getLogger().addFilter(_is_news)


def _lines_of(flagfile: Path, seen: set[Path]) -> Iterator[tuple[str, str]]:
    """(file:line, text) of a flagfile and of those that it includes."""
    if flagfile in seen or not flagfile.is_file():
        return
    seen.add(flagfile)
    for number, line in enumerate(flagfile.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        included = _FLAGFILE.match(line.strip())
        if included:
            yield from _lines_of(Path(os.path.expanduser(included[1])), seen)
        else:
            yield f"{flagfile}:{number}", line.strip()


def _explain(error: flags.Error, argv: Sequence[str]) -> str:
    """absl's message, with the flagfile and line where the flag stands, or the names that resemble that of a file that is not there."""
    text = str(error).removeprefix("ERROR:: ")
    files = [Path(os.path.expanduser(found)) for found in _FLAGFILE.findall("\n".join(argv))]
    named = re.search(r"flag (?:'(\w+)'|--(.+?): )", text)
    for file in files:
        for place, line in _lines_of(file, set()):
            if named and re.match(rf"--?{re.escape(named[1] or named[2])}(=|\s|$)", line):
                return f"{place}: {text}"
    lost = [Path(name) for name in re.findall(r"No such file or directory: '(.*)'", text)]
    near = [name for path in lost if path.parent.is_dir() for name in difflib.get_close_matches(path.name, os.listdir(path.parent))]
    return f"{text}. Did you mean: {', '.join(near)} ?" if near else text


def parse_flags(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> list[str]:
    """Parses the command line; a wrong flag ends the process with exit code 1 and says what was meant and where it stands."""
    try:
        return values(argv)
    except flags.Error as error:
        print(f"FATAL Flags parsing error: {_explain(error, argv)}\nPass --helpshort or --helpfull to see help on flags.", file=sys.stderr)
        sys.exit(1)


def run_main(
    main: Callable[[Sequence[str]], int | None], flags_parser: Callable[[Sequence[str]], list[str]] | None = None
) -> None:
    """Runs an absl `main`; a `CvrError` becomes one line on stderr and exit code 1, Ctrl-C becomes exit code 130.

    A main that hands some flags on (to Beam) gives its own `flags_parser` and checks the arguments that it leaves.

    Wrong flags end it with exit code 1. Any other exception keeps its traceback: it is a defect, not a user's error.
    """

    def guarded(argv: Sequence[str]) -> int:
        if len(argv) > 1 and flags_parser is None:
            raise app.UsageError(f"unexpected argument {argv[1]!r}; every option is a flag (--name=value)")
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)
        try:
            return main(argv) or 0
        except CvrError as error:
            logging.flush()
            print(f"error: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print(INTERRUPTED, file=sys.stderr)
            return 130

    app.run(guarded, flags_parser=flags_parser or parse_flags)

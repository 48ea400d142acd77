"""Errors that are meant to be read by a user, and the entry point that prints them without a traceback."""

from __future__ import annotations

import logging as python_logging
import os
import sys
from collections.abc import Callable, Sequence
from types import TracebackType

from absl import app, flags, logging

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


def run_main(
    main: Callable[[Sequence[str]], int | None], flags_parser: Callable[[Sequence[str]], list[str]] | None = None
) -> None:
    """Runs an absl `main`; a `CvrError` becomes one line on stderr and exit code 1, Ctrl-C becomes exit code 130.

    A main that hands some flags on (to Beam) gives its own `flags_parser` and checks the arguments that it leaves.

    Wrong flags keep absl's own exit code 2. Any other exception keeps its traceback: it is a defect, not a user's error.
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

    app.run(guarded, flags_parser=flags_parser) if flags_parser else app.run(guarded)

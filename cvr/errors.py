"""Errors that are meant to be read by a user, and the entry point that prints them without a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging


class CvrError(ValueError):
    """Something the user can mend; the message names the file, feature or flag, what was expected and what to do."""


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
            print("\ninterrupted; nothing was published, run the same command again", file=sys.stderr)
            return 130

    app.run(guarded, flags_parser=flags_parser) if flags_parser else app.run(guarded)

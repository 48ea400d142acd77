"""Command lines that are ours and Beam's: our flags are parsed, the others are checked and handed on to Beam."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from typing import NoReturn

from absl import app, flags
from apache_beam.options.pipeline_options import PipelineOptions


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses our flags and leaves the others, which are Beam's: gives [program, others...]. For `cvr.errors.run_main`."""
    try:
        return flags.FLAGS(list(argv), known_only=True)
    except flags.Error as error:
        print(f"error: {error}; --help lists all flags", file=sys.stderr)
        sys.exit(2)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """A wrong value of a flag, without argparse's usage text of three hundred flags."""
        raise app.UsageError(f"a flag of Beam: {message}", exitcode=2)


def _beam_parser() -> argparse.ArgumentParser:
    parser = _Parser(add_help=False, allow_abbrev=False, conflict_handler="resolve")
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)
    return parser


def suggest(name: str, known: Sequence[str]) -> str:
    """`; did you mean x?` for what is close to a name, else nothing."""
    close = difflib.get_close_matches(name, known, n=2, cutoff=0.75)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def check_beam_flags(left: Sequence[str]) -> None:
    """Raises UsageError for an argument that Beam does not know either, and for a wrong value of one that it does."""
    parser = _beam_parser()
    _, unknown = parser.parse_known_args(list(left))
    if not unknown:
        return
    flag = unknown[0].split("=")[0]
    known = [f"--{name}" for name in flags.FLAGS] + list(parser._option_string_actions)
    message = f"unknown flag or argument {unknown[0]!r}: neither this command nor Beam has it"
    raise app.UsageError(message + suggest(flag, known), exitcode=2)

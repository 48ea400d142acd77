"""Command lines that are ours and Beam's: our flags are parsed, the others are checked and handed on to Beam."""

from __future__ import annotations

import argparse
import difflib
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from typing import NoReturn

from absl import app, flags
from apache_beam.options.pipeline_options import PipelineOptions

_WITH_JOB_SERVER = ("flink", "spark", "prism", "kafkastreams")


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


def _is_for_job_server(argument: str, runner: str | None, endpoint: str | None) -> bool:
    """Whether a `--name=value` that Beam's Python does not know may be an option of the runner that a job server has."""
    named = (runner or "").rsplit(".", 1)[-1].lower().removesuffix("runner")
    has_server = named in _WITH_JOB_SERVER or named == "portable" and endpoint != "embed"
    return has_server and argument.startswith("--")


def check_beam_flags(left: Sequence[str]) -> None:
    """Raises UsageError for an argument that Beam does not know either, and for a wrong value of one that it does.

    Flink and Spark have options that only their job server knows; one of these passes unless it looks like a slip of a known flag,
    and Beam warns of it where the job server does not know it either.
    """
    if any("dask" in argument.lower() for argument in left) and importlib.util.find_spec("distributed"):
        importlib.import_module("apache_beam.runners.dask.dask_runner")  # which adds Dask's flags
    parser = _beam_parser()
    parsed, unknown = parser.parse_known_args(list(left))
    known = [f"--{name}" for name in flags.FLAGS] + list(parser._option_string_actions)
    for argument in unknown:
        hint = suggest(argument.split("=")[0], known)
        if hint or not _is_for_job_server(argument, parsed.runner, parsed.job_endpoint):
            message = f"unknown flag or argument {argument!r}: neither this command nor Beam has it"
            raise app.UsageError(message + hint, exitcode=2)

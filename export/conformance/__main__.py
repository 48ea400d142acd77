"""Checks any server of an exported model, tensorflow_model_server or `export.serve`, over gRPC (docs/serving.md).

    python -m export.conformance --target=localhost:8500
    python -m export.conformance --target=localhost:8500 --export=runs/NAME/export --run=runs/NAME --lists=runs/NAME/lists

Sends a few hundred requests, changes nothing on the server, and prints a line per check: pass, fail or skip, each with what was seen. Exit
code 1 where a check fails. Without --export, --run and --lists it makes up searches from the server's own metadata.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from cvr.errors import CvrError, run_main
from cvr.manifest import publish_json
from cvr.runs import load_ranker
from export.conformance import extras, malformed, metadata, parity, predicting, sizes
from export.conformance.check import run_all
from export.conformance.report import content, table
from export.conformance.target import Reference, Target
from export.connection import connection_from_flags, define_connection_flags
from export.extras import EXTRA, PARITY_FILE, about
from export.lists import read_lists
from export.prediction_log import read_log
from export.saved_model import run_folder
from export.versions import newest

FLAGS = flags.FLAGS
CHECKS = (*metadata.CHECKS, *predicting.CHECKS, *malformed.CHECKS, *sizes.CHECKS, *parity.CHECKS, *extras.CHECKS)


def define_flags() -> None:
    """The command's flags."""
    define_connection_flags()
    flags.DEFINE_string("model_name", "cvr", "The model's name on the server.")
    flags.DEFINE_list("version_labels", [], "Labels that the server's config gives, as label:version, such as stable:3,canary:4.")
    flags.DEFINE_string("export", None, "Version folder, or base folder (its newest version): compares with the answers recorded in it.")
    flags.DEFINE_string("run", None, "Folder of the run that was exported: with --lists, compares with its checkpoint.")
    flags.DEFINE_string("lists", None, "Folder of list records of the model's feature spec.")
    flags.DEFINE_string("split", "test", "Split of --lists whose first lists are sent.")
    flags.DEFINE_integer("num_lists", 32, "How many lists.", lower_bound=1, upper_bound=1_000)
    flags.DEFINE_float("tolerance", 1e-5, "Largest difference, relative above 1, of two scores that counts as equal.", lower_bound=0.0)
    flags.DEFINE_float("timeout_seconds", 30.0, "Deadline of a call.", lower_bound=0.1)
    flags.DEFINE_float("max_seconds", 600.0, "Checks that start later fail.", lower_bound=1.0)
    flags.DEFINE_string("json", None, "Also writes the results to this file.")


def _labels() -> dict[str, int]:
    labels = {}
    for entry in FLAGS.version_labels:
        label, _, version = entry.rpartition(":")
        if not label or not version.isdecimal():
            raise CvrError(f"--version_labels={entry} must be label:version, such as stable:3")
        labels[label] = int(version)
    return labels


def _reference() -> Reference:
    spec = ranker = None
    if FLAGS.run:
        ranker, run = load_ranker(run_folder(FLAGS.run))
        spec = run.spec
        if not FLAGS.lists:
            raise CvrError("--run needs --lists, the records whose scores are compared")
    records = read_lists(FLAGS.lists, FLAGS.split, FLAGS.num_lists, spec).records if FLAGS.lists else []
    if not FLAGS.export:
        return Reference(spec, ranker, records)
    folder = newest(FLAGS.export)
    file = folder / EXTRA / PARITY_FILE
    if not file.is_file() or not folder.name.isdecimal():
        raise CvrError(f"no {EXTRA}/{PARITY_FILE} in {folder}, or its name is no version number; export the run again")
    recorded = [call for call in read_log(file) if call.response is not None]
    return Reference(spec, ranker, records, recorded, int(folder.name), float(about(folder)["parity"]["selfcheck_tolerance"]))


def main(argv: Sequence[str]) -> int:
    """Runs all checks; exit code 1 where one fails."""
    del argv
    reference, labels = _reference(), _labels()
    target = Target(
        FLAGS.target, FLAGS.model_name, connection_from_flags(), FLAGS.timeout_seconds, FLAGS.tolerance, labels, reference
    )
    try:
        target.reach()
        results = run_all(CHECKS, target, FLAGS.max_seconds)
    finally:
        target.close()
    print(table(results))
    if FLAGS.json:
        output = Path(FLAGS.json)
        output.parent.mkdir(parents=True, exist_ok=True)
        publish_json(output, content(FLAGS.target, FLAGS.model_name, results))
    return int(any(result.verdict == "fail" for result in results))


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()

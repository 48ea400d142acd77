"""The parity gate: one list, one score, whatever computes it and whatever is computed beside it.

    python -m export.parity --run=runs/NAME --export=runs/NAME/export --lists=runs/NAME/lists

Compares checkpoint, SavedModel and gRPC answers on the same lists, alone and beside others, with rows in another order, and raw
requests through one and two signatures. Prints a table and writes parity.json; when any logit differs by more than --tolerance it
writes parity.failed.json instead and ends with exit code 1. It starts a local server for the exported version; with --target, the
server at that address is asked for that version.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from cvr.calibration import Calibration, load_calibration
from cvr.errors import CvrError, run_main
from cvr.manifest import publish_json
from cvr.runs import load_ranker
from export.checks import report, table
from export.extras import about
from export.gate import Gate, stated_tolerance
from export.lists import read_lists
from export.saved_model import run_folder
from export.servable import Servable
from export.storage import Storage
from export.versions import newest

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("run", None, "Folder of the finished run that was exported.", required=True)
    flags.DEFINE_string("export", None, "Base folder of versions (the newest is checked) or a version folder.", required=True)
    flags.DEFINE_string("lists", None, "Folder of list records.", required=True)
    flags.DEFINE_string("split", "test", "Split whose first lists are compared.")
    flags.DEFINE_integer("num_lists", 64, "How many lists.", lower_bound=1)
    flags.DEFINE_integer("num_requests", 16, "How many made-up raw requests.", lower_bound=1)
    tolerance = "Largest difference, relative above 1, of a logit that passes; 1e-5, or what the export of rounded weights stated."
    flags.DEFINE_float("tolerance", None, tolerance, lower_bound=0.0)
    flags.DEFINE_string("target", None, "host:port of a running server; a local one is started otherwise.")
    flags.DEFINE_string("model_name", "cvr", "The model's name on the server.")
    flags.DEFINE_string("output", None, "Where the report goes; parity.json in the base folder of versions otherwise.")


def check_calibration(folder: Path, exported: dict[str, Any], calibration: Calibration | None) -> None:
    """Raises CvrError where the version was exported with another calibration than the run has, or one of them has none."""
    before = (exported.get("calibration") or {}).get("fitted")
    now = calibration.model_dump(mode="json") if calibration else None
    if before != now:
        had = "another" if before else "no"
        raise CvrError(f"{folder} was exported when the run had {had} calibration; export the run again")


def main(argv: Sequence[str]) -> int:
    """Runs all checks; exit code 1 above the tolerance."""
    del argv
    folder = newest(FLAGS.export)
    exported = about(folder)
    ranker, run = load_ranker(run_folder(FLAGS.run))
    if exported["spec_fingerprint"] != run.spec.fingerprint:
        raise CvrError(f"{folder} was exported with feature spec {exported['spec_fingerprint']}, the run has {run.spec.fingerprint}")
    calibration = load_calibration(run.folder, run.info["checkpoint"])
    check_calibration(folder, exported, calibration)
    storage = Storage(**exported["storage"]) if "storage" in exported else Storage()
    stated = exported.get("parity", {}).get("tolerance") if not storage.exact else None
    tolerance = stated_tolerance(storage, FLAGS.tolerance if FLAGS.tolerance is not None else stated)
    lists = read_lists(FLAGS.lists, FLAGS.split, FLAGS.num_lists, run.spec)
    servable = Servable(folder)
    gate = Gate(run, ranker, lists.records, FLAGS.num_requests, tolerance, storage)
    differences = gate.compare(servable, FLAGS.target, FLAGS.model_name)
    result = report(differences, tolerance)
    context = {"version": servable.version, "lists": len(lists.records), "split": FLAGS.split, "target": FLAGS.target or "local"}
    output = Path(FLAGS.output) if FLAGS.output else folder.parent / "parity.json"
    output = output if result["passed"] else output.with_suffix(".failed.json")
    output.parent.mkdir(parents=True, exist_ok=True)
    publish_json(output, {**context, **result})
    print(table(differences, tolerance))
    rounded = "" if storage.exact else f" (tables stored as {storage.tables}, weights as {storage.weights})"
    print(f"largest difference {result['largest_difference']:.2e}, tolerance {tolerance:.0e}{rounded}; written to {output}")
    return 0 if result["passed"] else 1


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()

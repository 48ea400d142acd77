"""The parity gate: one list, one score, whatever computes it and whatever is computed beside it.

    python -m export.parity --run=runs/NAME --export=runs/NAME/export --lists=runs/NAME/lists

Compares checkpoint, SavedModel and gRPC answers on the same lists, alone and beside others, with rows in another order, and raw
requests through one and two signatures. Prints a table and writes parity.json; when any logit differs by more than --tolerance it
writes parity.failed.json instead and ends with exit code 1. It starts a local server for the exported version; with --target, the
server at that address is asked for that version.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from cvr.calibration import Calibration, load_calibration
from cvr.errors import CvrError, run_main
from cvr.manifest import publish_json
from cvr.runs import load_ranker
from export.checks import Subject, compare_all, report, table
from export.client import Client
from export.example import example_search
from export.extras import about
from export.lists import read_lists
from export.saved_model import run_folder
from export.servable import Servable
from export.server import Server
from export.services import Models
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
    flags.DEFINE_float("tolerance", 1e-5, "Largest absolute difference of a logit that passes.", lower_bound=0.0)
    flags.DEFINE_string("target", None, "host:port of a running server; a local one is started otherwise.")
    flags.DEFINE_string("model_name", "cvr", "The model's name on the server.")
    flags.DEFINE_string("output", None, "Where the report goes; parity.json in the base folder of versions otherwise.")


@contextlib.contextmanager
def _client(servable: Servable, target: str | None) -> Iterator[Client]:
    server = None
    if target is None:
        server = Server(Models(FLAGS.model_name, {servable.version: servable}))
        server.start()
        target = f"127.0.0.1:{server.port}"
    try:
        with Client(target, FLAGS.model_name, servable.version, timeout=60.0) as client:
            yield client
    finally:
        if server is not None:
            server.stop()


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
    lists = read_lists(FLAGS.lists, FLAGS.split, FLAGS.num_lists, run.spec)
    searches = [example_search(run.spec, items=1 + 3 * seed, seed=seed, gaps=0.1) for seed in range(FLAGS.num_requests)]
    servable = Servable(folder)
    with _client(servable, FLAGS.target) as client:
        differences = compare_all(Subject(run.spec, ranker, servable, client, calibration), lists.records, searches)
    result = report(differences, FLAGS.tolerance)
    context = {"version": servable.version, "lists": len(lists.records), "split": FLAGS.split, "target": FLAGS.target or "local"}
    output = Path(FLAGS.output) if FLAGS.output else folder.parent / "parity.json"
    output = output if result["passed"] else output.with_suffix(".failed.json")
    output.parent.mkdir(parents=True, exist_ok=True)
    publish_json(output, {**context, **result})
    print(table(differences, FLAGS.tolerance))
    print(f"largest difference {result['max_abs_diff']:.2e}, tolerance {FLAGS.tolerance:.0e}; written to {output}")
    return 0 if result["passed"] else 1


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()

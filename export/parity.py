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

from absl import flags

from cvr.errors import CvrError, run_main
from cvr.manifest import publish_json
from cvr.runs import load_ranker
from export.checks import Subject, compare_all, report, table
from export.client import Client
from export.example import example_search
from export.lists import read_lists
from export.saved_model import about, run_folder
from export.servable import Servable
from export.server import Server
from export.services import Models
from export.versions import newest

_RUN = flags.DEFINE_string("run", None, "Folder of the finished run that was exported.", required=True)
_EXPORT = flags.DEFINE_string("export", None, "Base folder of versions (the newest is checked) or a version folder.", required=True)
_LISTS = flags.DEFINE_string("lists", None, "Folder of list records.", required=True)
_SPLIT = flags.DEFINE_string("split", "test", "Split whose first lists are compared.")
_COUNT = flags.DEFINE_integer("num_lists", 64, "How many lists.", lower_bound=1)
_REQUESTS = flags.DEFINE_integer("num_requests", 16, "How many made-up raw requests.", lower_bound=1)
_TOLERANCE = flags.DEFINE_float("tolerance", 1e-5, "Largest absolute difference of a logit that passes.", lower_bound=0.0)
_TARGET = flags.DEFINE_string("target", None, "host:port of a running server; a local one is started otherwise.")
_MODEL = flags.DEFINE_string("model_name", "cvr", "The model's name on the server.")
_OUTPUT = flags.DEFINE_string("output", None, "Where the report goes; parity.json in the base folder of versions otherwise.")


@contextlib.contextmanager
def _client(servable: Servable, target: str | None) -> Iterator[Client]:
    server = None
    if target is None:
        server = Server(Models(_MODEL.value, {servable.version: servable}))
        server.start()
        target = f"127.0.0.1:{server.port}"
    try:
        with Client(target, _MODEL.value, servable.version, timeout=60.0) as client:
            yield client
    finally:
        if server is not None:
            server.stop()


def main(argv: Sequence[str]) -> int:
    """Runs all checks; exit code 1 above the tolerance."""
    del argv
    folder = newest(_EXPORT.value)
    exported = about(folder)
    ranker, run = load_ranker(run_folder(_RUN.value))
    if exported["spec_fingerprint"] != run.spec.fingerprint:
        raise CvrError(f"{folder} was exported with feature spec {exported['spec_fingerprint']}, the run has {run.spec.fingerprint}")
    lists = read_lists(_LISTS.value, _SPLIT.value, _COUNT.value, run.spec)
    searches = [example_search(run.spec, items=1 + 3 * seed, seed=seed, gaps=0.1) for seed in range(_REQUESTS.value)]
    servable = Servable(folder)
    with _client(servable, _TARGET.value) as client:
        differences = compare_all(Subject(run.spec, ranker, servable, client), lists.records, searches)
    result = report(differences, _TOLERANCE.value)
    context = {"version": servable.version, "lists": len(lists.records), "split": _SPLIT.value, "target": _TARGET.value or "local"}
    output = Path(_OUTPUT.value) if _OUTPUT.value else folder.parent / "parity.json"
    output = output if result["passed"] else output.with_suffix(".failed.json")
    publish_json(output, {**context, **result})
    print(table(differences, _TOLERANCE.value))
    print(f"largest difference {result['max_abs_diff']:.2e}, tolerance {_TOLERANCE.value:.0e}; written to {output}")
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    run_main(main)

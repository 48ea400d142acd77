"""The parity gate on one version: `export.save` asks before it publishes, `export.parity` afterwards."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from cvr.calibration import load_calibration
from cvr.errors import CvrError
from cvr.ranker import Ranker
from cvr.runs import Run
from export.checks import Difference, Subject, compare_all, report, table
from export.client import Client
from export.example import example_search
from export.servable import Servable
from export.server import Server
from export.services import Models
from export.storage import Storage

TOLERANCE = 1e-5
"""Largest difference, relative above 1, of a logit, where nothing was rounded."""
_WITH_CHECKPOINT = {"saved_model", "grpc", "raw_requests"}


def stated_tolerance(storage: Storage, given: float | None) -> float:
    """The tolerance of a gate. Raises CvrError where weights are rounded and nobody said how much that may change."""
    if given is None and not storage.exact:
        raise CvrError(
            f"--weights={storage.weights} --table_storage={storage.tables} rounds, so scores will differ from the checkpoint's: say with "
            "--tolerance by how much a logit may (quantisation.json of an export tells by how much they do), for example --tolerance=0.05"
        )
    return TOLERANCE if given is None else given


@dataclasses.dataclass(frozen=True)
class Gate:
    """What versions of a run are held against: the checkpoint's ranker, on stored lists (records) and made-up raw requests.

    `tolerance` is for logits against the checkpoint's. What a version answers in two ways must agree within `TOLERANCE` where it
    computes in float32, however its tables are stored.
    """

    run: Run
    ranker: Ranker
    lists: Sequence[bytes]
    num_requests: int = 16
    tolerance: float = TOLERANCE
    storage: Storage = Storage()  # noqa: RUF009 - frozen

    def compare(self, servable: Servable, target: str | None = None, model_name: str = "cvr") -> list[Difference]:
        """All checks of a version: of a server at `target`, or of one that is started for it."""
        spec = self.run.spec
        calibration = load_calibration(self.run.folder, self.run.info["checkpoint"])
        searches = [example_search(spec, items=1 + 3 * seed, seed=seed, gaps=0.1) for seed in range(self.num_requests)]
        with _client(servable, target, model_name) as client:
            found = compare_all(Subject(spec, self.ranker, servable, client, calibration), self.lists, searches)
        return found if self.storage.exact or self.storage.precision else [_limited(entry) for entry in found]

    def require(self, servable: Servable) -> dict[str, Any]:
        """The report of a version that passes; prints its table. Raises CvrError naming the checks that fail."""
        found = self.compare(servable)
        result = report(found, self.tolerance)
        print(table(found, self.tolerance), flush=True)
        if not result["passed"]:
            failed = ", ".join(f"{entry.name} {entry.largest_difference:.2e}" for entry in found if not entry.passes(self.tolerance))
            raise CvrError(f"parity failed, so nothing was published: {failed}; tolerance {self.tolerance:.0e}")
        return {**result, "lists": len(self.lists), "requests": self.num_requests}


def _limited(entry: Difference) -> Difference:
    return entry if entry.name in _WITH_CHECKPOINT else dataclasses.replace(entry, limit=min(entry.limit, TOLERANCE))


@contextlib.contextmanager
def _client(servable: Servable, target: str | None, model_name: str) -> Iterator[Client]:
    server = None
    if target is None:
        server = Server(Models(model_name, {servable.version: servable}))
        server.start()
        target = f"127.0.0.1:{server.port}"
    try:
        with Client(target, model_name, servable.version, timeout=60.0) as client:
            yield client
    finally:
        if server is not None:
            server.stop()

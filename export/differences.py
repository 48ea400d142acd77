"""Differences between logged answers and answers given now, by request and by what the inputs were like."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tensorflow_serving.apis import predict_pb2

from export import tensors
from export.inputs import UNSEEN_TEXT
from export.selfcheck import difference

SHOWN = 10
_UNSEEN = UNSEEN_TEXT.encode()


@dataclasses.dataclass(frozen=True)
class Replayed:
    """A logged request with the difference of each output; `refused` says why there is no answer now."""

    number: int
    request: predict_pb2.PredictRequest
    gaps: Mapping[str, float]
    refused: str = ""

    @property
    def largest(self) -> float:
        """Largest difference of an output; infinite where the request was refused."""
        return float("inf") if self.refused else max(self.gaps.values(), default=0.0)


@dataclasses.dataclass(frozen=True)
class Group:
    """The requests in which an input had a state: how many, how many of them differ, and by how much at most."""

    name: str
    state: str
    requests: int
    differing: int
    largest: float


def compare(
    number: int, request: predict_pb2.PredictRequest, response: predict_pb2.PredictResponse, now: Mapping[str, np.ndarray]
) -> Replayed:
    """Every output of the logged response against the same output now; one that is not given now differs infinitely."""
    logged = {name: tensors.decode_any(proto) for name, proto in response.outputs.items()}
    gaps = {name: difference(now[name], values) if name in now else float("inf") for name, values in logged.items()}
    return Replayed(number, request, gaps)


def states(values: np.ndarray) -> set[str]:
    """Which of present, missing (NaN, the empty string) and unseen (-inf, `UNSEEN_TEXT`) occur; none for an empty tensor."""
    if values.dtype == object:
        flat = [value if isinstance(value, bytes) else value.encode() for value in values.ravel()]
        return {"unseen" if value == _UNSEEN else "present" if value else "missing" for value in flat} or {"none"}
    if values.dtype.kind != "f":
        return {"present"} if values.size else {"none"}
    codes = np.where(np.isneginf(values), 2, np.where(np.isnan(values), 1, 0))
    return {("present", "missing", "unseen")[code] for code in np.unique(codes)} or {"none"}


def by_input(found: Sequence[Replayed], tolerance: float) -> list[Group]:
    """Requests by input and state, those whose requests differ most often first; empty where none differs."""
    members: dict[tuple[str, str], list[float]] = {}
    for entry in found:
        for name, proto in entry.request.inputs.items():
            for state in states(tensors.decode_any(proto)):
                members.setdefault((name, state), []).append(entry.largest)
    groups = [Group(*key, len(gaps), sum(not gap <= tolerance for gap in gaps), max(gaps)) for key, gaps in sorted(members.items())]
    differing = [group for group in groups if group.differing]
    return sorted(differing, key=lambda group: (-group.differing / group.requests, -group.largest))


def summary(found: Sequence[Replayed], groups: Sequence[Group], tolerance: float) -> dict[str, Any]:
    """The report as JSON: infinite differences are null."""
    worst = sorted(found, key=lambda entry: -entry.largest)
    differing = [entry for entry in worst if not entry.largest <= tolerance]
    return {
        "requests": len(found),
        "differing": len(differing),
        "tolerance": tolerance,
        "largest_difference": _finite(worst[0].largest),
        "by_request": [
            {"record": entry.number, "refused": entry.refused or None, "gaps": {n: _finite(g) for n, g in entry.gaps.items()}}
            for entry in differing
        ],
        "by_input": [{**dataclasses.asdict(group), "largest": _finite(group.largest)} for group in groups],
    }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def table(found: Sequence[Replayed], groups: Sequence[Group], tolerance: float) -> str:
    """The report as lines, the worst requests and inputs first."""
    differing = sorted((entry for entry in found if not entry.largest <= tolerance), key=lambda entry: -entry.largest)
    largest = max(entry.largest for entry in found)
    lines = [f"{len(found)} requests replayed, {len(differing)} differ by more than {tolerance:.0e}; largest difference {largest:.2e}"]
    for entry in differing[:SHOWN]:
        outputs = ", ".join(f"{name} {gap:.2e}" for name, gap in sorted(entry.gaps.items(), key=lambda pair: -pair[1]))
        lines.append(f"request {entry.number} ({entry.request.model_spec.signature_name}): {entry.refused or outputs}")
    for group in groups[:SHOWN]:
        share = f"{group.differing} of {group.requests} requests differ"
        lines.append(f"input {group.name} {group.state}: {share}, by at most {group.largest:.2e}")
    return "\n".join(lines)

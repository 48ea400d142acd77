"""What a client gives back: ranked items, their table, and the error of a refused call."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import numpy as np

from cvr.errors import CvrError
from export.probabilities import PREFIX
from export.servable import tensor_infos
from export.signatures import SCORE


class RequestFailedError(CvrError):
    """The server refused a call or was not reached; `code` and `details` are the gRPC status, `attempts` how often it was sent."""

    def __init__(self, target: str, error: grpc.RpcError, attempts: int = 1) -> None:
        self.code: grpc.StatusCode = error.code()
        self.details: str = error.details() or ""
        self.attempts = attempts
        super().__init__(self._text(target) + (f" (sent {attempts} times)" if attempts > 1 else ""))

    def _text(self, target: str) -> str:
        if self.code == grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"no answer from {target} within the deadline: {self.code.name}: {self.details}"
        if self.code != grpc.StatusCode.UNAVAILABLE or "queue" in self.details:
            return f"the server at {target} answered {self.code.name}: {self.details}"
        if "handshake" in self.details.lower() or "certificate" in self.details.lower():
            return f"no TLS connection to {target} ({self.details}); is it a TLS server, and its certificate one that the client trusts?"
        return f"no server answers at {target} ({self.details}); start one: python -m export.serve --model_base_path=DIR"


@dataclasses.dataclass(frozen=True)
class RankedItem:
    """An item with its ranking score and, by task, logits and (of a calibrated model) probabilities; `row` is its place in the request."""

    item_id: str
    score: float
    logits: Mapping[str, float]
    row: int
    probabilities: Mapping[str, float] = dataclasses.field(default_factory=dict)


def best_first(names: Sequence[str], outputs: Mapping[str, np.ndarray]) -> list[RankedItem]:
    """Items by falling score, ties in the order of the request. Raises CvrError where the scores are not one per item."""
    chances = {name.removeprefix(PREFIX): values for name, values in sorted(outputs.items()) if name.startswith(PREFIX)}
    logits = {name: values for name, values in sorted(outputs.items()) if name != SCORE and not name.startswith(PREFIX)}
    for name, values in outputs.items():
        if values.shape != (len(names),):
            raise CvrError(f"the server's output {name!r} has shape {list(values.shape)} for {len(names)} items; is it another model?")
    scores = outputs[SCORE]

    def item(row: int) -> RankedItem:
        by_task = [{task: float(values[row]) for task, values in columns.items()} for columns in (logits, chances)]
        return RankedItem(names[row], float(scores[row]), by_task[0], row, by_task[1])

    return [item(int(row)) for row in np.argsort(-scores, kind="stable")]


def table(ranked: Sequence[RankedItem], extra: Mapping[str, Sequence[object]] | None = None) -> str:
    """A readable table; `extra` adds columns by row of the request."""
    tasks, chances, more = sorted(ranked[0].logits), sorted(ranked[0].probabilities), dict(extra or {})
    heads = ["rank", "item", "shown", "score", *(f"{task} logit" for task in tasks), *(f"P({task})" for task in chances), *more]
    lines = [
        [str(rank), item.item_id, str(item.row + 1), f"{item.score:.4f}", *(f"{item.logits[task]:.4f}" for task in tasks)]
        + [f"{item.probabilities[task]:.5f}" for task in chances]
        + [str(column[item.row]) for column in more.values()]
        for rank, item in enumerate(ranked, 1)
    ]
    widths = [max(len(line[k]) for line in [heads, *lines]) for k in range(len(heads))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in [heads, *lines])


def signature_table(signatures: Mapping[str, Any]) -> str:
    """Signature definitions by name -> the types and shapes of their inputs and outputs, a line each."""
    lines = []
    for name, definition in sorted(signatures.items()):
        lines.append(name)
        for kind, entries in (("in ", definition.inputs), ("out", definition.outputs)):
            for key, info in sorted(tensor_infos(entries).items()):
                lines.append(f"  {kind}  {key}  {info.dtype.name} [{', '.join('n' if d is None else str(d) for d in info.shape)}]")
    return "\n".join(lines)

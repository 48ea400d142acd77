"""The requests of a load: serialized once, before the load begins."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cvr.errors import CvrError
from cvr.runs import SPEC_FILE
from cvr.schema import FeatureSpec, load_spec
from export.example import example_search
from export.extras import EXTRA
from export.inputs import request_inputs
from export.lists import read_lists
from export.prediction_log import predict_request
from export.request import to_arrays
from export.servable import DEFAULT_SIGNATURE, TensorInfo
from export.signatures import EXAMPLES, SCORE

KINDS = ("raw", "lists")


@dataclasses.dataclass(frozen=True)
class Payloads:
    """Serialized PredictRequests and how many items each ranks."""

    requests: list[bytes]
    items: list[int]

    def write(self, path: Path) -> None:
        """Stores them for `tools.serving.generator`."""
        path.write_bytes(pickle.dumps((self.requests, self.items)))

    @property
    def described(self) -> str:
        """Their number and sizes, for a report."""
        low, middle, high = np.percentile(self.items, [5, 50, 95])
        size = sum(map(len, self.requests)) / len(self.requests)
        return (
            f"{len(self.requests)} requests of {np.mean(self.items):.1f} items on average (5, 50, 95 %: {low:.0f}, {middle:.0f}, "
            f"{high:.0f}), {size:,.0f} bytes"
        )


def export_spec(folder: Path) -> FeatureSpec:
    """The feature spec of an exported version. Raises CvrError where it has none."""
    return load_spec(folder / EXTRA / SPEC_FILE)


def raw_payloads(spec: FeatureSpec, lengths: Sequence[int], model_name: str = "cvr") -> Payloads:
    """One made-up raw request per length, to `serving_default`; every request has other values. Answers hold `score` alone."""
    infos = {
        entry.name: TensorInfo(entry.dtype, (1,) if entry.level == "context" else (None,)) for entry in request_inputs(spec)
    }
    requests = []
    for seed, length in enumerate(lengths):
        request = predict_request(to_arrays(example_search(spec, length, seed, gaps=0.05), infos), DEFAULT_SIGNATURE, model_name)
        request.output_filter.append(SCORE)
        requests.append(request.SerializeToString())
    return Payloads(requests, list(lengths))


def list_payloads(records: Sequence[bytes], lengths: Sequence[int], model_name: str = "cvr") -> Payloads:
    """One stored list per request, to `score_lists`."""
    requests = []
    for record in records:
        request = predict_request({EXAMPLES: np.array([record], object)}, "score_lists", model_name)
        request.output_filter.append(SCORE)
        requests.append(request.SerializeToString())
    return Payloads(requests, list(lengths))


def make_payloads(
    kind: str, spec: FeatureSpec | None, lists: str | None, split: str, count: int, sizes: Sequence[int], model_name: str = "cvr"
) -> Payloads:
    """The requests that flags ask for: with `lists`, the lengths (raw) or records (lists) of a split's first lists, else `sizes`.

    Raises CvrError where there is neither a spec nor lists, or the kind needs lists.
    """
    if lists is None:
        if kind == "lists":
            raise CvrError("--requests=lists sends stored lists; say where they are: --lists=DIR")
        if spec is None:
            raise CvrError("the features of the requests are not known; give --export=DIR or --lists=DIR")
        return raw_payloads(spec, [sizes[number % len(sizes)] for number in range(count)], model_name)
    found = read_lists(lists, split, count, spec if kind == "lists" else None)
    lengths = [len(found.row(number).item) for number in range(len(found.records))]
    if kind == "lists":
        return list_payloads(found.records, lengths, model_name)
    return raw_payloads(spec or found.spec, lengths, model_name)

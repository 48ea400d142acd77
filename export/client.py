"""A typed client: ranks the items of one search through a served model (ours or tensorflow_model_server).

    python -m export.client --target=localhost:8500 --request=request.json      rank a search of your own (export.request has the form)
    python -m export.client --target=localhost:8500 --describe                  inputs and outputs of the model's signatures
    python -m export.client --target=localhost:8500 --lists=DIR --list_number=3 rank a stored search list

    with Client("localhost:8500") as client:
        best = client.rank(context={"query": "red shoes"}, items=[{"item_id": "i7", "price": 19.9}, {"item_id": "i8"}])[0]
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import numpy as np
from absl import flags
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc

from cvr.errors import CvrError, run_main
from export import tensors
from export.lists import ListRows, read_lists
from export.probabilities import PREFIX
from export.request import Search, Values, to_arrays
from export.servable import DEFAULT_SIGNATURE, TensorInfo, tensor_infos
from export.signatures import EXAMPLES, LIST_SIZE, SCORE

FLAGS = flags.FLAGS
_MESSAGE_BYTES = 64 << 20


class RequestFailedError(CvrError):
    """The server refused a call or was not reached; `code` is the gRPC status."""

    def __init__(self, target: str, error: grpc.RpcError) -> None:
        self.code: grpc.StatusCode = error.code()
        if self.code == grpc.StatusCode.UNAVAILABLE and "queue" not in (error.details() or ""):
            hint = f"no server answers at {target} ({error.details()}); start one: python -m export.serve --model_base_path=DIR"
        else:
            hint = f"the server at {target} answered {self.code.name}: {error.details()}"
        super().__init__(hint)


@dataclasses.dataclass(frozen=True)
class RankedItem:
    """An item with its ranking score and, by task, logits and (of a calibrated model) probabilities; `row` is its place in the request."""

    item_id: str
    score: float
    logits: Mapping[str, float]
    row: int
    probabilities: Mapping[str, float] = dataclasses.field(default_factory=dict)


class Client:
    """Calls one model on one server. Usable from many threads; `close` it or use it in a `with`."""

    def __init__(self, target: str, model_name: str = "cvr", version: int | None = None, timeout: float = 10.0) -> None:
        """Opens the channel lazily; `timeout` is each call's deadline in seconds."""
        limits = [("grpc.max_receive_message_length", _MESSAGE_BYTES), ("grpc.max_send_message_length", _MESSAGE_BYTES)]
        self.target, self._name, self._version, self._timeout = target, model_name, version, timeout
        self._channel = grpc.insecure_channel(target, options=limits)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._signatures: dict[str, Any] | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def signatures(self) -> dict[str, Any]:
        """Signature definitions by name, asked once. Raises RequestFailedError."""
        if self._signatures is None:
            request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
            self._address(request.model_spec)
            answer = self._call(self._stub.GetModelMetadata, request)
            found = get_model_metadata_pb2.SignatureDefMap()
            answer.metadata["signature_def"].Unpack(found)
            self._signatures = dict(found.signature_def)
        return self._signatures

    def inputs(self, signature: str = DEFAULT_SIGNATURE) -> dict[str, TensorInfo]:
        """Named inputs of a signature."""
        return tensor_infos(self.signatures()[signature].inputs)

    def predict(self, inputs: Mapping[str, np.ndarray], signature: str = DEFAULT_SIGNATURE) -> dict[str, np.ndarray]:
        """Outputs of a signature by name. Raises RequestFailedError with the server's status and message."""
        request = predict_pb2.PredictRequest()
        self._address(request.model_spec)
        request.model_spec.signature_name = signature
        for name, values in inputs.items():
            request.inputs[name].CopyFrom(tensors.encode(values))
        answer = self._call(self._stub.Predict, request)
        return {name: tensors.decode_any(proto) for name, proto in answer.outputs.items()}

    def rank(
        self, context: Values, items: Sequence[Values], history: Mapping[str, Sequence[Values]] | None = None
    ) -> list[RankedItem]:
        """Items best first; ties keep the order of the request. Context and all items go in one call.

        Raises CvrError for values that are no inputs of the model, RequestFailedError for what the server refuses.
        """
        arrays = to_arrays(Search(context, items, history or {}), self.inputs())
        return _best_first([str(item["item_id"]) for item in items], self.predict(arrays))

    def rank_list(self, record: bytes, names: Sequence[str]) -> list[RankedItem]:
        """Items of a serialized list record best first, called by `names`."""
        outputs = self.predict({EXAMPLES: np.array([record], object)}, "score_lists")
        outputs.pop(LIST_SIZE)
        return _best_first(names, outputs)

    def _address(self, spec: Any) -> None:
        spec.name = self._name
        if self._version is not None:
            spec.version.value = self._version

    def _call(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise RequestFailedError(self.target, error) from error


def _best_first(names: Sequence[str], outputs: Mapping[str, np.ndarray]) -> list[RankedItem]:
    scores = outputs[SCORE]
    chances = {name.removeprefix(PREFIX): values for name, values in sorted(outputs.items()) if name.startswith(PREFIX)}
    logits = {name: values for name, values in sorted(outputs.items()) if name != SCORE and not name.startswith(PREFIX)}

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


def describe(client: Client) -> str:
    """The signatures with types and shapes of their inputs and outputs."""
    lines = []
    for name, definition in sorted(client.signatures().items()):
        lines.append(name)
        for kind, entries in (("in ", definition.inputs), ("out", definition.outputs)):
            for key, info in sorted(tensor_infos(entries).items()):
                lines.append(f"  {kind}  {key}  {info.dtype.name} [{', '.join('n' if d is None else str(d) for d in info.shape)}]")
    return "\n".join(lines)


def define_flags() -> None:
    """The command's flags; a program that uses `Client` has only its own."""
    flags.DEFINE_string("target", "localhost:8500", "host:port of the server.")
    flags.DEFINE_string("model_name", "cvr", "The model's name on the server.")
    flags.DEFINE_integer("model_version", None, "Pins a version; the newest otherwise.")
    flags.DEFINE_float("timeout_seconds", 10.0, "Deadline of a call.")
    flags.DEFINE_string("request", None, "JSON file of the search to rank, - for standard input.")
    flags.DEFINE_string("lists", None, "Folder of list records; ranks one of its lists instead of --request.")
    flags.DEFINE_string("split", "test", "Split of --lists.")
    flags.DEFINE_integer("list_number", 0, "Which list of the split, counted from 0.", lower_bound=0)
    flags.DEFINE_bool("describe", False, "Prints the model's signatures.")


def _rank_stored(client: Client, folder: str, split: str, number: int) -> str:
    lists: ListRows = read_lists(folder, split, number + 1)
    if len(lists.records) <= number:
        raise CvrError(f"--list_number={number}: split {split!r} of {folder} has {len(lists.records)} lists")
    shown = lists.row(number)
    ranked = client.rank_list(lists.records[number], [f"{item:x}" for item in shown.item])
    return f"search {shown.search_id}\n" + table(ranked, {f"{task} happened": column for task, column in shown.labels.items()})


def main(argv: Sequence[str]) -> int:
    """Ranks the items of one search and prints them."""
    del argv
    if sum(bool(value) for value in (FLAGS.request, FLAGS.lists, FLAGS.describe)) != 1:
        raise CvrError("give one of --request=FILE, --lists=DIR or --describe")
    with Client(FLAGS.target, FLAGS.model_name, FLAGS.model_version, FLAGS.timeout_seconds) as client:
        if FLAGS.describe:
            print(describe(client))
        elif FLAGS.lists:
            print(_rank_stored(client, FLAGS.lists, FLAGS.split, FLAGS.list_number))
        else:
            stdin = FLAGS.request == "-"
            search = Search.from_json(sys.stdin.read(), "standard input") if stdin else Search.from_file(FLAGS.request)
            print(table(client.rank(search.context, search.items, search.history)))
    return 0


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()

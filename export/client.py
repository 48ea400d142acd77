"""A typed client: ranks the items of one search through a served model (ours or tensorflow_model_server).

    python -m export.client --target=localhost:8500 --request=request.json      rank a search of your own (export.request has the form)
    python -m export.client --target=localhost:8500 --describe                  inputs and outputs of the model's signatures
    python -m export.client --target=localhost:8500 --lists=DIR --list_number=3 rank a stored search list

    with Client("localhost:8500") as client:
        best = client.rank(context={"query": "red shoes"}, items=[{"item_id": "i7", "price": 19.9}, {"item_id": "i8"}])[0]

`export.async_client` has the same operations for asyncio.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent import futures
from typing import Any, TypeVar

import grpc
import numpy as np
from absl import flags
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from cvr.errors import CvrError, run_main
from export.answers import RankedItem, RequestFailedError, best_first, signature_table, table
from export.calls import Call, Calls, Prepared, Split, Steps
from export.connection import Connection, connection_from_flags, define_connection_flags
from export.lists import ListRows, read_lists
from export.prediction_log import LogWriter
from export.request import Search, Values
from export.retries import Attempts, Budget, Retry
from export.servable import DEFAULT_SIGNATURE, TensorInfo
from export.signatures import EXAMPLES, LIST_SIZE

FLAGS = flags.FLAGS
PARTS_AT_A_TIME = 4
_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Options:
    """How to call. `retry`: how failed calls are sent again. `log`: gets every answered Predict call.

    `split`: whether a search with more items than the model takes in one request is refused ("never") or sent in parts ("items"), which is
    done only where the parts give the same scores.
    """

    connection: Connection = Connection()
    retry: Retry = Retry()
    split: Split = "items"
    log: LogWriter | None = None


class Client:
    """Calls one model on one server. Usable from many threads; `close` it or use it in a `with`."""

    def __init__(
        self,
        target: str,
        model_name: str = "cvr",
        version: int | str | None = None,
        timeout: float = 10.0,
        options: Options = Options(),  # noqa: B008 - frozen
    ) -> None:
        """Connects with the first call. `version`: a number pins it, a text is a version label. `timeout`: each operation's deadline in
        seconds, retries included."""
        self.target, self._timeout, self._options = target, timeout, options
        self._calls, self._budget = Calls(model_name, version, options.split), Budget(options.retry)
        self._channel = options.connection.channel(target)
        self._methods = stubs(self._channel)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def signatures(self) -> dict[str, Any]:
        """Signature definitions by name, asked once per version. Raises RequestFailedError."""
        return dict(self._run(self._calls.model()).signatures)

    def inputs(self, signature: str = DEFAULT_SIGNATURE) -> dict[str, TensorInfo]:
        """Named inputs of a signature. Raises CvrError where the version has none of that name."""
        return self._run(self._calls.model()).inputs(signature)

    def status(self) -> dict[int, str]:
        """State (`AVAILABLE`, `LOADING`, ...) by version."""
        return self._run(self._calls.status())

    def predict(
        self, inputs: Mapping[str, np.ndarray], signature: str = DEFAULT_SIGNATURE, outputs: Sequence[str] = ()
    ) -> dict[str, np.ndarray]:
        """Outputs of a signature by name, only `outputs` if given. Raises RequestFailedError with the server's status and message."""
        return self._run(self._calls.predict(inputs, signature, None, outputs))[0]

    def rank(
        self,
        context: Values,
        items: Sequence[Values],
        history: Mapping[str, Sequence[Values]] | None = None,
        timeout: float | None = None,
    ) -> list[RankedItem]:
        """Items best first; ties keep the order of the request. Context and all items go in one call, very many items in several.

        Raises CvrError for values that are no inputs of the model and for a search that is too large and may not be sent in parts,
        RequestFailedError for what the server refuses.
        """
        return self._run(self._calls.rank(Search(context, items, history or {})), timeout)

    def rank_many(self, searches: Iterable[Search], in_flight: int = 32) -> list[list[RankedItem]]:
        """`rank` of each search, up to `in_flight` at a time, in their order. Raises the error of the first that fails."""
        with futures.ThreadPoolExecutor(in_flight) as pool:
            waiting = [pool.submit(self._run, self._calls.rank(search)) for search in searches]
            try:
                return [ranked.result() for ranked in waiting]
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def preprocess(
        self, context: Values, items: Sequence[Values], history: Mapping[str, Sequence[Values]] | None = None
    ) -> Prepared:
        """The first half of `rank`, on the CPU of this client's server. Errors as in `rank`."""
        return self._run(self._calls.preprocess(Search(context, items, history or {})))

    def score(self, prepared: Prepared) -> list[RankedItem]:
        """The second half, by the very version that preprocessed the search, here or on another server.

        Raises RequestFailedError with NOT_FOUND where this server does not have that version.
        """
        return self._run(self._calls.score(prepared))

    def rank_list(self, record: bytes, names: Sequence[str]) -> list[RankedItem]:
        """Items of a serialized list record best first, called by `names`."""
        outputs = self.predict({EXAMPLES: np.array([record], object)}, "score_lists")
        outputs.pop(LIST_SIZE)
        return best_first(names, outputs)

    def _run(self, steps: Steps[_T], timeout: float | None = None) -> _T:
        until = time.monotonic() + (self._timeout if timeout is None else timeout)
        try:
            calls = next(steps)
            while True:
                try:
                    answers = self._answers(calls, until)
                except CvrError as error:
                    calls = steps.throw(error)
                else:
                    calls = steps.send(answers)
        except StopIteration as done:
            return done.value

    def _answers(self, calls: Sequence[Call], until: float) -> list[Any]:
        if len(calls) == 1:
            return [self._answer(calls[0], until)]
        with futures.ThreadPoolExecutor(PARTS_AT_A_TIME) as pool:
            return list(pool.map(lambda call: self._answer(call, until), calls))

    def _answer(self, call: Call, until: float) -> Any:
        attempts = Attempts(self._options.retry, self._budget)
        while True:
            try:
                answer = self._methods[call.method](call.request, timeout=until - time.monotonic())
            except grpc.RpcError as error:
                pause = attempts.pause(error, until - time.monotonic())
                if pause is None:
                    raise RequestFailedError(self.target, error, attempts.made) from error
                time.sleep(pause)
            else:
                self._budget.earn()
                if self._options.log is not None and call.method == "Predict":
                    self._options.log.write(call.request, answer)
                return answer


def stubs(channel: Any) -> dict[str, Any]:
    """The methods that `Call` names, on a channel of either kind."""
    prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    model = model_service_pb2_grpc.ModelServiceStub(channel)
    return {"Predict": prediction.Predict, "GetModelMetadata": prediction.GetModelMetadata, "GetModelStatus": model.GetModelStatus}


def describe(client: Client) -> str:
    """The signatures with types and shapes of their inputs and outputs."""
    return signature_table(client.signatures())


def define_flags() -> None:
    """The command's flags; a program that uses `Client` has only its own."""
    define_connection_flags()
    flags.DEFINE_string("model_name", "cvr", "The model's name on the server.")
    flags.DEFINE_integer("model_version", None, "Pins a version; the newest otherwise.")
    flags.DEFINE_string("version_label", None, "Asks for the version that the server calls so.")
    flags.DEFINE_float("timeout_seconds", 10.0, "Deadline of a search, retries included.")
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
    if FLAGS.model_version is not None and FLAGS.version_label is not None:
        raise CvrError("give --model_version or --version_label, not both")
    version = FLAGS.version_label if FLAGS.model_version is None else FLAGS.model_version
    options = Options(connection_from_flags())
    with Client(FLAGS.target, FLAGS.model_name, version, FLAGS.timeout_seconds, options) as client:
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

"""Sends broken Predict requests to a model server and counts what it answers.

    python -m tools.fuzz_serving --model_base_path=runs/NAME/export --requests=10000

Every answer must be OK, INVALID_ARGUMENT or NOT_FOUND within the deadline, a refusal of one broken input must name it, and the server must
give a whole request the same scores before and after. Exit code 1 where that is not so. The server runs in this process, or is --target's.
"""

from __future__ import annotations

import collections
import contextlib
import random
from collections.abc import Iterator, Sequence
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np
from absl import flags
from tensorflow_serving.apis import predict_pb2

from cvr.errors import CvrError, run_main
from cvr.schema import load_spec
from export import tensors
from export.example import example_search
from export.extras import EXTRA
from export.prediction_log import predict_request
from export.request import to_arrays
from export.servable import Servable
from export.server import Server, load_models
from export.signatures import EXAMPLES
from tools.fuzz_requests import Request, broken

FLAGS = flags.FLAGS
METHOD = "/tensorflow.serving.PredictionService/Predict"
ALLOWED = ("OK", "INVALID_ARGUMENT", "NOT_FOUND")
_THREADS = 4


def whole_requests(servable: Servable, name: str) -> list[Request]:
    """A request that is answered, for each signature and several lengths."""
    spec = load_spec(servable.folder / EXTRA / "spec.yaml")
    requests = []
    for items in (1, 3, 20):
        raw = to_arrays(example_search(spec, items, seed=items, gaps=0.1), servable.inputs("preprocess"))
        calls = {"serving_default": raw, "preprocess": raw, "score": servable.run("preprocess", raw)}
        requests += [predict_request(inputs, signature, name) for signature, inputs in calls.items()]
    return [*requests, predict_request({EXAMPLES: np.array([b"no record"], object)}, "score_lists", name)]


class Fuzzer:
    """Sends requests over a channel and keeps count of the answers, by status, and of those that are wrong."""

    def __init__(self, channel: grpc.Channel, whole: Sequence[Request], timeout: float = 30.0) -> None:
        self._call, self._whole, self._timeout = channel.unary_unary(METHOD), whole, timeout
        self.answers: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []

    def run(self, count: int, seed: int) -> None:
        """Sends `count` broken requests, between two whole ones whose scores must be the same."""
        source = random.Random(seed)
        before = self._scores()
        with futures.ThreadPoolExecutor(_THREADS) as pool:
            for _ in pool.map(lambda made: self.send(*made), (broken(source, self._whole) for _ in range(count))):
                pass
        if not np.array_equal(before, self._scores()):
            self.wrong.append("a whole request gets other scores than before")

    def send(self, data: bytes, name: str) -> None:
        """Sends a request as it is; `name` is its one broken input, or empty."""
        code, message = "OK", ""
        try:
            self._call(data, timeout=self._timeout)
        except grpc.RpcError as error:
            code, message = error.code().name, error.details() or ""
        self.answers[code] += 1
        if code not in ALLOWED or (code == "INVALID_ARGUMENT" and name not in message):
            self.wrong.append(f"{code} for broken input {name!r}: {message[:300]}")

    def _scores(self) -> np.ndarray:
        answer = predict_pb2.PredictResponse.FromString(self._call(self._whole[0].SerializeToString(), timeout=self._timeout))
        return tensors.decode_any(answer.outputs["score"])


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("model_base_path", None, "Folder of the model's versions.", required=True)
    flags.DEFINE_string("target", None, "host:port of a server of the same model; one in this process if not given.")
    flags.DEFINE_string("model_name", "cvr", "The model's name in requests.")
    flags.DEFINE_integer("requests", 10_000, "Broken requests to send.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Seed of the faults.")


@contextlib.contextmanager
def _target() -> Iterator[tuple[str, Servable]]:
    models = load_models(FLAGS.model_base_path, FLAGS.model_name)
    servable = models.served()[models.versions[-1]]
    if FLAGS.target:
        yield FLAGS.target, servable
        return
    server = Server(models)
    server.start()
    try:
        yield f"127.0.0.1:{server.port}", servable
    finally:
        server.stop(0.0)


def main(argv: Sequence[str]) -> int:
    """Sends the requests and prints how often each status came."""
    del argv
    if not Path(FLAGS.model_base_path).is_dir():
        raise CvrError(f"--model_base_path={FLAGS.model_base_path} is no folder; export a model first: python -m export.save")
    with _target() as (target, servable), grpc.insecure_channel(target) as channel:
        fuzzer = Fuzzer(channel, whole_requests(servable, FLAGS.model_name))
        fuzzer.run(FLAGS.requests, FLAGS.seed)
    print(f"{FLAGS.requests} broken requests: " + ", ".join(f"{count} {code}" for code, count in fuzzer.answers.most_common()))
    print(f"{len(fuzzer.wrong)} wrong answers" + "".join(f"\n  {line}" for line in fuzzer.wrong[:20]))
    return 1 if fuzzer.wrong else 0


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()

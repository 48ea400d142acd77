"""Log replay: are the scores that were served those that the model gives offline for the same requests?

    python -m export.replay --log=FILE --export=runs/NAME/export        against the versions that answered, in this process
    python -m export.replay --log=FILE --target=localhost:8500          against a server, each request at the version that answered it

The log is a TFRecord file of PredictionLog records with responses: what TF Serving's request logging and `export.prediction_log.LogWriter`
write. Prints the largest differences by request and by what the requests' inputs were like (a feature present, missing or unseen), and
ends with exit code 1 where an output differs by more than --tolerance, is missing, or a request is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import flags
from tensorflow_serving.apis import predict_pb2

from cvr.errors import CvrError, run_main
from export import tensors
from export.client import Client
from export.differences import Replayed, by_input, compare, summary, table
from export.prediction_log import Call, read_log
from export.selfcheck import TOLERANCE
from export.servable import DEFAULT_SIGNATURE, Servable
from export.versions import MODEL_FILE, RETIRED, newest, published

FLAGS = flags.FLAGS
Answer = Callable[[predict_pb2.PredictRequest, int], Mapping[str, np.ndarray]]
"""(request, version that answered it, 0 if unknown) -> outputs."""


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("log", None, "TFRecord file of PredictionLog records with responses.", required=True)
    flags.DEFINE_string("export", None, "Base folder of versions, or the version folder that answered.")
    flags.DEFINE_string("target", None, "host:port of a server to ask instead.")
    flags.DEFINE_string("model_name", "cvr", "The model's name on the server.")
    flags.DEFINE_float("tolerance", TOLERANCE, "Largest difference, relative above 1, of an output that passes.", lower_bound=0.0)
    flags.DEFINE_string("output", None, "JSON file for the report.")


def offline(path: str) -> Answer:
    """Answers by versions in this process, those in use and those retired. Raises CvrError naming a version that is not there."""
    single = Path(path) if (Path(path) / MODEL_FILE).is_file() else None
    folders = {**published(Path(path) / RETIRED), **published(Path(path))}
    loaded: dict[Path, Servable] = {}

    def answer(request: predict_pb2.PredictRequest, version: int) -> Mapping[str, np.ndarray]:
        folder = single or (folders.get(version) if version else newest(path))
        if folder is None or (single and version and single.name.isdecimal() and int(single.name) != version):
            raise _MissingVersionError(f"version {version} answered, and is not in --export={path}; give the folder that has it")
        if folder not in loaded:
            loaded[folder] = Servable(folder)
        return loaded[folder].run_protos(request.model_spec.signature_name or DEFAULT_SIGNATURE, request.inputs)

    return answer


def at_server(client: Client) -> Answer:
    """Answers by a server."""

    def answer(request: predict_pb2.PredictRequest, version: int) -> Mapping[str, np.ndarray]:
        arrays = {name: tensors.decode_any(proto) for name, proto in request.inputs.items()}
        return client.predict(arrays, request.model_spec.signature_name or DEFAULT_SIGNATURE)

    return answer


class _MissingVersionError(CvrError):
    """The log names a version that cannot be asked; no difference of one request, but the wrong folder."""


def replay(calls: Sequence[Call], answer: Answer) -> list[Replayed]:
    """Every call asked again. Raises CvrError where the log has no response."""
    found = []
    for number, (request, response) in enumerate(calls):
        if response is None:
            raise CvrError(f"record {number} of the log has no response; log answers too, or give another file")
        version = response.model_spec.version.value
        try:
            found.append(compare(number, request, response, answer(request, version)))
        except _MissingVersionError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever refuses a request that was answered is what is looked for
            found.append(Replayed(number, request, {}, f"{type(error).__name__}: {str(error).splitlines()[0]}"))
    return found


def main(argv: Sequence[str]) -> int:
    """Replays the log; exit code 1 beyond the tolerance."""
    del argv
    if (FLAGS.export is None) == (FLAGS.target is None):
        raise CvrError("give one of --export=DIR or --target=HOST:PORT")
    calls = list(read_log(FLAGS.log))
    if not calls:
        raise CvrError(f"{FLAGS.log} holds no request")
    if FLAGS.export:
        found = replay(calls, offline(FLAGS.export))
    else:
        versions = {call.response.model_spec.version.value for call in calls if call.response}
        if len(versions) > 1:
            raise CvrError(f"versions {sorted(versions)} answered; replay their logs one by one, or give --export")
        with Client(FLAGS.target, FLAGS.model_name, versions.pop() or None, timeout=60.0) as client:
            found = replay(calls, at_server(client))
    groups = by_input(found, FLAGS.tolerance)
    print(table(found, groups, FLAGS.tolerance))
    if FLAGS.output:
        Path(FLAGS.output).write_text(json.dumps(summary(found, groups, FLAGS.tolerance), indent=1) + "\n", encoding="utf-8")
    return 0 if all(entry.largest <= FLAGS.tolerance for entry in found) else 1


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()

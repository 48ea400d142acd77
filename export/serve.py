"""A local model server that speaks TF Serving's gRPC protocol (docs/serving.md).

    python -m export.serve --model_base_path=runs/NAME/export --port=8500

Serves the newest version under the base path through PredictionService (Predict, GetModelMetadata) and ModelService (GetModelStatus).
For development, tests and small deployments; the same folder runs in tensorflow_model_server.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence

from absl import flags

from cvr.errors import run_main
from export.server import Server, load_models

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("model_base_path", None, "Folder of version folders, or one version folder.", required=True)
    flags.DEFINE_string("model_name", "cvr", "The model's name in requests.")
    flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; 0.0.0.0 for all interfaces. There is no authentication.")
    flags.DEFINE_integer("port", 8500, "Port to listen on; 0 takes a free one.", lower_bound=0, upper_bound=65535)
    flags.DEFINE_integer("max_workers", 16, "Requests handled at a time.", lower_bound=1)
    flags.DEFINE_float("grace_seconds", 5.0, "How long running requests may take to end after SIGTERM or Ctrl-C.")
    flags.DEFINE_integer("max_message_mb", 64, "Largest request or answer, in MiB.", lower_bound=1, upper_bound=2000)


def main(argv: Sequence[str]) -> int:
    """Serves until SIGTERM or Ctrl-C; both end it in order, with exit code 0."""
    del argv
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    address = f"{FLAGS.host}:{FLAGS.port}"
    models = load_models(FLAGS.model_base_path, FLAGS.model_name)
    server = Server(models, address, FLAGS.max_workers, FLAGS.max_message_mb)
    server.start()
    print(f"serving model {FLAGS.model_name!r} version {models.versions[-1]} on {FLAGS.host}:{server.port} (Ctrl-C ends it)", flush=True)
    while not stopped.wait(1.0):
        pass
    print("stopping: waiting for running requests", flush=True)
    server.stop(FLAGS.grace_seconds)
    return 0


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()

"""A model server that speaks TF Serving's gRPC protocol (docs/serving.md).

    python -m export.serve --model_base_path=runs/NAME/export --port=8500

Serves the newest version under the base path, goes over to a newer one once it is loaded, warm and checked, and goes back when that one
disappears. For development, tests and small deployments; the same folder runs in tensorflow_model_server.
"""

from __future__ import annotations

import functools
import signal
import threading
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from cvr.errors import CvrError, run_main
from export.admission import Capacity
from export.credentials import server_credentials
from export.loading import load_version
from export.memory import share_interpreter
from export.models import Models
from export.server import Server, Watching
from export.source import Source

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("model_base_path", None, "Folder of version folders, or one version folder.")
    flags.DEFINE_string("model_config_file", None, "TF Serving's models.config with one model, in place of --model_base_path.")
    flags.DEFINE_string("model_name", "cvr", "The model's name in requests.")
    flags.DEFINE_float("file_system_poll_seconds", 1.0, "How often to look for versions; 0: only at the start.", lower_bound=0.0)
    flags.DEFINE_list("reload_base_paths", [], "Folders under which a HandleReloadConfigRequest may choose a base path.")
    flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; 0.0.0.0 for all interfaces. Without --client_ca anyone may ask.")
    flags.DEFINE_integer("port", 8500, "Port to listen on; 0 takes a free one.", lower_bound=0, upper_bound=65535)
    flags.DEFINE_integer("metrics_port", None, "Port of http://HOST:PORT/metrics; none if not given.", lower_bound=0, upper_bound=65535)
    flags.DEFINE_string("tls_cert", None, "PEM file of the server's certificate chain.")
    flags.DEFINE_string("tls_key", None, "PEM file of its private key.")
    flags.DEFINE_string("client_ca", None, "PEM file of the authority whose clients are let in; others are not.")
    flags.DEFINE_integer("max_workers", 16, "Requests computed at a time.", lower_bound=1)
    flags.DEFINE_integer("max_in_flight", 128, "Requests computed or waiting; others are refused at once.", lower_bound=1)
    flags.DEFINE_integer("max_message_mb", 64, "Largest request or answer, in MiB.", lower_bound=1, upper_bound=2000)
    flags.DEFINE_integer("intra_op_threads", 0, "Threads within an operation; 0: one per core.", lower_bound=0)
    flags.DEFINE_integer("inter_op_threads", 0, "Operations computed at a time; 0: one per core.", lower_bound=0)
    flags.DEFINE_float("drain_seconds", 1.0, "At the end: how long health says NOT_SERVING before requests are refused.", lower_bound=0.0)
    flags.DEFINE_float("grace_seconds", 5.0, "How long running requests may take to end after that.", lower_bound=0.0)


def main(argv: Sequence[str]) -> int:
    """Serves until SIGTERM or Ctrl-C; both end it in order, with exit code 0."""
    del argv
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    share_interpreter()
    server = _server()
    server.start()
    if FLAGS.metrics_port is not None:
        print(f"metrics on http://{FLAGS.host}:{server.metrics.serve(FLAGS.host, FLAGS.metrics_port)}/metrics", flush=True)
    versions = ", ".join(map(str, server.models.versions))
    print(f"serving model {FLAGS.model_name!r} version {versions} on {FLAGS.host}:{server.port} (Ctrl-C ends it)", flush=True)
    while not stopped.wait(1.0):
        pass
    print("stopping: waiting for running requests", flush=True)
    server.stop(FLAGS.grace_seconds, FLAGS.drain_seconds)
    return 0


def _server() -> Server:
    if bool(FLAGS.model_base_path) == bool(FLAGS.model_config_file):
        raise CvrError("give one of --model_base_path=DIR and --model_config_file=FILE")
    named = FLAGS.model_config_file
    source = Source.from_file(named, FLAGS.model_name) if named else Source(Path(FLAGS.model_base_path))
    load = functools.partial(load_version, intra_op=FLAGS.intra_op_threads, inter_op=FLAGS.inter_op_threads)
    watching = Watching(source, load, FLAGS.file_system_poll_seconds, tuple(map(Path, FLAGS.reload_base_paths)))
    capacity = Capacity(FLAGS.max_workers, FLAGS.max_in_flight, FLAGS.max_message_mb)
    credentials = server_credentials(FLAGS.tls_cert, FLAGS.tls_key, FLAGS.client_ca)
    return Server(Models(FLAGS.model_name), f"{FLAGS.host}:{FLAGS.port}", capacity, credentials, watching)


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()

"""A copy of an exported version with other batching: the attributes of the BatchFunction in its graph are edited, nothing else.

    python -m tools.serving.rebatch --export=DIR --output=OTHER --batch_timeout_ms=5 --allowed_batch_sizes=32,128,512

Weights and functions stay the same bytes, so scores do. Each copy's queue gets a name of its own: queues of one name are one queue within
a process, whichever version they came from. `--max_request_items` is part of the traced graph and needs a new export.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from tensorflow.core.protobuf import saved_model_pb2

from cvr.errors import CvrError, run_main
from export.batching import Batching
from export.extras import EXTRA, about
from export.extras import MODEL_FILE as ABOUT_FILE
from export.versions import MODEL_FILE, choose_version, newest, publish

FLAGS = flags.FLAGS
FINGERPRINT = "fingerprint.pb"


def batching_of(folder: Path) -> Batching:
    """The batching of an exported version. Raises CvrError where export.save did not write it."""
    stored = about(folder)["batching"]
    return Batching(**{**stored, "allowed_sizes": tuple(stored["allowed_sizes"])})


def rebatch(folder: Path, base: Path, version: int, batching: Batching) -> Path:
    """Publishes a copy of a version folder as `<base>/<version>` with other batching; gives the new folder.

    Raises CvrError where the graph holds no BatchFunction, where `max_request_items` would change, and as `export.versions.publish`.
    """
    before = batching_of(folder)
    if batching.max_request_items != before.max_request_items:
        raise CvrError(f"{folder} takes {before.max_request_items} items a request, which only a new export changes: export.save")

    def write(target: Path) -> None:
        shutil.copytree(folder, target)
        # It is a checksum of the graph before; TensorFlow does without one.
        (target / FINGERPRINT).unlink(missing_ok=True)
        model = saved_model_pb2.SavedModel.FromString((target / MODEL_FILE).read_bytes())
        edit(model, batching, folder)
        (target / MODEL_FILE).write_bytes(model.SerializeToString(deterministic=True))
        described = {**about(target), "version": version, "batching": dataclasses.asdict(batching)}
        (target / EXTRA / ABOUT_FILE).write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")

    return publish(base, version, write)


def edit(model: saved_model_pb2.SavedModel, batching: Batching, folder: Path) -> None:
    """Sets the batching of every BatchFunction. Raises CvrError where there is none."""
    found = list(batch_functions(model))
    if not found:
        raise CvrError(f"{folder}/{MODEL_FILE} holds no BatchFunction; only models of export.save can be batched anew")
    for node in found:
        node.attr["batch_timeout_micros"].i = int(1000 * batching.timeout_ms)
        node.attr["allowed_batch_sizes"].list.i[:] = batching.allowed_sizes
        node.attr["num_batch_threads"].i = batching.threads
        node.attr["max_enqueued_batches"].i = batching.max_enqueued
        node.attr["shared_name"].s = f"cvr_{uuid.uuid4().hex}".encode()


def batch_functions(model: saved_model_pb2.SavedModel) -> Iterator[Any]:
    """The nodes of a SavedModel that merge requests."""
    for graph in model.meta_graphs:
        for nodes in (graph.graph_def.node, *(function.node_def for function in graph.graph_def.library.function)):
            yield from (node for node in nodes if node.op == "BatchFunction")


def define_batching_flags() -> None:
    """The flags of `batching_of_flags`."""
    flags.DEFINE_list("allowed_batch_sizes", None, "Rows a batch is padded up to; the last is the largest.")
    flags.DEFINE_float("batch_timeout_ms", None, "How long an unfilled batch waits for more rows.")
    flags.DEFINE_integer("batch_threads", None, "Batches computed at a time.")
    flags.DEFINE_integer("max_enqueued_batches", None, "Batches that may wait before requests are refused.")


def batching_of_flags(before: Batching) -> Batching:
    """A batching with what the flags give in place of its own. Raises CvrError."""
    given = {
        "allowed_sizes": None if FLAGS.allowed_batch_sizes is None else sizes_of(FLAGS.allowed_batch_sizes),
        "timeout_ms": FLAGS.batch_timeout_ms,
        "threads": FLAGS.batch_threads,
        "max_enqueued": FLAGS.max_enqueued_batches,
    }
    return dataclasses.replace(before, **{name: value for name, value in given.items() if value is not None})


def define_flags() -> None:
    """The command's flags; batching that is not given stays as it is."""
    flags.DEFINE_string("export", None, "Base folder of versions (the newest is copied) or a version folder.", required=True)
    flags.DEFINE_string("output", None, "Base folder for the copy.", required=True)
    flags.DEFINE_string("version", None, "Its version; the highest one there plus 1 if not given.")
    define_batching_flags()


def sizes_of(texts: Sequence[str]) -> tuple[int, ...]:
    """Whole numbers of --allowed_batch_sizes. Raises CvrError."""
    try:
        return tuple(int(text) for text in texts)
    except ValueError as error:
        raise CvrError(f"--allowed_batch_sizes={','.join(texts)} must be whole numbers, such as 32,128,512") from error


def main(argv: Sequence[str]) -> int:
    """Copies a version and says where it is."""
    del argv
    folder, base = newest(FLAGS.export), Path(FLAGS.output)
    chosen = batching_of_flags(batching_of(folder))
    made = rebatch(folder, base, choose_version(base, FLAGS.version), chosen)
    print(f"{made}: {chosen}")
    return 0


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()

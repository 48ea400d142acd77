"""Exports a trained run as a SavedModel version that TF Serving and `export.serve` load (docs/serving.md).

    python -m export.save --run=runs/NAME --output=runs/NAME/export --lists=runs/NAME/lists

Signatures: `preprocess`, `score`, `serving_default`, `score_lists`, `limits`. The version is written hidden, held against the checkpoint
(the parity gate) and appears whole, by one rename, if it passes; a version that exists is never changed. Beside the model, assets.extra/
holds what `export.extras` names, and the base folder gets configuration for tensorflow_model_server.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from cvr.errors import CvrError, run_main
from cvr.ranker import Ranker
from cvr.runs import Run, load_ranker
from cvr.scoring import score_split
from export.batching import Batching
from export.extras import EXAMPLE_FILE, EXTRA
from export.gate import Gate, stated_tolerance
from export.inputs import request_inputs
from export.lists import read_lists
from export.quantisation import compare_scores, table
from export.saved_model import Release, run_folder, save_version
from export.storage import TABLE_TYPES, TYPES, Storage, convert, stored_bytes
from export.tf_serving import configs, write_configs
from export.versions import choose_version

FLAGS = flags.FLAGS
_BATCH_ITEMS = 8_192


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("run", None, "Folder of a finished run (runs/NAME, or the folder that cvr.train wrote).", required=True)
    flags.DEFINE_string("output", None, "Base folder of the model's versions.", required=True)
    flags.DEFINE_string("version", None, "Version number; the highest one there plus 1 if not given.")
    flags.DEFINE_string("model_name", "cvr", "The model's name in the configuration for tensorflow_model_server.")
    flags.DEFINE_list("allowed_batch_sizes", ["32", "128", "512"], "Rows a batch is padded up to; the last is the largest.")
    flags.DEFINE_float("batch_timeout_ms", 0.0, "How long an unfilled batch waits for more rows.")
    flags.DEFINE_integer("batch_threads", 2, "Batches computed at a time.")
    flags.DEFINE_integer("max_enqueued_batches", 128, "Batches that may wait before requests are refused.")
    flags.DEFINE_integer("max_request_items", 2_000, "Most items in one request.")
    flags.DEFINE_enum("tables", "cpu", ["cpu", "gpu"], "Where embedding tables lie and ids become vectors.")
    flags.DEFINE_enum("weights", "float32", TYPES, "Type in which dense weights are stored and computed with.")
    flags.DEFINE_enum("table_storage", "float32", TABLE_TYPES, "Type in which embedding tables are stored.")
    _define_gate_flags()


def _define_gate_flags() -> None:
    lists = "Folder of list records for the parity gate, the warm-up requests' lengths and the report of rounded weights."
    flags.DEFINE_string("lists", None, lists)
    flags.DEFINE_string("split", "validation", "Split of --lists.")
    flags.DEFINE_integer("num_lists", 64, "How many of its lists the gate compares.", lower_bound=1)
    flags.DEFINE_integer("num_requests", 16, "How many made-up raw requests the gate compares.", lower_bound=1)
    tolerance = "Largest difference, relative above 1, of a logit that passes: 1e-5, and to be stated where weights are rounded."
    flags.DEFINE_float("tolerance", None, tolerance, lower_bound=0.0)
    flags.DEFINE_bool("skip_parity", False, "Publishes without the parity gate; model.json says so.")


def _batching() -> Batching:
    try:
        sizes = tuple(int(size) for size in FLAGS.allowed_batch_sizes)
    except ValueError as error:
        raise CvrError(f"--allowed_batch_sizes={','.join(FLAGS.allowed_batch_sizes)} must be whole numbers, such as 32,128,512") from error
    return Batching(sizes, FLAGS.batch_timeout_ms, FLAGS.batch_threads, FLAGS.max_enqueued_batches, FLAGS.max_request_items)


def _converted(ranker: Ranker, storage: Storage) -> tuple[Ranker, dict[str, Any] | None]:
    """The ranker with rounded weights and the report of what that does; the ranker itself and None where nothing is rounded."""
    if storage.exact:
        return ranker, None
    stored, run = load_ranker(run_folder(FLAGS.run), storage.precision)
    convert(stored, storage)
    result: dict[str, Any] = {
        "storage": {"tables": storage.tables, "weights": storage.weights},
        "bytes": {"before": stored_bytes(ranker), "after": stored_bytes(stored)},
    }
    if FLAGS.lists:
        before, after = (score_split(model, run.spec, FLAGS.lists, FLAGS.split, _BATCH_ITEMS)[0] for model in (ranker, stored))
        tasks = compare_scores(before, after, run.spec.task_names)
        result |= {"split": FLAGS.split, "lists": len(before.lengths), "tasks": tasks}
    return stored, result


def _release(run: Run, ranker: Ranker, storage: Storage, quantisation: dict[str, Any] | None) -> Release:
    lists = read_lists(FLAGS.lists, FLAGS.split, FLAGS.num_lists, run.spec).records if FLAGS.lists else []
    if FLAGS.skip_parity:
        return Release(lists, FLAGS.tables, storage, quantisation)
    gate = Gate(run, ranker, lists, FLAGS.num_requests, stated_tolerance(storage, FLAGS.tolerance), storage)
    return Release(lists, FLAGS.tables, storage, quantisation, gate.require)


def main(argv: Sequence[str]) -> int:
    """Loads the run, exports it and says where it is and how to serve it."""
    del argv
    batching, base, storage = _batching(), Path(FLAGS.output), Storage(FLAGS.weights, FLAGS.table_storage)
    configs(FLAGS.model_name)
    if not FLAGS.skip_parity:
        stated_tolerance(storage, FLAGS.tolerance)
    if not storage.exact and not FLAGS.lists:
        raise CvrError("weights that are rounded need --lists=DIR: the export reports what they do to logits and mAP on --split")
    version = choose_version(base, FLAGS.version)
    ranker, run = load_ranker(run_folder(FLAGS.run))
    stored, quantisation = _converted(ranker, storage)
    if quantisation is not None:
        print(table(quantisation), flush=True)
    folder = save_version(run, stored, base, version, batching, _release(run, ranker, storage, quantisation))
    _say(run, base, folder)
    return 0


def _say(run: Run, base: Path, folder: Path) -> None:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    inputs = len(request_inputs(run.spec))
    print(f"version {folder.name} of {run.spec.dataset}: {folder} ({size / 1e6:.1f} MB, {inputs} inputs)")
    if FLAGS.skip_parity:
        print("not compared with the checkpoint (--skip_parity)")
    written = write_configs(base, FLAGS.model_name)
    if written:
        print(f"for tensorflow_model_server: {', '.join(written)} in {base}")
    print(f"check it:  python -m export.parity --run={FLAGS.run} --export={base} --lists={FLAGS.lists or 'LISTS'}")
    print(f"serve it:  python -m export.serve --model_base_path={base} --port=8500")
    print(f"ask it:    python -m export.client --target=localhost:8500 --request={folder / EXTRA / EXAMPLE_FILE}")


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()

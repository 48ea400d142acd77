"""Exports a trained run as a SavedModel version that TF Serving and `export.serve` load (docs/serving.md).

    python -m export.save --run=runs/NAME --output=runs/NAME/export

Signatures: `preprocess`, `score`, `serving_default`, `score_lists`. The version folder appears whole, by one rename; a version that exists
is never changed. Beside the model, assets.extra/ holds spec.yaml, model.json (what it is, inputs and outputs) and example_request.json.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from cvr.errors import CvrError, run_main
from cvr.runs import load_ranker
from export.batching import Batching
from export.extras import EXAMPLE_FILE, EXTRA
from export.inputs import request_inputs
from export.saved_model import run_folder, save_version
from export.versions import choose_version

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("run", None, "Folder of a finished run (runs/NAME, or the folder that cvr.train wrote).", required=True)
    flags.DEFINE_string("output", None, "Base folder of the model's versions.", required=True)
    flags.DEFINE_string("version", None, "Version number; the highest one there plus 1 if not given.")
    flags.DEFINE_list("allowed_batch_sizes", ["32", "128", "512"], "Rows a batch is padded up to; the last is the largest.")
    flags.DEFINE_float("batch_timeout_ms", 0.0, "How long an unfilled batch waits for more rows.")
    flags.DEFINE_integer("batch_threads", 2, "Batches computed at a time.")
    flags.DEFINE_integer("max_enqueued_batches", 128, "Batches that may wait before requests are refused.")
    flags.DEFINE_integer("max_request_items", 2_000, "Most items in one request.")


def _batching() -> Batching:
    try:
        sizes = tuple(int(size) for size in FLAGS.allowed_batch_sizes)
    except ValueError as error:
        raise CvrError(f"--allowed_batch_sizes={','.join(FLAGS.allowed_batch_sizes)} must be whole numbers, such as 32,128,512") from error
    return Batching(sizes, FLAGS.batch_timeout_ms, FLAGS.batch_threads, FLAGS.max_enqueued_batches, FLAGS.max_request_items)


def main(argv: Sequence[str]) -> int:
    """Loads the run, exports it and says where it is and how to serve it."""
    del argv
    batching, base = _batching(), Path(FLAGS.output)
    version = choose_version(base, FLAGS.version)
    ranker, run = load_ranker(run_folder(FLAGS.run))
    folder = save_version(run, ranker, base, version, batching)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"version {version} of {run.spec.dataset}: {folder} ({size / 1e6:.1f} MB, {len(request_inputs(run.spec))} inputs)")
    print(f"check it:  python -m export.parity --run={FLAGS.run} --export={base} --lists=LISTS")
    print(f"serve it:  python -m export.serve --model_base_path={base} --port=8500")
    print(f"ask it:    python -m export.client --target=localhost:8500 --request={folder / EXTRA / EXAMPLE_FILE}")
    return 0


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()

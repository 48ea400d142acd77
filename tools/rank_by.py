"""Ranks lists by one feature of their items: a baseline for `tools.compare`.

python -m tools.rank_by --feature=last_touched --lists=<folder> --split=test --output=<folder>

The greatest value comes first (`--smallest`: the smallest), missing ones last, equal ones in display order. Writes what `cvr.evaluate`
writes, by the same code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import flags

from cvr.data import Batch, Budget, split_files
from cvr.errors import CvrError, run_main
from cvr.evaluate import publish
from cvr.extraction import Extraction
from cvr.manifest import Manifest, load_manifest
from cvr.preparation import choose_spec
from cvr.reports import table
from cvr.schema import FeatureSpec
from cvr.scoring import ScoredLists, score_files

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("feature", None, "Numerical item feature to rank by, stored or derived.", required=True)
    flags.DEFINE_bool("smallest", False, "The smallest value first.")
    flags.DEFINE_string("lists", None, "Folder of list records.", required=True)
    flags.DEFINE_string("output", None, "Folder for the results; must not hold a finished evaluation.", required=True)
    flags.DEFINE_string("spec", None, "Feature spec; by default the one the lists were built with. Derived features may differ.")
    flags.DEFINE_string("split", "test", "Split to evaluate.")
    flags.DEFINE_integer("batch_items", 4096, "Items that are read at once.", lower_bound=1)
    flags.DEFINE_integer("bootstrap", 1000, "Bootstrap replicates of the intervals.", lower_bound=10)


def column_of(spec: FeatureSpec, name: str) -> int:
    """Place of a feature among the raw item numericals. Raises CvrError for one that cannot be ranked by."""
    names = [f.name for stored in (True, False) for f in spec.select("numerical", "item", stored)]
    if name not in names:
        raise CvrError(f"--feature={name}: no numerical item feature of the spec; there are {', '.join(names)}")
    return names.index(name)


def order(values: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Values and display positions `[N]` -> scores: higher for a greater value, then for a smaller position; no number counts least."""
    known = np.isfinite(values)
    keys = np.stack([-known.astype(np.float64), -np.where(known, values, 0.0), position.astype(np.float64)], axis=1)
    return -np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1).astype(np.float64)


def score(manifest: Manifest, spec: FeatureSpec) -> ScoredLists:
    """The lists of --split, every task with the feature's scores."""
    place, extraction = column_of(spec, FLAGS.feature), Extraction(spec)

    @tf.function(autograph=False, reduce_retracing=True)
    def values(batch: Batch) -> tf.Tensor:
        return extraction.raw_numericals(batch, "item")[:, place]

    budget = Budget.for_manifest(manifest, [FLAGS.split], max(FLAGS.batch_items, manifest.split(FLAGS.split).max_list_size))
    found = score_files(values, spec, split_files(FLAGS.lists, manifest, [FLAGS.split]), budget)
    ranked = order(-found.scores if FLAGS.smallest else found.scores, found.position)
    return dataclasses.replace(found, scores=np.repeat(ranked[:, None], len(spec.task_names), axis=1))


def main(argv: Sequence[str]) -> int:
    """Ranks, and publishes the evaluation."""
    del argv
    output = Path(FLAGS.output)
    if (output / "summary.json").is_file():
        raise CvrError(f"--output={output} already holds an evaluation; choose another folder or remove it")
    manifest = load_manifest(FLAGS.lists)
    spec = choose_spec(manifest, FLAGS.spec)[0]
    scored = score(manifest, spec)
    about = {
        "run": str(output),
        "model": f"ranked by {'the smallest' if FLAGS.smallest else 'the greatest'} {FLAGS.feature}",
        "split": FLAGS.split,
        "lists": len(scored.lengths),
        "items": len(scored.item),
        "data": manifest.data_fingerprint(),
    }
    summaries = publish(output, scored, about, spec.task_names, FLAGS.bootstrap)
    print(f"{table(summaries)}\nwritten to {output}")
    return 0


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()

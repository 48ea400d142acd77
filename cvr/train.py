"""Trains a ranker: `python -m cvr.train --flagfile=configs/<model>.flags --lists=<folder> --output=<folder>`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf
from absl import flags

from cvr import runs, statistics, train_flags
from cvr.data import Budget, dummy_batch, split_files
from cvr.errors import CvrError, run_main
from cvr.flops import cost_of
from cvr.loop import Trainer
from cvr.manifest import Manifest, load_manifest
from cvr.ranker import Ranker, build_ranker
from cvr.schema import FeatureSpec, load_spec
from cvr.settings import TrainingData

FLAGS = flags.FLAGS


def choose_spec(manifest: Manifest) -> tuple[FeatureSpec, str]:
    """(spec, its text): the one that --spec names, else the lists' own. Raises CvrError when the records do not fit it."""
    if not FLAGS.spec:
        return manifest.spec(), manifest.spec_text
    spec = load_spec(FLAGS.spec)
    if spec.fingerprint != manifest.spec_fingerprint:
        raise CvrError(
            f"--spec={FLAGS.spec} stores other features than the lists in {FLAGS.lists} hold; rebuild the lists with it, "
            "or change only model-side settings (embeddings, transforms, encoders, derived features)"
        )
    return spec, Path(FLAGS.spec).read_text(encoding="utf-8")


def load_data(manifest: Manifest) -> TrainingData:
    """Files and batch sizes of the splits that the flags name."""
    splits = FLAGS.train_splits
    chosen = [manifest.split(name) for name in splits]
    budget = Budget.for_manifest(manifest, splits, FLAGS.batch_items)
    validation = [FLAGS.validation_split] if FLAGS.validation_split else []
    return TrainingData(
        train=split_files(FLAGS.lists, manifest, splits),
        validation=split_files(FLAGS.lists, manifest, validation),
        budget=budget,
        validation_budget=Budget.for_manifest(manifest, validation, FLAGS.batch_items) if validation else budget,
        items=sum(split.items for split in chosen),
        lists=sum(split.lists for split in chosen),
        max_list_size=max(split.max_list_size for split in chosen),
    )


def check_tasks(spec: FeatureSpec, manifest: Manifest) -> None:
    """Raises CvrError for a task without any positive in the training lists: its loss would be 0 for ever."""
    for task in spec.task_names:
        if not sum(manifest.split(name).labels.get(task, 0) for name in FLAGS.train_splits):
            raise CvrError(
                f"task {task!r} has no positive label in the splits {FLAGS.train_splits}; "
                "check its events and window in the spec, or remove the task"
            )


def prepare(spec: FeatureSpec, manifest: Manifest, data: TrainingData) -> Ranker:
    """A built ranker that knows the training splits' statistics."""
    ranker = build_ranker(spec, train_flags.ranker_config(), dummy_batch(spec))
    found = statistics.stored_statistics(spec, manifest, FLAGS.train_splits)
    found |= statistics.derived_statistics(ranker.extraction, data.train, data.budget)
    for layer in ranker.extraction.numericals.values():
        layer.set_statistics(found)
    for name, counts in statistics.row_counts(ranker.extraction, data.train, data.budget).items():
        ranker.extraction.shrunk_tables[name].set_counts(counts)
    return ranker


def set_up_tensorflow() -> None:
    """Threads and determinism as the flags say."""
    if FLAGS.threads:
        tf.config.threading.set_intra_op_parallelism_threads(FLAGS.threads)
        tf.config.threading.set_inter_op_parallelism_threads(FLAGS.threads)
    if FLAGS.deterministic:
        tf.config.experimental.enable_op_determinism()


def main(argv: Sequence[str], names: list[str]) -> int:
    """Builds, trains and reports; `names` are the job's flags."""
    del argv
    set_up_tensorflow()
    manifest = load_manifest(FLAGS.lists)
    spec, spec_text = choose_spec(manifest)
    check_tasks(spec, manifest)
    data = load_data(manifest)
    output = Path(FLAGS.output)
    if not FLAGS.dry_run:
        info = {
            "flags": train_flags.recorded(names),
            "versions": runs.versions(),
            "data": manifest.data_fingerprint(),
            "dataset": manifest.dataset,
            "spec_fingerprint": spec.fingerprint,
            "model": dataclasses.asdict(train_flags.ranker_config()),
            "tasks": list(spec.task_names),
            "primary_task": spec.primary_task,
            "lists": data.lists,
            "items": data.items,
        }
        runs.start_run(output, spec_text, info)
    ranker = prepare(spec, manifest, data)
    cost = cost_of(ranker)
    print(f"{FLAGS.backbone} on {data.lists:,} lists, {data.items:,} items\n{cost.describe()}", flush=True)
    if FLAGS.dry_run:
        return 0
    trainer = Trainer(ranker, data, train_flags.settings(), output)
    results = trainer.run()
    prefix = (trainer.state.best_prefix if FLAGS.keep_best else None) or trainer.state.latest_prefix
    assert prefix is not None  # each epoch ends with a checkpoint
    results["checkpoint"] = str(Path(prefix).relative_to(output))
    runs.finish_run(output, {**results, **dataclasses.asdict(cost)})
    print(f"trained {results['steps']} steps at {results['items_per_second_train']:,.0f} items/s; run in {output}")
    return 0


def entry() -> None:
    """Console entry point."""
    names = train_flags.define_flags()
    run_main(lambda argv: main(argv, names))


if __name__ == "__main__":
    entry()

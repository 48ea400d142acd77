"""Trains a ranker: `python -m cvr.train --flagfile=configs/<model>.flags --lists=<folder> --output=<folder>`."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from absl import flags

from cvr import runs, statistics, train_flags, warm_start
from cvr.data import Budget, batches, dummy_batch, split_files
from cvr.errors import CvrError, run_main
from cvr.flops import Cost, cost_of
from cvr.loop import Trainer
from cvr.losses import listwise_losses
from cvr.manifest import Manifest, load_manifest
from cvr.ranker import Ranker, build_ranker
from cvr.reading import iterate
from cvr.schema import FeatureSpec, load_spec
from cvr.settings import TrainingData
from cvr.stopping import Stopped

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
    """Raises CvrError for a task without any positive in the training lists, whose loss would be 0 for ever, and for a choice of the best
    epoch without lists that tell which one it is."""
    for task in spec.task_names:
        if not sum(manifest.split(name).labels.get(task, 0) for name in FLAGS.train_splits):
            raise CvrError(
                f"task {task!r} has no positive label in the splits {FLAGS.train_splits}; "
                "check its events and window in the spec, or remove the task"
            )
    if FLAGS.keep_best or FLAGS.patience:
        split, task = FLAGS.validation_split, spec.primary_task
        if not split or not manifest.split(split).labels.get(task, 0):
            raise CvrError(
                f"--keep_best and --patience go by the validation mAP of the primary task {task!r}, and --validation_split={split!r} "
                "has no list with a positive of it"
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
    if ranker.config.logit_bias:
        ranker.head.logit_bias.assign(first_biases(spec, manifest, data.items))
    return ranker


def first_biases(spec: FeatureSpec, manifest: Manifest, items: int) -> list[float]:
    """The bias of each task's logit that fits its share of positives in the training lists: a loss with a level starts there."""
    positives = [sum(manifest.split(name).labels.get(task, 0) for name in FLAGS.train_splits) for task in spec.task_names]
    return [train_flags.settings().objective.first_bias(count / items) for count in positives]


def set_up_tensorflow() -> None:
    """Threads and determinism as the flags say."""
    if FLAGS.threads:
        tf.config.threading.set_intra_op_parallelism_threads(FLAGS.threads)
        tf.config.threading.set_inter_op_parallelism_threads(FLAGS.threads)
    if FLAGS.deterministic:
        tf.config.experimental.enable_op_determinism()


def describe_run(names: list[str], spec: FeatureSpec, manifest: Manifest, data: TrainingData) -> dict[str, Any]:
    """What `run.json` says of a run from its start."""
    return {
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
        "last_training_time": max(manifest.split(name).last_time or 0 for name in FLAGS.train_splits) or None,
    }


def try_out(ranker: Ranker, data: TrainingData) -> str:
    """Reads the first batch and scores it: the losses of a model that has learned nothing. Raises CvrError on unreadable records."""
    dataset = batches(ranker.spec, data.train, data.budget)
    batch = next(iterate(dataset, ranker.spec, data.train))
    losses = listwise_losses(ranker(batch), batch, data.max_list_size, train_flags.settings().objective).numpy()
    items, lists = int(tf.reduce_sum(batch["list_size"])), int(tf.math.count_nonzero(batch["list_size"]))
    shown = " ".join(f"{task} {loss:.4f}" for task, loss in zip(ranker.task_names, losses, strict=True))
    return f"first batch      {items:,} of {data.budget.items:,} items in {lists:,} lists; loss {shown}"


def start_warm(ranker: Ranker, output: Path | None) -> None:
    """Loads what --warm_start_from has and prints the report of it, which is also written to the run's folder, if there is one."""
    base = warm_start.find_base(FLAGS.warm_start_from)
    outcomes = warm_start.warm_start(ranker, base)
    print(warm_start.summary(base, outcomes), flush=True)
    if output:
        warm_start.write_report(output, base, outcomes)


def train(ranker: Ranker, cost: Cost, data: TrainingData, output: Path) -> None:
    """Trains to the end and marks the run as finished."""
    forward = cost.flops_per_item + cost.flops_per_list * data.lists / data.items
    trainer = Trainer(ranker, data, train_flags.settings(), output, flops_per_item=3.0 * forward)  # backward: twice the forward products
    results = trainer.run((lambda: start_warm(ranker, output)) if FLAGS.warm_start_from else None)
    chosen = trainer.state.best_prefix if FLAGS.keep_best or FLAGS.patience else trainer.state.latest_prefix
    assert chosen is not None  # each epoch ends with a checkpoint, and check_tasks saw that validation has one to choose by
    results["checkpoint"] = str(Path(chosen).relative_to(output))
    runs.finish_run(output, {**results, **dataclasses.asdict(cost)})
    print(f"trained {results['steps']} steps at {results['items_per_second_train']:,.0f} items/s; run in {output}")


def main(argv: Sequence[str], names: list[str]) -> int:
    """Builds, trains and reports; `names` are the job's flags."""
    del argv
    set_up_tensorflow()
    manifest = load_manifest(FLAGS.lists)
    spec, spec_text = choose_spec(manifest)
    check_tasks(spec, manifest)
    data, output = load_data(manifest), Path(FLAGS.output)
    train_flags.settings()
    with contextlib.nullcontext() if FLAGS.dry_run else runs.alone_in(output):
        if not FLAGS.dry_run:
            info = describe_run(names, spec, manifest, data)
            if FLAGS.warm_start_from and not (output / runs.RUN_FILE).is_file():  # a run that goes on needs its base no more
                info["warm_start"] = warm_start.find_base(FLAGS.warm_start_from).describe()
            runs.start_run(output, spec_text, info, train_flags.FREE)
        ranker = prepare(spec, manifest, data)
        cost = cost_of(ranker)
        print(f"{FLAGS.backbone} on {data.lists:,} lists, {data.items:,} items\n{cost.describe()}", flush=True)
        if FLAGS.dry_run:
            if FLAGS.warm_start_from:
                start_warm(ranker, None)
            print(try_out(ranker, data))
            return 0
        try:
            train(ranker, cost, data, output)
        except Stopped as stopped:
            print(f"stopped by {stopped} and saved; the same command resumes at this step", file=sys.stderr)
            return stopped.exit_code
    return 0


def entry() -> None:
    """Console entry point."""
    names = train_flags.define_flags()
    run_main(lambda argv: main(argv, names))


if __name__ == "__main__":
    entry()

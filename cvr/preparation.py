"""What a training run needs before its first step, as the flags say: spec, data, and a ranker that knows the data's statistics."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf
import yaml
from absl import flags

from cvr import domains, statistics, train_flags
from cvr.data import Budget, batches, dummy_batch, split_files
from cvr.distillation import Teacher
from cvr.errors import CvrError
from cvr.losses import listwise_losses
from cvr.manifest import Manifest
from cvr.ranker import Ranker, RankerConfig, build_ranker
from cvr.reading import iterate
from cvr.schema import FeatureSpec, load_spec, parse_spec
from cvr.settings import TrainingData

FLAGS = flags.FLAGS


def choose_spec(manifest: Manifest, file: str | None, encoder: str | None = None) -> tuple[FeatureSpec, str]:
    """(spec, its text): the one in a file, else the lists' own, its histories read by an encoder (as in --encoder) where that is given.

    Raises CvrError when the records do not fit it.
    """
    spec, text = manifest.spec(), manifest.spec_text
    if file:
        spec, text = load_spec(file), Path(file).read_text(encoding="utf-8")
    if spec.fingerprint != manifest.spec_fingerprint:
        raise CvrError(
            f"--spec={file} stores other features than the lists in {FLAGS.lists} hold; rebuild the lists with it, "
            "or change only model-side settings (embeddings, transforms, encoders, derived features)"
        )
    if not encoder:
        return spec, text
    text = with_encoder(text, encoder)
    return parse_spec(text, f"--encoder={encoder}"), text


def with_encoder(text: str, encoder: str) -> str:
    """A spec's text with the `encoder` of every sequence replaced; comments are lost. Raises CvrError for a spec without a sequence."""
    content = yaml.safe_load(text)
    sequences = [feature for feature in content["features"].values() if feature["kind"] == "sequence"]
    if not sequences:
        raise CvrError(f"--encoder={encoder}: the spec has no feature of kind sequence that it could read")
    try:
        choice = yaml.safe_load(encoder)
    except yaml.YAMLError as error:
        raise CvrError(f"--encoder={encoder}: write a name, or {{name: transformer, layers: 2}}") from error
    for feature in sequences:
        feature["encoder"] = choice
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=140)


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


def prepare(spec: FeatureSpec, manifest: Manifest, data: TrainingData, config: RankerConfig | None = None) -> Ranker:
    """A built ranker, by default the one that the flags ask for, that knows the training splits' statistics.

    Raises CvrError for training lists of no known domain.
    """
    config = config or train_flags.ranker_config()
    domains.check_domains(spec, config.domain_feature, manifest, FLAGS.train_splits)
    ranker = build_ranker(spec, config, dummy_batch(spec))
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


def try_out(ranker: Ranker, data: TrainingData, teacher: Teacher | None = None) -> str:
    """Reads the first batch and scores it: the losses of a model that has learned nothing, and of its teacher.

    Raises CvrError on unreadable records.
    """
    dataset = batches(ranker.spec, data.train, data.budget)
    batch = next(iterate(dataset, ranker.spec, data.train))
    loss, logits = train_flags.settings().objective, ranker(batch)
    found = {"loss": listwise_losses(logits, batch, data.max_list_size, loss)}
    if teacher:
        own, distilled = teacher.losses(logits, teacher.ranker(batch), batch, data.max_list_size, loss)
        found |= {"teacher_loss": own, "distillation": distilled}
    items, lists = int(tf.reduce_sum(batch["list_size"])), int(tf.math.count_nonzero(batch["list_size"]))
    shown = ("; " + name + " " + _by_task(ranker, losses) for name, losses in found.items())
    return f"first batch      {items:,} of {data.budget.items:,} items in {lists:,} lists{''.join(shown)}"


def _by_task(ranker: Ranker, losses: tf.Tensor) -> str:
    return " ".join(f"{task} {loss:.4f}" for task, loss in zip(ranker.task_names, losses.numpy(), strict=True))

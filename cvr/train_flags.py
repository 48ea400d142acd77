"""The flags of `cvr.train`, and the settings that they make."""

from __future__ import annotations

import dataclasses
from typing import Any

from absl import flags

from cvr import backbones
from cvr.backbone_flags import backbone_values, define_backbone_flags
from cvr.distillation_flags import define_distillation_flags
from cvr.distribution import STRATEGIES
from cvr.errors import CvrError
from cvr.losses import LOSSES, Loss
from cvr.optimizers import TABLE_OPTIMIZERS
from cvr.precision import PRECISIONS
from cvr.ranker import RankerConfig
from cvr.settings import Settings
from cvr.warm_start import PARTS

FLAGS = flags.FLAGS

FREE = ("checkpoint_every", "keep_checkpoints", "histograms_every", "profile_steps", "threads", "distribute", "cluster_timeout")
"""Flags that may differ when an interrupted run is resumed: they do not change what is trained."""
PLACES = ("output", "lists", "dry_run")
"""Flags that a run does not record."""
MODEL: set[str] = set()
"""Names of the flags that describe a model; `define_flags` fills it."""


def define_flags(needs_data: bool = True) -> list[str]:
    """Defines the job's flags, --lists and --output required where it needs data; returns their names."""
    before = set(FLAGS)
    flags.DEFINE_string("lists", None, "Folder of list records (output of pipelines.build_lists).", required=needs_data)
    flags.DEFINE_string("output", None, "Folder of the run; must not hold a finished one.", required=needs_data)
    flags.DEFINE_list("train_splits", ["train"], "Splits to train on.")
    flags.DEFINE_string("validation_split", "validation", "Split for validation after each epoch; empty for none.")
    flags.DEFINE_string("warm_start_from", None, "Run, or a checkpoint of one, whose weights this one starts with (docs/modelers.md).")
    flags.DEFINE_enum("warm_start_parts", "all", PARTS, "What --warm_start_from gives: all that fits, or embedding tables alone.")
    flags.DEFINE_bool("dry_run", False, "Build everything, read a batch, score it, print the costs and stop.")
    flags.DEFINE_bool("deterministic", False, "Bit-identical results on the same machine and versions; slower.")
    flags.DEFINE_integer("threads", 0, "Threads of TensorFlow; 0 lets it choose.", lower_bound=0)
    flags.DEFINE_enum("distribute", "none", STRATEGIES, "What the training is spread over (docs/distributed.md).")
    flags.DEFINE_float("cluster_timeout", 600.0, "Seconds to wait for another process of --distribute.", lower_bound=0.1)
    others = set(FLAGS)
    flags.DEFINE_string("spec", None, "Feature spec; by default the one the lists were built with. Model-side settings may differ.")
    _define_model_flags()
    MODEL.update(set(FLAGS) - others)
    _define_training_flags()
    define_distillation_flags()
    return sorted(set(FLAGS) - before)


def _define_model_flags() -> None:
    flags.DEFINE_enum("backbone", "masknet", backbones.names(), "Backbone; each of its scaling factors is a flag.")
    flags.DEFINE_string("variant", None, "Size of the backbone: S, M, L or XL (docs/models.md); scaling factors given beside it win.")
    flags.DEFINE_string("encoder", None, "Encoder of all sequences in place of the spec's: a name, or {name: transformer, layers: 2}.")
    flags.DEFINE_string("domain_feature", None, "Feature by whose value the backbone routes (docs/modelers.md); none by default.")
    flags.DEFINE_integer("experts", 4, "Experts of the MMoE head.", lower_bound=1)
    flags.DEFINE_integer("expert_width", 64, "Width of an expert.", lower_bound=1)
    flags.DEFINE_integer("tower_width", 32, "Width of a task's tower; 0 for none.", lower_bound=0)
    flags.DEFINE_float("dropout", 0.0, "Dropout on the projection and on the backbone's output.", lower_bound=0.0, upper_bound=0.9)
    flags.DEFINE_enum("precision", "float32", PRECISIONS, "What layers compute in; weights and optimizer stay in float32.")
    flags.DEFINE_integer("seed", 0, "Seed of weights, data order and dropout.", lower_bound=0)
    define_backbone_flags()


def _define_training_flags() -> None:
    flags.DEFINE_enum("loss", "softmax", list(LOSSES), "Loss of each task (docs/modelers.md).")
    flags.DEFINE_float("anchor_label", 1.0, "y0 of --loss=calibrated_softmax: the weight of its virtual item; above 0.")
    flags.DEFINE_float("listwise_share", 0.5, "alpha of --loss=regression_compatible: its listwise part.", lower_bound=0.0, upper_bound=1.0)
    flags.DEFINE_integer("epochs", 3, "Passes over the training lists.", lower_bound=1)
    flags.DEFINE_integer("batch_items", 2048, "Items per batch.", lower_bound=1)
    flags.DEFINE_float("learning_rate", 1e-3, "Peak rate of the dense weights.", lower_bound=0.0)
    flags.DEFINE_float("table_learning_rate", None, "Peak rate of the embedding tables; by default --learning_rate.", lower_bound=0.0)
    flags.DEFINE_float("warmup_share", 0.1, "Share of the first epoch in which the rate rises.", lower_bound=0.0, upper_bound=1.0)
    flags.DEFINE_float("weight_decay", 0.0, "Decoupled weight decay of the dense weights.", lower_bound=0.0)
    flags.DEFINE_float("row_decay", 0.0, "Decoupled decay of the embedding rows that a batch uses.", lower_bound=0.0)
    flags.DEFINE_enum("table_optimizer", "lazy_adam", list(TABLE_OPTIMIZERS), "Optimizer of the embedding tables.")
    flags.DEFINE_list("freeze_tables", None, "Embedding tables that are not trained, by their names in the spec; all for all of them.")
    flags.DEFINE_float("clip_norm", 0.0, "Cuts the gradients of all variables to this global norm; 0 does not.", lower_bound=0.0)
    flags.DEFINE_bool("jit_compile", False, "Compile the training step with XLA.")
    flags.DEFINE_integer("shuffle_buffer", 20_000, "Lists in the shuffle buffer.", lower_bound=1)
    flags.DEFINE_integer("checkpoint_every", 500, "Steps between checkpoints.", lower_bound=1)
    flags.DEFINE_integer("keep_checkpoints", 3, "Checkpoints to keep.", lower_bound=1)
    flags.DEFINE_bool("keep_best", False, "Use the epoch with the best validation mAP of the primary task instead of the last.")
    flags.DEFINE_integer("patience", 0, "Stop after so many epochs without a better validation, with --keep_best; 0 never.", lower_bound=0)
    flags.DEFINE_integer("histograms_every", 0, "Steps between histograms of the weights in TensorBoard; 0 for none.", lower_bound=0)
    flags.DEFINE_string("profile_steps", None, "first:last, the steps of which TensorBoard gets a profile.")


def recorded(names: list[str]) -> dict[str, Any]:
    """The values of those flags that a run records: only those in FREE may change when it is resumed."""
    return {name: FLAGS[name].value for name in names if name not in PLACES}


def ranker_config(given: flags.FlagValues = FLAGS) -> RankerConfig:
    """The ranker that the flags, or other values of them, ask for. Raises CvrError for a factor or variant that the backbone lacks."""
    config = backbones.make_config(given.backbone, backbone_values(given), given.variant)
    names = ("backbone", "experts", "expert_width", "tower_width", "dropout", "precision", "seed")
    values = {name: given[name].value for name in names}
    values |= {"logit_bias": Loss(given.loss).fixes_level, "frozen_tables": list(given.freeze_tables or [])}
    return RankerConfig(backbone_config=dataclasses.asdict(config), domain_feature=given.domain_feature or "", **values)


def settings() -> Settings:
    """How the flags say to train."""
    values = {field.name: FLAGS[field.name].value for field in dataclasses.fields(Settings)}
    if values["table_learning_rate"] is None:
        values["table_learning_rate"] = FLAGS.learning_rate
    values["profile_steps"] = _step_range(FLAGS.profile_steps)
    return Settings(**values)


def _step_range(text: str | None) -> tuple[int, int] | None:
    """`3:7` -> (3, 7). Raises CvrError for anything else."""
    if not text:
        return None
    first, colon, last = text.partition(":")
    if not (colon and first.isdigit() and last.isdigit() and 1 <= int(first) <= int(last)):
        raise CvrError(f"--profile_steps={text}: give the first and the last step, such as 100:110")
    return int(first), int(last)

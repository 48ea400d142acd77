"""The flags of `cvr.pretrain`, and the settings that they make."""

from __future__ import annotations

import dataclasses
from typing import Any

from absl import flags

from cvr.generator import GeneratorConfig
from cvr.optimizers import TABLE_OPTIMIZERS
from cvr.precision import PRECISIONS
from cvr.settings import Settings

FLAGS = flags.FLAGS

FREE = ("checkpoint_every", "keep_checkpoints", "threads")
"""Flags that may differ when an interrupted run is resumed: they do not change what is trained."""
PLACES = ("output", "lists")
"""Flags that a run does not record."""


@dataclasses.dataclass(frozen=True)
class PretrainSettings(Settings):
    """How to pre-train: sequences per batch, and the share of the peak rate at which the cosine ends."""

    batch_sequences: int = 256
    final_rate_share: float = 0.1


def define_flags() -> list[str]:
    """Defines the job's flags; returns their names."""
    before = set(FLAGS)
    flags.DEFINE_string("lists", None, "Folder of list records (output of pipelines.build_lists).", required=True)
    flags.DEFINE_string("output", None, "Folder of the run; must not hold a finished one.", required=True)
    flags.DEFINE_string("spec", None, "Feature spec; by default the one the lists were built with. Model-side settings may differ.")
    flags.DEFINE_string("encoder", "decoder", "The decoder and its factors: decoder, or {name: decoder, layers: 4, heads: 4}.")
    flags.DEFINE_string("sequence", None, "Sequence of the spec to pre-train on; by default its only one.")
    flags.DEFINE_list("train_splits", ["train"], "Splits whose histories are trained on.")
    flags.DEFINE_string("validation_split", "validation", "Split for a loss on events that training does not hold; empty for none.")
    flags.DEFINE_integer("negatives", 4096, "Sampled items that a batch's next items are told from.", lower_bound=1)
    flags.DEFINE_float("temperature", 0.05, "Divides the cosines.", lower_bound=1e-3)
    flags.DEFINE_float("action_weight", 1.0, "Weight of the next action's loss beside the next item's.", lower_bound=0.0)
    flags.DEFINE_enum("precision", "float32", PRECISIONS, "What layers compute in; weights, losses and optimizer stay in float32.")
    flags.DEFINE_integer("seed", 0, "Seed of weights, data order and negatives.", lower_bound=0)
    flags.DEFINE_bool("deterministic", False, "Bit-identical results on the same machine and versions; slower.")
    flags.DEFINE_integer("threads", 0, "Threads of TensorFlow; 0 lets it choose.", lower_bound=0)
    _define_training_flags()
    return sorted(set(FLAGS) - before)


def _define_training_flags() -> None:
    flags.DEFINE_integer("epochs", 10, "Passes over the sequences.", lower_bound=1)
    flags.DEFINE_integer("batch_sequences", 256, "Sequences per batch.", lower_bound=1)
    flags.DEFINE_float("learning_rate", 5e-3, "Peak rate of the dense weights.", lower_bound=0.0)
    flags.DEFINE_float("table_learning_rate", None, "Peak rate of the item table; by default --learning_rate.", lower_bound=0.0)
    flags.DEFINE_float("final_rate_share", 0.1, "Share of the peak rate at which the cosine ends.", lower_bound=0.0, upper_bound=1.0)
    flags.DEFINE_float("warmup_share", 0.1, "Share of the first epoch in which the rate rises.", lower_bound=0.0, upper_bound=1.0)
    flags.DEFINE_float("weight_decay", 0.1, "Decoupled weight decay of the dense weights.", lower_bound=0.0)
    flags.DEFINE_float("row_decay", 0.0, "Decoupled decay of the rows that a batch uses.", lower_bound=0.0)
    flags.DEFINE_enum("table_optimizer", "lazy_adam", list(TABLE_OPTIMIZERS), "Optimizer of the item table.")
    flags.DEFINE_float("clip_norm", 1.0, "Cuts the gradients of all variables to this global norm; 0 does not.", lower_bound=0.0)
    flags.DEFINE_integer("checkpoint_every", 500, "Steps between checkpoints.", lower_bound=1)
    flags.DEFINE_integer("keep_checkpoints", 3, "Checkpoints to keep.", lower_bound=1)


def recorded(names: list[str]) -> dict[str, Any]:
    """The values of those flags that a run records."""
    return {name: FLAGS[name].value for name in names if name not in PLACES}


def generator_config(sequence: str) -> GeneratorConfig:
    """The model that the flags ask for."""
    names = [field.name for field in dataclasses.fields(GeneratorConfig) if field.name != "sequence"]
    return GeneratorConfig(sequence, **{name: FLAGS[name].value for name in names})


def settings() -> PretrainSettings:
    """How the flags say to train."""
    names = [field.name for field in dataclasses.fields(PretrainSettings) if field.name in FLAGS]
    values = {name: FLAGS[name].value for name in names}
    if values["table_learning_rate"] is None:
        values["table_learning_rate"] = FLAGS.learning_rate
    return PretrainSettings(**values)

"""The ranker: extraction -> input projection -> backbone -> MMoE -> one logit per task and item."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

from cvr import backbones, domains
from cvr.data import Batch
from cvr.extraction import Extraction
from cvr.layers.mmoe import MMoE
from cvr.layers.projection import InputProjection
from cvr.precision import precision
from cvr.schema import FeatureSpec


@dataclasses.dataclass(frozen=True)
class RankerConfig:
    """What a ranker is made of. `backbone_config` holds the backbone's scaling factors; tasks are those of the spec, in order;
    `frozen_tables` are embedding tables that are not trained."""

    backbone: str = "masknet"
    backbone_config: dict[str, Any] = dataclasses.field(default_factory=dict)
    experts: int = 4
    expert_width: int = 64
    tower_width: int = 32
    logit_bias: bool = False
    dropout: float = 0.0
    precision: str = "float32"
    seed: int = 0
    domain_feature: str = ""
    frozen_tables: list[str] = dataclasses.field(default_factory=list)


class Ranker(tf.keras.Model):
    """Scores every item of every list in a batch (paper section 2.1, PAPERS R1, R2).

    Extraction and projection are the only parts that know the features; the backbone sees fixed-width views of the input. The context part
    of the projection is computed once per list and gathered to its items. Where the backbone routes by domain, the number of a list's
    domain travels as the last column of its context and of its projection, in serving, too.
    """

    def __init__(self, spec: FeatureSpec, config: RankerConfig, **kwargs: object) -> None:
        super().__init__(autocast=False, **kwargs)  # raw numbers stay in float32 under a mixed policy
        self.spec, self.config = spec, config
        self.domains = domains.domains_of(spec, config.domain_feature)
        factors = backbones.make_config(config.backbone, config.backbone_config)
        self.backbone = domains.make_backbone(config.backbone, factors, self.domains)
        self.extraction = Extraction(spec, name="extraction")
        self.extraction.freeze(config.frozen_tables)
        self.projection = InputProjection(self.backbone.views, name="projection")
        self.head = MMoE(len(spec.tasks), config.experts, config.expert_width, config.tower_width, config.logit_bias, name="head")
        once = tf.VariableAggregation.ONLY_FIRST_REPLICA
        self.dropout_step = tf.Variable(0, trainable=False, dtype=tf.int64, name="dropout_step", aggregation=once)

    @property
    def task_names(self) -> tuple[str, ...]:
        """Names of the logits' columns."""
        return self.spec.task_names

    @property
    def dense_variables(self) -> list[tf.Variable]:
        """All trainable variables but the embedding tables."""
        tables = {variable.ref() for variable in self.extraction.table_variables}
        return [variable for variable in self.trainable_variables if variable.ref() not in tables]

    def call(self, batch: Batch, training: bool = False, with_gates: bool = False) -> tf.Tensor | tuple[tf.Tensor, tf.Tensor]:
        """A batch (see `cvr.data`) -> logits float32 `[N, T]`, those of padding items mean nothing; with gates: and `[N, T, E]`."""
        context, items = self.extract(batch)
        if training:
            self.dropout_step.assign_add(1)
        projected = tf.gather(self.project_context(context), batch["list_index"])
        hidden = self.hidden(projected, items, training)
        logits, gates = self.head(hidden, with_gates=True)
        return (tf.cast(logits, tf.float32), gates) if with_gates else tf.cast(logits, tf.float32)

    def extract(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        """A batch -> (context `[B, Dc]`, items `[N, Di]`); the context's last column is the domain where the backbone routes by it."""
        context, items = self.extraction(batch)
        return (self.domains.append(batch, context) if self.domains else context), items

    def project_context(self, context: tf.Tensor) -> tf.Tensor:
        """Context `[B, Dc]` -> the context part of the projection `[B, W]`, with the domain's column where there is one."""
        if self.domains is None:
            return self.projection.project_context(context)
        return tf.concat([self.projection.project_context(context[:, :-1]), context[:, -1:]], axis=1)

    def score(self, context_projection: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """(context_projection `[N, W]` or `[1, W]`, items `[N, Di]`) -> logits float32 `[N, T]`."""
        projected, items = (tf.cast(values, self.compute_dtype) for values in (context_projection, items))
        return tf.cast(self.head(self.hidden(projected, items)), tf.float32)

    def hidden(self, context_projection: tf.Tensor, items: tf.Tensor, training: bool = False) -> tf.Tensor:
        """(context_projection `[N, W]` or `[1, W]`, items `[N, Di]`) -> what the head sees `[N, H]`."""
        projected = context_projection if self.domains is None else context_projection[:, :-1]
        views = self.projection.finish(projected, items)
        views = {name: self._drop(view, place, training) for place, (name, view) in enumerate(views.items())}
        routed = {} if self.domains is None else {"domain": domains.read(context_projection[:, -1], tf.shape(items)[0])}
        return self._drop(self.backbone({**views, **routed}), len(views), training)

    def _drop(self, values: tf.Tensor, place: int, training: bool) -> tf.Tensor:
        """Dropout whose mask depends only on seed, place, step and replica, so a resumed run repeats it."""
        if not training or not self.config.dropout:
            return values
        replica = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int64)
        seed = tf.stack([self.config.seed * 64 + place + 2**32 * replica, self.dropout_step])
        return tf.nn.experimental.stateless_dropout(values, self.config.dropout, seed)


def build_ranker(spec: FeatureSpec, config: RankerConfig, batch: Batch) -> Ranker:
    """Makes a ranker and all its variables by running it once on `batch`, weights drawn from `config.seed`."""
    tf.keras.utils.set_random_seed(config.seed)
    with precision(config.precision):
        ranker = Ranker(spec, config)
        make_variables(ranker, batch)
    return ranker


def make_variables(ranker: Ranker, batch: Batch) -> None:
    """Makes all variables of a ranker by running it once."""
    context, items = ranker.extraction(batch)
    ranker.projection.build((context.shape, items.shape))
    ranker.projection.built = True
    ranker(batch)

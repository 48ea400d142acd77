"""Domains: which of several places a list was shown in, such as search or a feed, where a backbone routes by it (`--domain_feature`)."""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

import tensorflow as tf

from cvr import backbones
from cvr.errors import CvrError
from cvr.manifest import Manifest
from cvr.schema import FeatureSpec
from cvr.transforms import FIRST_ID, rows_of_vocabulary

Batch: TypeAlias = dict[str, tf.Tensor]

MOST = 256
"""Domains whose numbers bfloat16 holds exactly: whole numbers up to 256."""


@dataclasses.dataclass(frozen=True)
class Domains:
    """The feature that tells a list's domain, and the domains in the order of its vocabulary; the first is the target domain."""

    feature: str
    names: tuple[str, ...]

    def numbers(self, batch: Batch) -> tf.Tensor:
        """Place of each list's domain in the vocabulary, int64 `[B]`.

        A value that is none of them, a null and an absent one are the target domain: a request that does not say where it comes from is
        a search. Training lists with such values are refused (`check_domains`).
        """
        return tf.maximum(rows_of_vocabulary(batch[f"cat/{self.feature}"], self.names) - FIRST_ID, 0)

    def append(self, batch: Batch, vectors: tf.Tensor) -> tf.Tensor:
        """Vectors of a batch's lists `[B, W]` with the domain's number as a last column, `[B, W + 1]`."""
        return tf.concat([vectors, tf.cast(self.numbers(batch), vectors.dtype)[:, None]], axis=1)


def read(column: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """The numbers in a column that `append` made, float `[N]` or `[1]` -> int32 `[rows]`."""
    return tf.broadcast_to(tf.cast(tf.round(tf.cast(column, tf.float32)), tf.int32), [rows])


def domains_of(spec: FeatureSpec, name: str) -> Domains | None:
    """The domains that a feature tells apart; None without a name. Raises CvrError where it cannot."""
    if not name:
        return None
    feature = spec.features.get(name)
    if feature is None:
        raise CvrError(f"--domain_feature={name}: the spec of {spec.dataset} has no such feature; name one of it (docs/modelers.md)")
    if feature.level != "context" or not feature.vocabulary:
        wanted = "a categorical feature of level context with a vocabulary, whose first value is the target domain"
        raise CvrError(f"--domain_feature={name}: expected {wanted}")
    if len(feature.vocabulary) > MOST:
        raise CvrError(f"--domain_feature={name}: {len(feature.vocabulary)} domains; there may be at most {MOST}")
    return Domains(name, feature.vocabulary)


def make_backbone(name: str, config: object, domains: Domains | None) -> tf.keras.layers.Layer:
    """A backbone that routes by the domains, where there are any. Raises CvrError for one that does not."""
    made = backbones.load(name).Backbone
    if domains is None:
        return made(config, name="backbone")
    if not getattr(config, "routes_by_domain", False):
        raise CvrError(
            f"--domain_feature={domains.feature}: --backbone={name} with these factors does not route by domain; hhsft does, with "
            "--domain_experts or --domain_attention. Leave the flag out: the feature stays an input of the model like any other"
        )
    return made(config, domains=len(domains.names), name="backbone")


def check_domains(spec: FeatureSpec, name: str, manifest: Manifest, splits: list[str]) -> None:
    """Raises CvrError for training lists of unknown domain, which would train the target's expert with what is none of its own."""
    domains = domains_of(spec, name)
    if domains is None:
        return
    for split in splits:
        for day, coverage in manifest.split(split).coverage.items():
            found = coverage.get(name)
            strangers = found.missing + found.unseen + found.unknown if found else 0
            if strangers:
                raise CvrError(
                    f"--domain_feature={name}: {strangers} lists of split {split!r} on {day} are of none of the domains "
                    f"{', '.join(domains.names)}; complete the feature's vocabulary or rebuild the lists"
                )

"""Encoders by name, their factors, and --encoder."""

from __future__ import annotations

import pytest
import tensorflow as tf

from cvr import encoders
from cvr.data import dummy_batch
from cvr.errors import CvrError
from cvr.extraction import Extraction
from cvr.preparation import with_encoder
from cvr.schema import parse_spec
from tests.support import LEAN, batch_of, random_columns, tiny_spec

HISTORY = "length: 4}, "


def _extraction(encoder: str) -> Extraction:
    return Extraction(tiny_spec(LEAN.replace(HISTORY, f"{HISTORY}encoder: {encoder}, ")))


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("lstm", "no such encoder 'lstm'; there are"),
        ("{name: gru, layers: 2}", "gru: unknown factor layers; it has none"),
        ("{name: transformer, depth: 2}", "transformer: unknown factor depth; it has heads, layers"),
        ("{name: transformer, layers: two}", "transformer: layers is of type int, not 'two'"),
        ("{name: transformer, layers: 0}", "transformer: heads and layers are at least 1"),
    ],
)
def test_a_wrong_encoder(encoder: str, message: str) -> None:
    with pytest.raises(CvrError, match="features.recent.encoder: ") as caught:
        _extraction(encoder)
    assert message in str(caught.value)


def test_factors_reach_the_layer() -> None:
    sizes = []
    for layers in (1, 3):
        extraction = _extraction(f"{{name: transformer, heads: 1, layers: {layers}}}")
        extraction(dummy_batch(extraction.spec))
        ((_, _, encoder),) = extraction.sequences
        sizes.append(sum(int(tf.size(variable)) for variable in encoder.trainable_variables))
    width = 2
    block = 4 * width**2 + 2 * 4 * width**2 + 4 * width + 4 * width + 5 * width  # attention, inner layer, two norms, biases
    assert sizes[1] - sizes[0] == 2 * block, (sizes, block)


@pytest.mark.parametrize("encoder", encoders.names())
def test_every_encoder_adds_its_width_at_its_level(encoder: str) -> None:
    extraction = _extraction(encoder)
    spec = extraction.spec
    batch = batch_of(spec, random_columns(spec, 5))
    vectors = dict(zip(("context", "item"), extraction(batch), strict=True))
    level, places = extraction.columns(batch)["recent"]
    assert level == ("item" if encoders.load(spec.features["recent"]).PER_ITEM else "context")
    assert places == list(range(places[0], places[-1] + 1)) and places[-1] < vectors[level].shape[1]


def test_the_flag_replaces_encoders() -> None:
    text = with_encoder(LEAN, "{name: transformer, layers: 2}")
    feature = parse_spec(text).features["recent"]
    assert (feature.encoder.name, feature.encoder.factors) == ("transformer", {"layers": 2})
    assert parse_spec(with_encoder(text, "gru")).features["recent"].encoder.name == "gru"


def test_the_flag_needs_a_sequence_and_yaml() -> None:
    bare = "dataset: d\ntasks: {}\nfeatures: {p: {kind: numerical, level: item, from: item.p}}\n"
    with pytest.raises(CvrError, match="--encoder=gru: the spec has no feature of kind sequence"):
        with_encoder(bare, "gru")
    with pytest.raises(CvrError, match="write a name, or"):
        with_encoder(LEAN, "{name: gru")


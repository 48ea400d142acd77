"""--domain_feature: from a record's domain to the expert that reads it, in training, in serving, in a warm start."""

from __future__ import annotations

import dataclasses
import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from cvr import transforms
from cvr.data import Batch, Budget, dummy_batch
from cvr.domains import Domains, check_domains, domains_of, read
from cvr.errors import CvrError
from cvr.manifest import Coverage, Manifest, Split
from cvr.ranker import Ranker, RankerConfig, build_ranker
from cvr.schema import FeatureSpec
from cvr.warm_start import Base, _domain_names, variables_of, warm_start
from export.batching import Batching
from export.inputs import UNSEEN_TEXT, request_inputs
from export.signatures import CONTEXT, ServingModule
from tests.backbones.test_backbones import SMALL
from tests.support import LEAN, batch_of, random_columns, tiny_spec

DEVICE = "  device: {kind: categorical, level: context, from: impression.device, embedding: {buckets: 5, dim: 2}}\n"
FEATURE = "  domain: {{kind: categorical, level: context, from: impression.domain, vocabulary: [{}], embedding: {{buckets: 4, dim: 2}}}}\n"
TEXT = LEAN.replace(DEVICE, FEATURE.format("search, feed"))
MANY = ", ".join(f"d{number}" for number in range(257))
CONFIG = RankerConfig("hhsft", SMALL["hhsft"], experts=2, expert_width=8, tower_width=4, seed=5, domain_feature="domain")


def _ranker(text: str = TEXT, **changes: object) -> Ranker:
    spec = tiny_spec(text)
    return build_ranker(spec, dataclasses.replace(CONFIG, **changes), dummy_batch(spec))


def _batch(spec: FeatureSpec, domains: list[str], budget: Budget | None = None) -> Batch:
    columns = random_columns(spec, len(domains), seed=3)
    columns.cat["domain"] = transforms.hash_strings(domains).numpy()
    return batch_of(spec, columns, budget)


def test_numbers_are_places_in_the_vocabulary_and_what_is_none_of_it_is_the_target() -> None:
    domains = Domains("domain", ("search", "feed", "cart"))
    known = transforms.hash_strings(["cart", "search", "feed", "mail", ""]).numpy()
    ids = tf.constant([*known, transforms.PAD, transforms.UNSEEN, transforms.EMPTY, transforms.UNKNOWN], tf.int64)
    np.testing.assert_array_equal(domains.numbers({"cat/domain": ids}), [2, 0, 1, 0, 0, 0, 0, 0, 0])


def test_256_domains_survive_bfloat16() -> None:
    names = tuple(f"d{number}" for number in range(256))
    domains, ids = Domains("domain", names), transforms.hash_strings(list(names))
    column = domains.append({"cat/domain": ids}, tf.zeros([256, 3], tf.bfloat16))
    assert column.shape == (256, 4) and column.dtype == tf.bfloat16
    np.testing.assert_array_equal(read(column[:, -1], 256), np.arange(256))
    np.testing.assert_array_equal(read(column[7:8, -1], 3), [7, 7, 7])


@pytest.mark.parametrize(
    ("name", "spec", "message"),
    [
        ("place", TEXT, "--domain_feature=place: the spec of lean has no such feature"),
        ("price", TEXT, "--domain_feature=price: expected a categorical feature of level context with a vocabulary"),
        ("device", LEAN, "--domain_feature=device: expected a categorical feature of level context with a vocabulary"),
        ("domain", TEXT.replace("search, feed", MANY).replace("buckets: 4", "buckets: 300"), "--domain_feature=domain: 257 domains"),
    ],
)
def test_features_that_tell_no_domain(name: str, spec: str, message: str) -> None:
    with pytest.raises(CvrError, match=message):
        domains_of(tiny_spec(spec), name)


def test_only_a_backbone_that_routes_takes_it() -> None:
    with pytest.raises(CvrError, match="--domain_feature=domain: --backbone=dcnv2 .* does not route by domain; hhsft does"):
        _ranker(backbone="dcnv2", backbone_config=SMALL["dcnv2"])
    with pytest.raises(CvrError, match="--backbone=hhsft with these factors does not route by domain"):
        _ranker(backbone_config={**SMALL["hhsft"], "domain_experts": False, "domain_attention": False})


def test_training_lists_of_no_domain_are_refused() -> None:
    def manifest(**counts: int) -> Manifest:
        split = Split(lists=9, coverage={"2026-01-01": {"domain": Coverage(present=9)}, "2026-01-02": {"domain": Coverage(**counts)}})
        made = {"dataset": "lean", "source": "", "created": "", "spec_fingerprint": "", "spec_text": TEXT}
        return Manifest(**made, splits={"train": split, "test": Split(lists=1)})

    spec = tiny_spec(TEXT)
    check_domains(spec, "domain", manifest(present=9), ["train"])
    check_domains(spec, "", manifest(unknown=3), ["train"])
    check_domains(spec, "domain", manifest(unknown=3), ["test"])
    for state in ("missing", "unseen", "unknown"):
        with pytest.raises(CvrError, match="3 lists of split 'train' on 2026-01-02 are of none of the domains search, feed"):
            check_domains(spec, "domain", manifest(**{state: 3}), ["train"])


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_a_batch_trains_its_own_domains_expert_only(precision: str) -> None:
    """Padding lists and items among it: they are of the target domain, and their loss is 0."""
    ranker, kernel = _ranker(precision=precision), None
    gradients = []
    for domains in (["search"] * 5, ["feed"] * 5):
        batch = _batch(ranker.spec, domains, Budget(40, 9))
        with tf.GradientTape() as tape:
            total = tf.reduce_sum((ranker(batch, training=True) * batch["item_mask"][:, None]) ** 2)
        kernel = ranker.backbone._experts.up
        gradients.append(np.abs(tape.gradient(total, kernel)).max(axis=(1, 2)))
    assert kernel is not None and kernel.shape[0] == 2
    (own, feed), (search, other) = gradients
    assert (feed, search) == (0.0, 0.0) and own > 0 and other > 0


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_the_domain_reaches_the_backbone_list_by_list(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a whole and in the halves of serving, which pass float32; lists of a batch keep their own."""
    ranker, seen = _ranker(precision=precision), []
    monkeypatch.setattr("cvr.ranker.domains.read", lambda column, rows: seen.append(read(column, rows)) or seen[-1])
    batch = _batch(ranker.spec, ["search", "feed", "feed", "search"])
    index = batch["list_index"].numpy()
    scores = ranker(batch)
    context, items = ranker.extract(batch)
    projection = ranker.project_context(context)
    assert projection.shape == (4, sum(ranker.backbone.views.values()) + 1)
    halves = ranker.score(tf.gather(projection, index), items)
    first = ranker.score(tf.cast(projection[1:2], tf.float32), tf.cast(items[index == 1], tf.float32))
    expected = np.array([0, 1, 1, 0])[index]
    for found, wanted in zip(seen, (expected, expected, expected[index == 1]), strict=True):
        np.testing.assert_array_equal(found, wanted)
    tolerance = 1e-5 if precision == "float32" else 0.05
    np.testing.assert_allclose(halves, scores, atol=tolerance)
    np.testing.assert_allclose(first, scores.numpy()[index == 1], atol=tolerance)


def test_served_it_routes_by_the_request() -> None:
    """A value that is no domain is of the target domain, and so is a request without the input."""
    ranker = _ranker()
    module = ServingModule(ranker.spec, ranker, Batching())
    number, found = {}, {}
    for name in ("search", "feed", "mail", UNSEEN_TEXT):
        halves = module._preprocess({entry.name: _value(entry.name, entry.tensor_spec(), name) for entry in request_inputs(ranker.spec)})
        number[name] = float(halves[CONTEXT][0, -1])
        swapped = tf.concat([halves[CONTEXT][:, :-1], 1.0 - halves[CONTEXT][:, -1:]], axis=1)
        found[name] = [module._score({**halves, CONTEXT: context})["purchase"].numpy() for context in (halves[CONTEXT], swapped)]
    assert number == {"search": 0.0, "feed": 1.0, "mail": 0.0, UNSEEN_TEXT: 0.0}
    assert all(np.abs(one - other).max() > 1e-4 for one, other in found.values())  # the column alone decides


def _value(key: str, spec: tf.TensorSpec, domain: str) -> tf.Tensor:
    """Three items, each value another, of the domain."""
    size = [3 if length is None else length for length in spec.shape]
    if spec.dtype == tf.string:
        return tf.constant(domain if key == "domain" else "x", shape=size)
    return tf.cast(tf.reshape(tf.range(int(np.prod(size))), size), spec.dtype)


@dataclasses.dataclass(frozen=True)
class _Base(Base):
    """A base whose values are in memory."""

    stored: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def values(self) -> dict[str, np.ndarray]:
        return dict(self.stored)


def _base(text: str, domain_feature: str) -> _Base:
    ranker = _ranker(text, domain_feature=domain_feature, seed=1)
    source = np.random.default_rng(1)
    stored = {path: source.normal(size=v.shape) for path, v in variables_of(ranker).items() if v.dtype.is_floating}
    model = {"backbone": "hhsft", "domain_feature": domain_feature}
    return _Base(Path("base"), "base/ckpt-1", {"model": model, "data": "abc"}, ranker.spec, stored)


def test_a_warm_start_carries_experts_over_by_their_domains_names() -> None:
    base, now = _base(TEXT, "domain"), _ranker(TEXT.replace("search, feed", "feed, live, search"))
    fresh = now.backbone._experts.up.numpy()
    outcomes = {one.variable: one for one in warm_start(now, base)}
    found = outcomes["backbone/_experts/up"]
    assert (found.status, found.reason) == ("resized", "domains feed, search loaded, live new")
    old = base.stored["backbone/_experts/up"].astype(np.float32)
    np.testing.assert_array_equal(now.backbone._experts.up, [old[1], fresh[1], old[0]])
    bias = base.stored["backbone/_attention/gate_bias"].astype(np.float32)
    np.testing.assert_array_equal(now.backbone._attention.gate_bias.numpy()[0, [0, 2]], bias[0, [1, 0]])
    assert outcomes["backbone/_shared/up"].status == "loaded"


def test_a_warm_start_takes_a_model_without_domains_for_one_of_the_target() -> None:
    base, now = _base(TEXT, ""), _ranker(TEXT)
    found = {one.variable: one for one in warm_start(now, base)}["backbone/_experts/up"]
    assert found.reason == "domains search loaded, feed new"
    np.testing.assert_array_equal(now.backbone._experts.up.numpy()[0], base.stored["backbone/_experts/up"][0].astype(np.float32))
    none = types.SimpleNamespace(domains=None)
    assert _domain_names(_base(TEXT, "domain"), none) == (("search", "feed"), ("search",))
    assert _domain_names(base, none) == (("",), ("",))

"""The training benchmark: its list of products is what is counted elsewhere, its layouts compute the same, its ratios by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from cvr.backbones.masknet import Backbone, Config
from cvr.data import dummy_batch
from cvr.elwc import encode_elwc
from cvr.errors import CvrError
from cvr.losses import listwise_losses
from cvr.ranker import RankerConfig, build_ranker
from tools.benchmarks import train, train_lists, train_padded, train_peer_report, train_report, train_torch
from tools.benchmarks.input_content import content
from tools.benchmarks.reference_batch import reference_spec
from tools.benchmarks.train_lists import Variant
from tools.benchmarks.train_products import Product, Replay, flops_of, of_einsum, products_of
from tools.benchmarks.train_steps import Plan, Programs, Timing
from tools.benchmarks.train_torch import DenseTiming

SMALL = RankerConfig("masknet", {"cross_width": 8, "deep_width": 4}, experts=2, expert_width=4, tower_width=3)
ROWS = 7


def _backbone_graph(with_gradients: bool) -> tuple[Backbone, tf.Graph]:
    backbone = Backbone(Config(cross_width=6, deep_width=5, parallel_blocks=2, sequential_blocks=2))
    inputs = tf.ones([ROWS, 6])
    backbone({"cross": inputs})

    def step(given: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(given)
            total = tf.reduce_sum(backbone({"cross": given}))
        return tape.gradient(total, [given, *backbone.trainable_variables]) if with_gradients else total

    return backbone, tf.function(step, autograph=False).get_concrete_function(inputs).graph


@pytest.mark.parametrize(("with_gradients", "times"), [(False, 1), (True, 3)])
def test_products_of_a_graph_are_the_flops_that_a_backbone_counts(with_gradients: bool, times: int) -> None:
    backbone, graph = _backbone_graph(with_gradients)
    found = products_of(graph)
    assert flops_of(found) == times * 2 * ROWS * backbone.multiply_adds()
    assert Product((ROWS, 6), (6, 12), "nn", "float32") in found


def test_flops_of_a_product_by_hand() -> None:
    assert Product((3, 4), (4, 5), "nn", "float32").flops == 2 * 3 * 4 * 5
    assert Product((4, 3), (4, 5), "tn", "float32").flops == 2 * 3 * 4 * 5
    assert Product((3, 4), (5, 4), "nt", "float32").flops == 2 * 3 * 4 * 5
    assert Product((7, 2, 3, 4), (7, 2, 5, 4), "nt", "bfloat16").flops == 14 * 2 * 3 * 4 * 5
    assert Product((6, 4), (3, 4, 5), "nn", "float32").flops == 3 * 2 * 6 * 4 * 5
    assert of_einsum("nte,new->ntw", (9, 3, 4), (9, 4, 5), "float32") == Product((9, 3, 4), (9, 4, 5), "nn", "float32")
    assert of_einsum("ntw,twh->nth", (9, 3, 4), (3, 4, 5), "float32") == Product((3, 9, 4), (3, 4, 5), "nn", "float32")
    assert of_einsum("n,nte->te", (9,), (9, 3, 4), "float32") == Product((1, 1, 9), (1, 9, 12), "nn", "float32")


def test_products_that_cannot_be_counted_are_refused() -> None:
    @tf.function(input_signature=[tf.TensorSpec([None, 3])])
    def unknown(x: tf.Tensor) -> tf.Tensor:
        return tf.matmul(x, tf.ones([3, 2]))

    @tf.function(input_signature=[tf.TensorSpec([4, 3])])
    def looped(x: tf.Tensor) -> tf.Tensor:
        return tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, tf.matmul(y, tf.ones([3, 3]))), [0, x])[1]

    with pytest.raises(CvrError, match="known shapes"):
        products_of(unknown.get_concrete_function().graph)
    with pytest.raises(CvrError, match="functions of their own"):
        products_of(looped.get_concrete_function().graph)


def test_a_replay_runs_all_products() -> None:
    wide, narrow = Product((64, 64), (64, 64), "nt", "float32"), Product((8, 4), (8, 2), "tn", "bfloat16")
    replay = Replay([wide, narrow, wide])
    total = replay.turn()
    assert total == pytest.approx(2 * replay.passes[0][wide] + replay.passes[0][narrow])
    assert {product: count for product, count, _ in replay.slowest(5)} == {wide: 2, narrow: 1}


def test_steps_train_what_they_say() -> None:
    cell = train.Cell("masknet", "8", SMALL.backbone_config, "float32")
    programs = Programs(cell, Plan(lists=2, rows=20, dim=2, experts=2, expert_width=4))
    ranker = programs.ranker
    table, kernel = ranker.extraction.tables["items"].table, ranker.projection.item_kernel
    moved = {}
    for name, step in programs.steps.items():
        before = table.numpy(), kernel.numpy()
        step()
        moved[name] = tuple(not np.array_equal(old, new) for old, new in zip(before, (table, kernel), strict=True))
    assert moved == {"full": (True, True), "dense": (False, True), "gradients": (False, False)}


def test_layouts_have_the_same_losses() -> None:
    spec = reference_spec(50, 3)
    columns = content(6, "16-40", 3)
    given = train_lists.two_batches(spec, columns)
    assert len(given["packed"]["item_mask"]) == columns.lengths.sum() and len(given["padded"]["item_mask"]) == 6 * 40
    ranker = build_ranker(spec, SMALL, dummy_batch(spec))
    other = train_padded.build_per_item(spec, SMALL, dummy_batch(spec))
    expected = listwise_losses(ranker(given["packed"]), given["packed"], 40).numpy()
    for model in (ranker, other):
        for batch in given.values():
            np.testing.assert_allclose(listwise_losses(model(batch), batch, 40), expected, rtol=1e-5)
    longest = int(columns.lengths.max())
    features = train_padded.parse(spec, encode_elwc(spec, columns), longest)
    np.testing.assert_allclose(train_padded.losses(ranker, features), expected, rtol=1e-5)


def test_pipelines_read_the_same_lists() -> None:
    plan = Plan(lists=4, rows=20, dim=2, repeats=1)
    ours, theirs = train_lists.pipelines(SMALL, plan, 20, 1)
    lengths = content(20, "16-40", 2).lengths
    chunks = [lengths[begin : begin + 8] for begin in range(0, 20, 8)]
    assert ours.items == theirs.items == lengths.sum()
    assert theirs.rows == sum(len(chunk) * chunk.max() for chunk in chunks)
    assert ours.rows % 128 == 0 and ours.rows >= lengths.sum()


class _Reference:
    """A peer that computes the network in NumPy, in float64, and is wrong by `error`."""

    def __init__(self, error: float) -> None:
        self.error = error

    def ask(self, check: str) -> dict[str, Any]:
        with np.load(check) as file:
            w = {name: value.astype(np.float64) for name, value in file.items()}

        def dense(name: str, x: np.ndarray) -> np.ndarray:
            return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

        def block(name: str, x: np.ndarray) -> np.ndarray:
            y = dense(f"{name}.output", dense(f"{name}.mask", np.maximum(dense(f"{name}.aggregate", x), 0)) * x)
            y = (y - y.mean(1, keepdims=True)) / np.sqrt(y.var(1, keepdims=True) + 1e-3)
            return np.maximum(y * w[f"{name}.norm.weight"] + w[f"{name}.norm.bias"], 0)

        first = np.maximum(dense("projection", w["inputs"]), 0)
        hidden = np.concatenate([block("block_0_0", first), block("block_1_0", first)], axis=1)
        logits = dense("logit", np.maximum(dense("experts", hidden), 0))[:, 0]
        scores = logits.reshape(-1, 32)
        logs = np.log(np.exp(scores).sum(1)) - scores[np.arange(len(scores)), w["labels"].astype(int)]
        return {"loss": logs.mean(), "logits": (logits + self.error).tolist()}


def test_the_network_beside_pytorch_is_what_numpy_computes() -> None:
    train_torch.check(_Reference(0.0))  # type: ignore[arg-type]
    with pytest.raises(CvrError, match="another function"):
        train_torch.check(_Reference(0.01))  # type: ignore[arg-type]


def test_pytorch_computes_the_same() -> None:
    with train_torch.open_peer(1) as peer:
        if peer.version is None:
            assert "torch" in peer.absent
            pytest.skip(f"the extra `peers` is not installed: {peer.absent}")
        train_torch.check(peer)


def _timing(size: str, full: list[float], dense: list[float], gradients: list[float], products: list[float]) -> Timing:
    ms = {"full": full, "dense": dense, "gradients": gradients, "products": products}
    return Timing("masknet", size, "float32", 1000, 3_000_000_000, 0, 0, ms, 2.0, [("4x4 . 4x4 nn float32", 2, 0.5, 3.0)])


def test_shares_and_goals_by_hand() -> None:
    timings = [_timing("1k", [10, 20, 10], [9.5, 19, 9], [9.2, 18, 8], [8, 15, 7]), _timing("2k", [10], [9], [8.5], [8])]
    assert timings[0].share("products", "full").median == 0.75  # of 0.8, 0.75, 0.7
    goals = {goal.name: goal for goal in train_report.goals(timings)}
    assert goals["MaskNet 1k float32: of the speed of its products alone"].met is True
    assert goals["MaskNet 2k float32: of the speed of its products alone"].met is False
    assert goals["MaskNet 1k float32: embeddings and optimizers"].reached == pytest.approx(10)  # of 8, 10, 20
    assert goals["MaskNet 2k float32: embeddings and optimizers"].met is False  # 15
    assert goals["MaskNet 4k float32: embeddings and optimizers"].met is None
    row = train_report.cell_rows(timings)[1]
    assert row == ("masknet 2k", "float32", "1.0", "100,000", "10.0", "300", "80 %", "15 %", "10 %", "5 %", "2")


def test_goals_beside_peers_by_hand() -> None:
    times = {"ours": (110, [1.0, 2.0]), "tf_ranking": (250, [5.0, 6.0])}
    variants = [Variant("pipelines", name, "float32", 100, rows, found) for name, (rows, found) in times.items()]
    dense = [DenseTiming("ours", "float32", 1000, 10**9, [10.0]), DenseTiming("eager", "float32", 1000, 10**9, [21.0])]
    dense.append(DenseTiming("compiled", "float32", 1000, 10**9, [], "no compiler"))
    pipeline, network = train_peer_report.goals(variants, dense)
    assert pipeline.reached == pytest.approx(4.0) and pipeline.met is True  # of 5 and 3
    assert network.reached == pytest.approx(2.1) and network.met is True
    assert train_peer_report.pipeline_rows(variants)[1][2:] == ("2.50", "18", "5.5 (5.0-6.0)", "4.00 (3.00-5.00) x")
    assert train_peer_report.dense_rows(dense)[2][-1] == "no compiler"


def test_widths_and_cells() -> None:
    assert [train.width_of(text) for text in ("1k", "96")] == [1024, 96]
    for wrong in ("k", "0", "1m", "-3"):
        with pytest.raises(CvrError, match="--widths"):
            train.width_of(wrong)
    cells = train.groups(["masknet", "dcnv2"], ["1k", "2k"], ["float32", "mixed_bfloat16"])
    assert [[cell.name for cell in group][0] for group in cells] == ["masknet 1k float32", "masknet 2k float32", "dcnv2 L float32"]
    assert [len(group) for group in cells] == [2, 2, 2] and cells[2][0].factors["cross_width"] == 1024


def test_the_command_writes_what_it_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("intra", "inter"):  # threads cannot change in a process that has begun
        monkeypatch.setattr(tf.config.threading, f"set_{kind}_op_parallelism_threads", lambda count: None)
    path, known = tmp_path / "t.json", set(flags.FLAGS)
    train.define_flags()
    small = ["--backbones=masknet", "--widths=8", "--precisions=float32", "--nosaved", "--lists=2", "--rows=20", "--dim=2"]
    try:
        train.parse_flags(["train", f"--json={path}", *small, "--expert_width=4", "--repeats=1", "--steps=1"])
        train.main(["train"])
        first = capsys.readouterr().out
        train.parse_flags(["train", f"--read={path}"])
        train.main(["train"])
    finally:
        for name in set(flags.FLAGS) - known:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()
    assert capsys.readouterr().out == first
    assert [entry["size"] for entry in json.loads(path.read_text())["cells"]] == ["8"]
    path.write_text("{}")
    with pytest.raises(CvrError, match="no report"):
        train_report.read(path)

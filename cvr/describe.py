"""What a ranker costs, without data: `python -m cvr.describe --flagfile=configs/<model>.flags --spec=configs/features/<dataset>.yaml`.

Prints parameters and FLOPs part by part (`cvr.flops`) and what weights, optimizer and activations take (`cvr.activations`). No weight is
made, so a model of any size can be described. Takes the flags of `cvr.train`, so that every flagfile of a model works.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from absl import flags

from cvr import flops, preparation, train_flags
from cvr.activations import kept_bytes, peak_bytes
from cvr.data import Batch, Budget, dummy_batch
from cvr.errors import CvrError, run_main
from cvr.layers.sparse_per_token_ffn import SparsePerTokenFFN
from cvr.manifest import load_manifest
from cvr.optimizers import OptimizerConfig, make_optimizer
from cvr.ranker import Ranker, RankerConfig
from cvr.schema import FeatureSpec, load_spec, parse_spec
from cvr.tracing import abstract_ranker, shapes_of, trace_scoring, trace_training, without_memory

FLAGS = flags.FLAGS
BAG = 24
"""Ids in a bag: about the n-grams of a product title. Bags have no products, and weigh little in the activations."""


def define_flags() -> None:
    """The command's flags: those of training, none of them required, and its own."""
    train_flags.define_flags(needs_data=False)
    flags.DEFINE_bool("json", False, "Print JSON.")
    flags.DEFINE_integer("list_size", 32, "Items of a list.", lower_bound=1)
    flags.DEFINE_integer("history_length", None, "Events of every history; by default what the spec says.", lower_bound=1)


def choose_spec() -> FeatureSpec:
    """The spec that the flags name, with histories of --history_length. Raises CvrError without --spec and --lists."""
    if FLAGS.lists:
        spec, _ = preparation.choose_spec(load_manifest(FLAGS.lists), FLAGS.spec, FLAGS.encoder)
    elif FLAGS.spec:
        spec = load_spec(FLAGS.spec)
        if FLAGS.encoder:
            text = preparation.with_encoder(Path(FLAGS.spec).read_text(encoding="utf-8"), FLAGS.encoder)
            spec = parse_spec(text, f"--encoder={FLAGS.encoder}")
    else:
        raise CvrError("nothing says what the features are; give --spec=configs/features/<dataset>.yaml or --lists=<folder>")
    return with_history_length(spec, FLAGS.history_length) if FLAGS.history_length else spec


def with_history_length(spec: FeatureSpec, length: int) -> FeatureSpec:
    """A spec whose histories all have `length` events."""
    changed = {
        feature.name: feature.model_copy(update={"history": feature.history.model_copy(update={"length": length})})
        for feature in spec.select(kind="sequence")
        if feature.history
    }
    return spec.model_copy(update={"features": {**spec.features, **changed}})


def describe(spec: FeatureSpec, config: RankerConfig, budget: Budget, list_size: int, table_optimizer: str) -> dict[str, Any]:
    """All that the command prints, by name: FLOPs, bytes, the parts. `budget` is the training batch, `list_size` the items of a list."""
    batch = dummy_batch(spec, budget.items // list_size, list_size, BAG, budget)
    ranker = abstract_ranker(spec, config, shapes_of(batch))
    cost = flops.cost_of(ranker)
    return {
        "backbone": config.backbone,
        "dataset": spec.dataset,
        "tasks": list(spec.task_names),
        "parts": [dataclasses.asdict(part) for part in flops.parts_of(ranker)],
        **dataclasses.asdict(cost),
        "list_size": list_size,
        "flops_of_list": cost.flops_per_list + list_size * cost.flops_per_item,
        "flops_per_item_unshared": cost.flops_per_list + cost.flops_per_item,
        "dense_bytes": _bytes(ranker.dense_variables),
        "optimizer_bytes": optimizer_bytes(ranker, table_optimizer),
        "batch_items": budget.items,
        **activation_bytes(ranker, batch, dummy_batch(spec, 1, list_size, BAG)),
    }


def optimizer_bytes(ranker: Ranker, table_optimizer: str) -> int:
    """Of the state that the optimizers keep of every weight: two moments with Adam."""
    made = []
    schedule = tf.keras.optimizers.schedules.PolynomialDecay(1e-3, 1)

    def make() -> None:
        config = OptimizerConfig(table_optimizer)
        made.append(make_optimizer(lambda: ranker.extraction.table_variables, lambda: ranker.dense_variables, schedule, schedule, config))

    with without_memory():
        tf.function(make, autograph=False).get_concrete_function()
    return sum(_bytes(variable for variable in part.variables if variable.dtype.is_floating) for part in made[0].optimizers)


def activation_bytes(ranker: Ranker, batch: Batch, one_list: Batch) -> dict[str, int]:
    """What a training step on `batch` keeps for its backward pass, and the most that scoring `one_list` holds at one time.

    Sparse experts are traced without dispatch, whose shapes depend on the data: an upper bound.
    """
    for layer in ranker.submodules:
        if isinstance(layer, SparsePerTokenFFN):
            layer.dispatch = False
    items = len(one_list["item"])
    return {
        "training_activation_bytes": kept_bytes(trace_training(ranker, shapes_of(batch)), items),
        "inference_activation_bytes": peak_bytes(trace_scoring(ranker, shapes_of(one_list)), items),
    }


def _bytes(variables: Iterable[tf.Variable]) -> int:
    return sum(math.prod(variable.shape) * variable.dtype.size for variable in variables)


def report(found: dict[str, Any]) -> str:
    """The table and the totals for a terminal."""
    lines = [f"{found['backbone']} on {found['dataset']}, tasks {', '.join(found['tasks'])}\n"]
    lines.append(_row("", "parameters", "FLOPs per item", "FLOPs per list"))
    before = ""
    for part in found["parts"]:
        name = f"{part['part']:<12}" if part["part"] != before else " " * 12
        lines.append(_row(f"{name}{part['name']}", part["parameters"], part["flops_per_item"], part["flops_per_list"]))
        before = part["part"]
    lines.append(_row("total", found["parameters"], found["flops_per_item"], found["flops_per_list"]))
    return "\n".join([*lines, "", *_totals(found)])


def _row(name: str, *numbers: int | str) -> str:
    return f"{name:<52}" + "".join(f"{number:>17,}" if isinstance(number, int) else f"{number:>17}" for number in numbers)


def _totals(found: dict[str, Any]) -> Iterator[str]:
    size, items = found["list_size"], found["batch_items"]
    saved = 1.0 - found["flops_of_list"] / (size * found["flops_per_item_unshared"])
    kept = found["training_activation_bytes"]
    rows = (
        (f"FLOPs of a list of {size} items", found["flops_of_list"], f"{saved:.0%} less than {size} items that share nothing"),
        ("FLOPs of an item that shares nothing", found["flops_per_item_unshared"], "the count of the paper's Table 1"),
        ("bytes of embedding tables", found["embedding_bytes"], ""),
        ("bytes of dense weights", found["dense_bytes"], ""),
        ("bytes of the optimizer's state", found["optimizer_bytes"], ""),
        (f"activation bytes, training batch of {items:,} items", kept, f"{kept / items:,.0f} per item"),
        (f"activation bytes, scoring a list of {size} items", found["inference_activation_bytes"], ""),
    )
    for name, number, note in rows:
        yield f"{name:<52}{number:>17,}   {note}".rstrip()


def main(argv: Sequence[str]) -> int:
    """Describes the ranker that the flags ask for."""
    del argv
    if FLAGS.list_size > FLAGS.batch_items:
        raise CvrError(f"--list_size={FLAGS.list_size} is more than a batch holds; raise --batch_items={FLAGS.batch_items}")
    budget = Budget.for_mean(FLAGS.batch_items, FLAGS.list_size)
    found = describe(choose_spec(), train_flags.ranker_config(), budget, FLAGS.list_size, FLAGS.table_optimizer)
    print(json.dumps(found, indent=1) if FLAGS.json else report(found))
    return 0


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()

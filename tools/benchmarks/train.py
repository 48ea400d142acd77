"""Speed of a training step of each backbone: items/s, FLOP/s beside those of its matrix products alone, and what else the step spends.

    python -m tools.benchmarks.train --json[=FILE] [--backbones=masknet] [--widths=1k,2k] [--precisions=float32] [--nosaved]
    python -m tools.benchmarks.train --json[=FILE] --peers [--torch_path=DIR]
    python -m tools.benchmarks.train --read=FILE --markdown [--products]

Steps of one backbone and size take turns in one process, in all precisions. `--peers` adds TF-Ranking's padded style, and PyTorch where the
extra `peers` is installed or a folder holds it (`pip install --target=DIR torch`). docs/performance.md explains the columns. MaskNet of
width 4k needs 8 GB.
"""

from __future__ import annotations

import dataclasses
import resource
import sys
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from absl import flags

from cvr import backbones
from cvr.errors import CvrError, run_main
from cvr.precision import PRECISIONS
from cvr.ranker import RankerConfig
from tools.benchmarks import train_lists, train_torch
from tools.benchmarks.command import define_report_flags, measure_or_read, parse_flags
from tools.benchmarks.embedding import check
from tools.benchmarks.machine import report_head
from tools.benchmarks.train_report import all_goals, read, shown
from tools.benchmarks.train_steps import Cell, Plan, Timing, measure

FLAGS = flags.FLAGS
SIZES = {"dcnv2": "L", "transformer": "M", "rankmixer": "M", "wukong": "M", "dhen": "M"}
"""The paper's defaults; of those that it has not, size M."""
MASKNET = {"deep_width": 1024}
"""The paper's default beside the cross widths."""

_OTHERS = ("threads", "list_width", "peer_lists", "torch_width")


def define_flags() -> None:
    """The command's flags."""
    define_report_flags()
    flags.DEFINE_list("backbones", ["masknet", *SIZES], "Backbones; none for the empty text.")
    flags.DEFINE_list("widths", ["1k", "2k", "4k"], "MaskNet's cross widths: 1k is 1,024.")
    flags.DEFINE_list("precisions", list(PRECISIONS), "What layers compute in.")
    flags.DEFINE_integer("lists", Plan.lists, "Lists of 32 items in a batch.", lower_bound=1)
    flags.DEFINE_integer("rows", Plan.rows, "Rows of the table of items.", lower_bound=10)
    flags.DEFINE_integer("dim", Plan.dim, "Width of the tables.", lower_bound=1)
    flags.DEFINE_integer("experts", Plan.experts, "Experts of the head.", lower_bound=1)
    flags.DEFINE_integer("expert_width", Plan.expert_width, "Their width; 4 of 1,024 are the paper's first layer.", lower_bound=1)
    flags.DEFINE_integer("repeats", Plan.repeats, "Turns of each step.", lower_bound=1)
    flags.DEFINE_integer("steps", Plan.steps, "Most timed steps of a turn.", lower_bound=1)
    flags.DEFINE_float("seconds", Plan.seconds, "A turn has fewer steps, though one at least, where they would take longer.", lower_bound=0)
    flags.DEFINE_integer("threads", 2, "Threads of TensorFlow, between and inside operations.", lower_bound=1)
    flags.DEFINE_bool("saved", True, "What packing and the context's own projection save.")
    flags.DEFINE_bool("peers", False, "Also TF-Ranking's padded style and PyTorch.")
    flags.DEFINE_string("list_width", "1k", "MaskNet's cross width in `saved` and beside TF-Ranking.")
    flags.DEFINE_integer("peer_lists", 512, "Lists of a pass beside TF-Ranking.", lower_bound=1)
    flags.DEFINE_string("torch_width", "2k", "MaskNet's cross width beside PyTorch.")
    flags.DEFINE_string("torch_path", "", "Folder that PyTorch is installed in, where this Python does not find it.")
    flags.DEFINE_bool("products", False, "Also the matrix products that take most of each step, and the speed of each alone.")


def width_of(text: str) -> int:
    """`2k` -> 2048, `96` -> 96. Raises CvrError for what is no width."""
    number, scale = (text[:-1], 1024) if text.endswith("k") else (text, 1)
    if not number.isdigit() or not int(number):
        raise CvrError(f"--widths={text}: expected widths, such as 512,1k,2k")
    return int(number) * scale


def groups(chosen: Sequence[str], widths: Sequence[str], precisions: Sequence[str]) -> list[list[Cell]]:
    """The cells that take turns: each backbone and size in all precisions."""
    sizes = [("masknet", text, {**MASKNET, "cross_width": width_of(text)}) for text in widths if "masknet" in chosen]
    sizes += [(name, SIZES[name], vars(backbones.make_config(name, {}, SIZES[name]))) for name in chosen if name in SIZES]
    return [[Cell(name, size, factors, precision) for precision in precisions] for name, size, factors in sizes]


def lists_of(precisions: Sequence[str], plan: Plan) -> list[train_lists.Variant]:
    """Layouts and whole pipelines, as far as flags ask for them."""
    factors = {**MASKNET, "cross_width": width_of(FLAGS.list_width)}
    found: list[train_lists.Variant] = []
    for precision in precisions:
        config = RankerConfig("masknet", factors, plan.experts, plan.expert_width, precision=precision)
        if FLAGS.saved:
            say(f"packed and padded, {precision}")
            found += train_lists.saved(config, plan)
        if FLAGS.peers:
            say(f"whole pipelines, {precision}")
            found += train_lists.pipelines(config, plan, FLAGS.peer_lists, FLAGS.threads)
    return found


def dense_of(precisions: Sequence[str], plan: Plan) -> tuple[list[train_torch.DenseTiming], dict[str, str]]:
    """Ours beside PyTorch, if flags ask for it, with its `version`, or why it is `absent`."""
    if not FLAGS.peers:
        return [], {}
    with train_torch.open_peer(FLAGS.threads, FLAGS.torch_path) as peer:
        if peer.version is None:
            absent = f"PyTorch is absent ({peer.absent}), so its rows are left out; pip install '.[peers]', or --torch_path=DIR"
            say(absent)
            return [], {"absent": absent}
        say(f"PyTorch {peer.version}")
        return train_torch.measure(width_of(FLAGS.torch_width), precisions, plan, peer, say), {"version": peer.version}


def say(line: str) -> None:
    """A line of progress."""
    print(line, file=sys.stderr, flush=True)


def measured() -> dict[str, Any]:
    """Measures what the flags ask for."""
    chosen = check("backbones", FLAGS.backbones, ("masknet", *SIZES)) if any(FLAGS.backbones) else []
    precisions = check("precisions", FLAGS.precisions, PRECISIONS)
    cells = groups(chosen, FLAGS.widths, precisions)
    plan = Plan(**{field.name: FLAGS[field.name].value for field in dataclasses.fields(Plan)})
    tf.config.threading.set_intra_op_parallelism_threads(FLAGS.threads)
    tf.config.threading.set_inter_op_parallelism_threads(FLAGS.threads)
    settings = {**dataclasses.asdict(plan), **{name: FLAGS[name].value for name in _OTHERS}}
    head = report_head("train", FLAGS.threads, ("tensorflow", "tf-keras", "numpy"), settings)
    found: list[Timing] = []
    for place, group in enumerate(cells):
        say(f"{place + 1} of {len(cells)}: {', '.join(cell.name for cell in group)}")
        found += measure(group, plan, say)
    lists = lists_of(precisions, plan)
    dense, torch = dense_of(precisions, plan)
    report = {
        **head,
        "cells": [dataclasses.asdict(timing) for timing in found],
        "lists": [dataclasses.asdict(variant) for variant in lists],
        "dense": [dataclasses.asdict(timing) for timing in dense],
        "torch": torch,
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 1),
    }
    return {**report, "goals": [dataclasses.asdict(goal) | {"met": goal.met} for goal in all_goals(report)]}


def main(argv: Sequence[str]) -> None:
    """Measures or reads, and shows."""
    measure_or_read(argv, read, measured, lambda found: shown(found, FLAGS.markdown, FLAGS.products))


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main, flags_parser=parse_flags)


if __name__ == "__main__":
    entry()

"""Every backbone has a flagfile that trains its size S, and whose comment says what each size costs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tensorflow as tf
from absl import flags

from cvr import backbones, train_flags
from cvr.flops import backbone_parts
from cvr.ranker import RankerConfig
from cvr.tracing import without_memory

NAMES = backbones.names()


def _ranker_config(*arguments: str) -> RankerConfig:
    """What the flags of training make of some arguments."""
    before = set(flags.FLAGS)
    train_flags.define_flags(needs_data=False)
    try:
        flags.FLAGS(["train", *arguments])
        return train_flags.ranker_config()
    finally:
        for flag in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, flag)
        flags.FLAGS.unparse_flags()


@pytest.mark.parametrize("name", NAMES)
def test_flagfile_makes_the_small_one_and_a_variant_beside_it_wins(name: str, project_root: Path) -> None:
    for given, variant in ((), "S"), (("--variant=L",), "L"):
        config = _ranker_config(f"--flagfile={project_root / 'configs' / f'{name}.flags'}", *given)
        assert config.backbone == name and (config.experts, config.expert_width, config.tower_width) == (4, 64, 32)
        assert backbones.make_config(name, config.backbone_config) == backbones.make_config(name, {}, variant)


@pytest.mark.parametrize("name", NAMES)
def test_its_comment_gives_the_sizes(name: str, project_root: Path) -> None:
    text = (project_root / "configs" / f"{name}.flags").read_text()
    assert f"#   python -m cvr.train --flagfile=configs/{name}.flags" in text
    rows = re.findall(r"^#   (\w+) +(\d+) +([\d.]+) M +([\d.]+) M$", text, re.MULTILINE)
    assert [row[0] for row in rows] == list(backbones.load(name).VARIANTS)
    for size, width, parameters, cost in rows:
        backbone = backbones.load(name).Backbone(backbones.make_config(name, {}, size), name="backbone")
        with without_memory():
            backbone({view: tf.keras.Input([columns]) for view, columns in backbone.views.items()})
        parts = list(backbone_parts(backbone))
        assert int(width) == sum(backbone.views.values())
        assert cost == f"{sum(part.flops_per_item for part in parts) / 1e6:.2f}"
        assert parameters == f"{sum(part.parameters for part in parts) / 1e6:.2f}"


@pytest.mark.parametrize("name", NAMES)
def test_the_page_gives_the_same_costs(name: str, project_root: Path) -> None:
    page = (project_root / "docs" / "models.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| \[`{name}`\].*$", page, re.MULTILINE)
    module = backbones.load(name)
    costs = [2 * module.Backbone(backbones.make_config(name, {}, size)).multiply_adds() / 1e6 for size in module.VARIANTS]
    expected = [f"{cost:.0f}" if cost >= 10 else f"{cost:.2g}" for cost in costs]
    assert [cell.split()[0] for cell in row.strip("| ").split(" | ")[2:]] == expected
    assert f"](figures/{name}.svg)" in page


@pytest.mark.parametrize(("name", "width"), [("rankmixer", 8 * 16), ("transformer", 8 * 16), ("wukong", 8 * 16)])
def test_pooling_by_flag_beside_a_size(name: str, width: int) -> None:
    """8 tokens of 16: flat all of them reach the head, else their mean."""
    for pooling, expected in (("flatten", width), ("mean", 16)):
        config = _ranker_config(f"--backbone={name}", "--variant=S", f"--pooling={pooling}")
        assert backbones.load(name).Backbone(backbones.make_config(name, config.backbone_config)).width == expected

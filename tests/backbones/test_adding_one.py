"""The backbone that docs/models.md adds is added, as it stands there: flags, size, cost, a training step, membership in DHEN."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from cvr import backbones, train_flags
from cvr.data import dummy_batch
from cvr.flops import cost_of
from cvr.ranker import build_ranker
from tests.profiler import profile
from tests.support import LEAN, batch_of, random_columns, tiny_spec


@pytest.fixture
def added(project_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Writes both files of the page's last section into a folder that is searched for backbones, too."""
    section = (project_root / "docs" / "models.md").read_text(encoding="utf-8").split("\n## Adding a backbone\n")[1]
    files = dict(re.findall(r"```(?:python)?\n# (\S+)\n(.*?)```", section, re.DOTALL))
    assert list(files) == ["cvr/backbones/mlp.py", "configs/mlp.flags"]
    assert sum(len(text.splitlines()) + 1 for text in files.values()) < 60
    for name, text in files.items():
        (tmp_path / Path(name).name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(backbones, "__path__", [*backbones.__path__, str(tmp_path)])
    yield tmp_path
    sys.modules.pop("cvr.backbones.mlp", None)


def test_two_files_are_enough(added: Path) -> None:
    before = set(flags.FLAGS)
    train_flags.define_flags()
    try:
        flags.FLAGS(["train", f"--flagfile={added / 'mlp.flags'}", "--lists=a", "--output=b", "--deep_layers=4", "--dropout=0"])
        config = train_flags.ranker_config()
    finally:
        for flag in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, flag)
        flags.FLAGS.unparse_flags()
    assert (config.backbone, config.backbone_config) == ("mlp", {"deep_width": 128, "deep_layers": 4})
    spec = tiny_spec(LEAN)
    ranker = build_ranker(spec, config, dummy_batch(spec))
    assert profile(ranker.backbone).products == 2 * ranker.backbone.multiply_adds() == 2 * 3 * 128**2
    assert cost_of(ranker).flops_per_item > 2 * 3 * 128**2
    batch = batch_of(spec, random_columns(spec, 5))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(ranker(batch, training=True) ** 2)
    for variable, gradient in zip(ranker.dense_variables, tape.gradient(total, ranker.dense_variables), strict=True):
        assert np.isfinite(gradient).all(), variable.name


def test_it_can_be_a_member_of_an_ensemble(added: Path) -> None:
    dhen = backbones.load("dhen")
    backbone = dhen.Backbone(backbones.make_config("dhen", {"members": "mlp:deep_width=6,masknet:cross_width=4:deep_width=2"}))
    assert backbone.views == {"0/deep": 6, "1/cross": 4}
    assert backbone({name: tf.ones([2, width]) for name, width in backbone.views.items()}).shape == (2, backbone.width)

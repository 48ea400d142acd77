"""What the studies declare, against Table 1 divided by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvr import backbones
from cvr.errors import CvrError
from cvr.schema import parse_spec
from tools import table1_flops
from tools.scaling import studies
from tools.scaling.declare import Setup
from tools.scaling.logs import FULL, QUICK, SYNTHETIC_SPEC, edited
from tools.scaling.paper import TABLE_1
from tools.scaling.studies.backbone import DIVISORS, KEPT

FLAGS = {
    "dcnv2": ("cross_width", "deep_width"),
    "masknet": ("cross_width", "deep_width", "parallel_blocks", "sequential_blocks"),
    "transformer": ("model_width", "tokens", "layers", "heads", "ffn_width"),
    "rankmixer": ("model_width", "tokens", "layers", "ffn_width"),
}
BY_HAND = {
    "dcnv2 cross width": [(64, 64), (128, 64), (256, 64), (512, 64)],
    "dcnv2 deep width": [(64, 64), (64, 128), (64, 256), (64, 384)],
    "masknet cross width": [(32, 64, 2, 1), (64, 64, 2, 1), (128, 64, 2, 1), (256, 64, 2, 1)],
    "masknet deep width": [(128, 32, 2, 1), (128, 64, 2, 1), (128, 128, 2, 1), (128, 256, 2, 1)],
    "masknet parallel blocks": [(128, 64, 1, 1), (128, 64, 2, 1), (128, 64, 4, 1), (128, 64, 8, 1)],
    "masknet sequential blocks": [(128, 64, 1, 1), (128, 64, 1, 2), (128, 64, 1, 4), (128, 64, 1, 8)],
    "transformer d_model": [(8, 4, 2, 2, 64), (16, 4, 2, 2, 64), (32, 4, 2, 2, 128), (48, 4, 2, 2, 192)],
    "transformer sequence length": [(8, 4, 2, 2, 64), (8, 8, 2, 2, 64), (8, 16, 2, 2, 64), (8, 32, 2, 2, 64)],
    "transformer layers": [(8, 4, 1, 2, 64), (8, 4, 2, 2, 64), (8, 4, 4, 2, 64), (8, 4, 8, 2, 64)],
    "transformer heads": [(8, 4, 2, 1, 64), (8, 4, 2, 2, 64), (8, 4, 2, 4, 64), (8, 4, 2, 8, 64)],
    "transformer ffn_dim": [(8, 4, 2, 2, 32), (8, 4, 2, 2, 64), (8, 4, 2, 2, 128), (8, 4, 2, 2, 256)],
    "rankmixer d_model": [(16, 4, 2, 64), (32, 4, 2, 128), (64, 4, 2, 256), (96, 4, 2, 384)],
    "rankmixer sequence length": [(16, 2, 2, 64), (16, 4, 2, 64), (16, 8, 2, 64), (16, 16, 2, 64)],
    "rankmixer layers": [(16, 4, 1, 64), (16, 4, 2, 64), (16, 4, 4, 64), (16, 4, 8, 64)],
    "rankmixer ffn_dim": [(16, 4, 2, 32), (16, 4, 2, 64), (16, 4, 2, 128), (16, 4, 2, 256)],
}
"""By axis, V1..V4: widths of the paper over 16; tokens, their width and the feed-forward width over 4; numbers as they are."""


def _factors(flags: tuple[tuple[str, str], ...]) -> tuple[int, ...]:
    given = dict(flags)
    return tuple(int(given[name]) for name in FLAGS[given["backbone"]])


def test_backbone_arms_are_table_1_scaled_down() -> None:
    study = studies.load("backbone").declare(Setup(False, None))
    found = {axis.name: [_factors(study.arm(name).flags) for _, name in axis.levels] for axis in study.axes}
    assert found == BY_HAND
    assert len(study.arms) == len({arm.flags for arm in study.arms}) == 49
    assert all(study.arm(name).name == name for name in study.families.values()) and study.families == {name: name for name in FLAGS}
    assert {axis.name: axis.base for axis in study.axes}["masknet cross width"] == 128
    for arm in study.arms:
        given = dict(arm.flags)
        backbones.make_config(given.pop("backbone"), {name: int(value) for name, value in given.items()})


def test_published_figures_belong_to_the_rows() -> None:
    assert {(row.backbone, row.name) for row in table1_flops.ROWS} == set(TABLE_1)
    study = studies.load("backbone").declare(Setup(False, None))
    assert study.paper["masknet cross_width 256"] == "+0.64 % mAP, -27.13 % items/s, 33.31e7 FLOPs"
    assert not set(DIVISORS) & set(KEPT)


@pytest.mark.parametrize("name", [name for name in studies.names() if hasattr(studies.load(name), "declare")])
@pytest.mark.parametrize("size", [FULL, QUICK])
def test_every_study_is_consistent(name: str, size: object) -> None:
    study = studies.load(name).declare(Setup(size is QUICK, size.period))  # type: ignore[attr-defined]
    names = [arm.name for arm in study.arms]
    assert len(set(names)) == len(names) and study.reference in names
    assert set(study.families) == {arm.family for arm in study.evaluated} and set(study.families.values()) <= set(names)
    assert {arm for axis in study.axes for _, arm in axis.levels} | set(study.raised) <= set(names)
    assert all(axis.base in [level for level, _ in axis.levels] for axis in study.axes)
    assert len({lists.name for lists in study.lists}) == len(study.lists)


def test_periods() -> None:
    period = FULL.period
    assert str(period.first) == "2026-01-01 00:00:00" and str(period.validation_from) == "2026-02-10 00:00:00"
    assert str(period.test_from) == "2026-02-12 00:00:00" and str(period.end) == "2026-02-19 00:00:00"
    assert str(period.start(0.25)) == "2026-01-31 00:00:00" and period.days(0.25) == 10
    assert FULL.days == 52
    with pytest.raises(CvrError, match="--study=data builds lists of its own"):
        studies.load("data").declare(Setup(False, None))


def test_spec_changes() -> None:
    text = "tables: {item: {dim: 8}}\nfeatures: {title: {table: item}}\n"
    changed = edited(text, (("tables.item.dim", 16), ("features.title.table", None), ("features.title.embedding", {"dim": 2})))
    assert changed == "tables:\n  item:\n    dim: 16\nfeatures:\n  title:\n    embedding:\n      dim: 2\n"
    with pytest.raises(CvrError, match="the spec has no 'query' of features.query.table"):
        edited(text, (("features.query.table", None),))


@pytest.mark.parametrize("name", ["embedding", "compound"])
def test_changes_of_an_arm_need_no_other_lists(name: str) -> None:
    study, text = studies.load(name).declare(Setup(False, FULL.period)), Path(SYNTHETIC_SPEC).read_text(encoding="utf-8")
    stored = parse_spec(text).fingerprint
    found = [parse_spec(edited(text, arm.edits)) for arm in study.arms]
    assert {spec.fingerprint for spec in found} == {stored}

"""The studies of ETA and of DAGFM on results that are known."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cvr import backbones, encoders
from cvr.schema import parse_spec
from tests.tools.scaling.test_studies import _words
from tools.scaling.declare import Setup
from tools.scaling.logs import FULL, SYNTHETIC_SPEC, edited
from tools.scaling.studies import dagfm, eta

DIRECTION, NOT = "reproduced direction", "not reproduced"


@pytest.mark.parametrize(("gain", "words"), [(0.02, (DIRECTION, DIRECTION)), (0.0, (NOT, NOT)), (0.03, (DIRECTION, NOT))])
def test_eta(tmp_path: Path, gain: float, words: tuple[str, str]) -> None:
    gains = {"recent": 0.0, "top-k": gain, "everything": 0.02, "target attention": 0.02}
    found = _words(tmp_path, "eta", gains.__getitem__)
    assert found == {"3.11 cost": "mechanism only", "3.11 more than the recent events": words[0], "3.11 as much as all events": words[1]}


def test_the_arms_of_eta_read_what_they_say() -> None:
    """On the lists' spec: 200 events, and nothing else that reads them per item."""
    study = eta.declare(Setup(False, FULL.period))
    text = edited(Path(SYNTHETIC_SPEC).read_text(encoding="utf-8"), (*eta.LISTS.edits, *study.arms[0].edits))
    spec = parse_spec(text)
    assert spec.features["history"].history.length == eta.LENGTH and not any(f.derive and f.derive.history for f in spec.features.values())
    for arm in study.arms:
        content = yaml.safe_load(text)
        content["features"]["history"]["encoder"] = yaml.safe_load(dict(arm.flags)["encoder"])
        encoders.make_encoder(parse_spec(yaml.safe_dump(content, sort_keys=False)).features["history"], 8, arm.name)


@pytest.mark.parametrize(("gain", "flops", "words"), [(0.02, 100, (DIRECTION, DIRECTION, "exact")), (0.0, 500, (NOT, NOT, NOT))])
def test_dagfm(tmp_path: Path, gain: float, flops: int, words: tuple[str, str, str]) -> None:
    gains = {"teacher": 0.02, "student": 0.0, "frozen": 0.01, "distilled": gain}
    found = _words(tmp_path, "dagfm", gains.__getitem__, lambda arm: 1000 if arm == "teacher" else flops)
    assert found == dict(zip(("3.10 better than alone", "3.10 as good as the teacher", "3.10 FLOPs"), words, strict=True))


def test_the_arms_of_dagfm_are_backbones() -> None:
    for flags in dagfm.ARMS.values():
        own = {name: int(value) for name, value in flags.items() if value.isdigit()}
        backbones.make_config(flags["backbone"], own, "S")

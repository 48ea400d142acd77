"""The study of generative pre-training on results that are known, and the runs that its arms need."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cvr import encoders
from cvr.schema import parse_spec
from tests.tools.scaling.test_studies import _words
from tools.scaling.declare import Setup
from tools.scaling.logs import FULL, SYNTHETIC_SPEC, Source, edited
from tools.scaling.runs import Runs
from tools.scaling.studies import gpsd

CLAIMS = ("3.12 scratch over-fits", "3.12 STSF grows", "3.12 the gap widens", "3.12 STSF beats scratch")


@pytest.mark.parametrize(
    ("falls", "rises", "word", "monotone"), [(-0.01, 0.01, "reproduced direction", "exact"), (0.0, 0.0, "not reproduced", "not reproduced")]
)
def test_gpsd(tmp_path: Path, falls: float, rises: float, word: str, monotone: str) -> None:
    """Scratch loses and STSF gains .01 at each doubling; or neither does, and STSF falls by less than is seen."""

    def gain(arm: str) -> float:
        kind, dim = arm.split(" ")
        doublings = int(dim).bit_length()
        return {"scratch": falls, "stsf": rises or -1e-5}.get(kind, 0.0) * doublings

    assert _words(tmp_path, "gpsd", gain) == {**dict.fromkeys(CLAIMS, word), "3.12 STSF is monotone": monotone}


def test_its_arms_are_encoders_of_the_spec_and_need_their_pre_training(tmp_path: Path) -> None:
    study = gpsd.declare(Setup(False, FULL.period))
    text = Path(SYNTHETIC_SPEC).read_text(encoding="utf-8")
    for arm in study.arms:
        content = yaml.safe_load(edited(text, arm.edits))
        content["features"]["history"]["encoder"] = yaml.safe_load(dict(arm.flags)["encoder"])
        spec = parse_spec(yaml.safe_dump(content, sort_keys=False))
        feature = spec.features["history"]
        table, size = spec.embedding_of(feature)
        encoders.make_encoder(feature, size.dim, arm.name)
        kind, dim = arm.name.split(" ")
        assert (table, size.dim) == ("item", int(dim)) and arm.is_evaluated == (kind != "pretrain")
        assert arm.needs == ((f"pretrain {dim}",) if kind in ("full", "stsf") else ())
    runs = Runs(study, Source(tmp_path, SYNTHETIC_SPEC, given=None), tmp_path, "base.flags", 1)
    job = runs.jobs({"masknet": ()})["stsf 8", 0]
    (needed,) = job.needs
    assert needed.words[0] == "cvr.pretrain" and f"--warm_start_from={tmp_path / 'runs' / 'pretrain_8' / 'seed0'}" in job.commands[0].words
    assert "--freeze_tables=item" in job.commands[0].words

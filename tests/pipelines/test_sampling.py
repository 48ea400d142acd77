"""Scaling knobs: a seeded sample of the training lists, more data means older days, and an evaluation week that stays the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvr.manifest import Manifest
from cvr.transforms import hash_strings
from pipelines.job import build
from pipelines.lists import sampled
from tests.pipelines.logs import DAY, HOUR, T0, settings, small_log, write_log

SEARCHES = hash_strings([f"s{number}" for number in range(20_000)]).numpy()


@pytest.mark.parametrize("seed", [0, 1, 12345])
@pytest.mark.parametrize("rate", [0.01, 0.1, 0.25, 0.5, 0.9])
def test_the_rate_is_within_four_standard_deviations(rate: float, seed: int) -> None:
    share = sampled(SEARCHES, rate, seed).mean()
    assert abs(share - rate) < 4 * np.sqrt(rate * (1 - rate) / len(SEARCHES))


def test_a_smaller_sample_is_part_of_a_larger_one() -> None:
    rates = [0.05, 0.1, 0.25, 0.5, 0.999, 1.0]
    masks = [sampled(SEARCHES, rate, 7) for rate in rates]
    for small, large in zip(masks, masks[1:], strict=False):
        assert (large | ~small).all() and small.sum() < large.sum()
    assert masks[-1].all()


def test_seeds_give_samples_of_their_own_and_the_same_again() -> None:
    one, other = sampled(SEARCHES, 0.5, 1), sampled(SEARCHES, 0.5, 2)
    assert (one == sampled(SEARCHES, 0.5, 1)).all()
    assert abs((one & other).mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / len(SEARCHES))


def test_a_list_is_drawn_by_its_own_id_alone() -> None:
    whole = sampled(SEARCHES, 0.3, 5)
    assert (sampled(SEARCHES[::-1].copy(), 0.3, 5)[::-1] == whole).all()
    assert (sampled(SEARCHES[100:200], 0.3, 5) == whole[100:200]).all()


# Whole builds ---------------------------------------------------------------------------------------------------------------------

FROM = {"validation_from": T0 + DAY, "test_from": T0 + 2 * DAY}
CHANGES: dict[str, dict[str, Any]] = {
    "everything": {},
    "start": {"start": T0 + 10 * HOUR},
    "half": {"sampling_rate": 0.5, "sampling_seed": 3},
    "quarter": {"sampling_rate": 0.25, "sampling_seed": 3},
}


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Manifest]]:
    """The tiny log, 12 lists in each of train and validation and 4 in test, built with each of the changes."""
    log = write_log(tmp_path_factory.mktemp("log"), *small_log())
    outputs = {name: tmp_path_factory.mktemp("out") for name in CHANGES}
    return {name: (output, build(settings(log, output, **FROM, **CHANGES[name]))) for name, output in outputs.items()}


def _files(built: tuple[Path, Manifest], split: str) -> dict[str, bytes]:
    return {path.name + path.parent.name: path.read_bytes() for path in built[0].glob(f"data-*/{split}/*/part-*")}


@pytest.mark.parametrize("change", ["start", "half", "quarter"])
def test_evaluation_stays_the_same_byte_for_byte(change: str, builds: dict[str, tuple[Path, Manifest]]) -> None:
    whole, changed = builds["everything"], builds[change]
    assert changed[1].split("train").lists < whole[1].split("train").lists == 12
    for split, lists in (("validation", 12), ("test", 4)):
        assert _files(changed, split) == _files(whole, split) and whole[1].split(split).lists == lists
        mine, theirs = (built[1].split(split).model_dump(exclude={"files"}) for built in (changed, whole))
        assert mine == theirs
    assert changed[1].counts["attribution"] == whole[1].counts["attribution"]


def test_what_the_counts_say(builds: dict[str, tuple[Path, Manifest]]) -> None:
    names = [f"s{number}" for number in range(12)]
    drawn = {rate: sampled(hash_strings(names).numpy(), rate, 3) for rate in (0.25, 0.5)}
    assert 0 < drawn[0.25].sum() < drawn[0.5].sum() < 12
    for change, rate in (("half", 0.5), ("quarter", 0.25)):
        counts = builds[change][1].counts["lists"]
        assert counts["not_sampled"] == 12 - drawn[rate].sum() and counts["kept"] == 28 - counts["not_sampled"]
        assert builds[change][1].split("train").lists == drawn[rate].sum()
        assert builds[change][1].flags["sampling_rate"] == rate
    assert builds["everything"][1].counts["lists"]["not_sampled"] == 0
    # With --start at 10:00 the searches of 00:00, 02:00 .. 08:00 are out.
    start = builds["start"][1]
    assert start.counts["lists"]["out_of_range"] == 5 and start.split("train").lists == 7

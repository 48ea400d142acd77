"""Checks that published lists are what their manifest and spec say."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from cvr.manifest import Manifest, Moments, Split
from pipelines.settings import format_time
from pipelines.validation.conformance import KINDS
from pipelines.validation.merging import Found, Partial
from pipelines.validation.results import Check, Figures, judged

AREA = "conformance"
_CLOSE = 1e-6
_CLOSE_FIELDS = ("total", "total_squares", "log_total", "log_total_squares")


def conformance_checks(figures: Figures) -> list[Check]:
    """All checks of files, records and the manifest's own figures."""
    manifest = figures.manifest
    return [
        *_violation_checks(figures),
        judged(AREA, "the fingerprint is the spec's", _fingerprint(figures), manifest.spec_fingerprint),
        judged(
            AREA,
            "every split holds lists",
            _empty(manifest),
            ", ".join(f"{k} {v.lists:,}" for k, v in manifest.splits.items()),
        ),
        judged(AREA, "splits do not overlap in time", _overlaps(manifest), f"{len(manifest.splits)} splits"),
        *_manifest_checks(figures),
    ]


def _violation_checks(figures: Figures) -> Iterator[Check]:
    found = figures.violations()
    for kind, name in KINDS.items():
        wrong = found.get(kind, Found())
        finding = f"{wrong.count:,} found" if wrong.count else "none found to differ"
        yield Check(AREA, name, "fail" if wrong.count else "pass", finding, wrong.examples)


def _fingerprint(figures: Figures) -> list[str]:
    said, has = figures.manifest.spec_fingerprint, figures.spec.fingerprint
    return (
        [f"the manifest says {said}, its spec has {has}: another version of cvr built the lists; build them anew"]
        if said != has
        else []
    )


def _empty(manifest: Manifest) -> list[str]:
    wrong = [] if "train" in manifest.splits else ["there is no train split"]
    return wrong + [
        f"{name} holds no list" for name, split in manifest.splits.items() if not split.lists or not split.files
    ]


def _overlaps(manifest: Manifest) -> list[str]:
    spans = [
        (s.first_time, s.last_time, name)
        for name, s in manifest.splits.items()
        if s.first_time is not None and s.last_time is not None
    ]
    spans.sort()
    return [
        f"{before} lasts until {format_time(last)}, {after} begins at {format_time(first)}"
        for (_, last, before), (first, _, after) in zip(spans, spans[1:], strict=False)
        if last >= first
    ]


def _manifest_checks(figures: Figures) -> Iterator[Check]:
    names = {
        "counts of the manifest are those of the records": _count_differences,
        "list lengths and positions of the manifest are those of the records": _histogram_differences,
        "statistics of the manifest are those of the records": _statistic_differences,
        "coverage of the manifest is that of the records": _coverage_differences,
    }
    for name, differences in names.items():
        if figures.unread:
            yield Check(AREA, name, "skip", f"{figures.unread} files could not be used")
        elif differences is _coverage_differences and not any(
            split.coverage for split in figures.manifest.splits.values()
        ):
            yield Check(AREA, name, "skip", "the manifest has no coverage")
        else:
            bad = [f"{split}: {text}" for split in figures.splits for text in differences(figures, split)]
            yield judged(AREA, name, bad, "all agree")


def _differ(name: str, said: Any, found: Any) -> list[str]:
    return [] if said == found else [f"{name}: {said} in the manifest, {found} in the records"]


def _count_differences(figures: Figures, split: str) -> list[str]:
    said, whole = figures.manifest.splits[split], figures.whole(split)
    listed = sum(file.lists for file in said.files), sum(file.items for file in said.files)
    found = {
        "lists": whole["lists"],
        "items": whole["items"],
        "max_list_size": max(map(int, whole["list_lengths"])),
        "first_time": whole["times"].low,
        "last_time": whole["times"].high,
        "labels": whole["labels"],
        "lists_with": whole["lists_with"],
    }
    wrong = [text for name, value in found.items() for text in _differ(name, getattr(said, name), value)]
    return wrong + _differ("sums over its files", listed, (said.lists, said.items))


def _histogram_differences(figures: Figures, split: str) -> list[str]:
    said, whole = figures.manifest.counts.get("splits", {}).get(split, {}), figures.whole(split)
    found = {
        "list_lengths": whole["list_lengths"],
        **{f"positions.{name}": counts for name, counts in whole["positions"].items()},
    }
    told = {
        "list_lengths": said.get("list_lengths"),
        **{f"positions.{k}": v for k, v in said.get("positions", {}).items()},
    }
    return [
        f"{name} differs"
        for name, counts in found.items()
        if told.get(name) is not None and _clean(told[name]) != _clean(counts)
    ]


def _clean(counts: dict[str, int]) -> dict[str, int]:
    return {key: count for key, count in counts.items() if count}


def _statistic_differences(figures: Figures, split: str) -> list[str]:
    said: Split = figures.manifest.splits[split]
    sketches = figures.whole(split)["numbers"]
    wrong = []
    for feature in figures.spec.select(kind="numerical", stored=True):
        if feature.name not in said.statistics:
            wrong.append(f"{feature.name}: not in the manifest")
        elif not _alike(said.statistics[feature.name], sketches[feature.name].moments):
            told, has = _tell(said.statistics[feature.name]), _tell(sketches[feature.name].moments)
            wrong.append(f"{feature.name}: {told} in the manifest, {has} in the records")
    return wrong


def _tell(moments: Moments) -> str:
    mean, std = moments.mean_std()
    return f"count {moments.count:,}, mean {mean:.6g}, std {std:.6g}, missing {moments.missing:,}, unseen {moments.unseen:,}"


def _alike(said: Moments, found: Moments) -> bool:
    one, other = said.model_dump(), found.model_dump()
    exact = {name for name in one if name not in _CLOSE_FIELDS}
    size = math.sqrt(found.count * found.total_squares), math.sqrt(found.count * found.log_total_squares)
    scale = {
        "total": size[0],
        "log_total": size[1],
        "total_squares": found.total_squares,
        "log_total_squares": found.log_total_squares,
    }
    return all(one[name] == other[name] for name in exact) and all(
        abs(one[n] - other[n]) <= _CLOSE * scale[n] for n in _CLOSE_FIELDS
    )


def _coverage_differences(figures: Figures, split: str) -> list[str]:
    days: dict[str, Partial] = figures.read_days(split)
    told = figures.manifest.splits[split].coverage
    wrong = _differ("days", sorted(told), sorted(days))
    for day in days.keys() & told.keys():
        for name, counts in days[day]["coverage"].items():
            said = told[day][name].model_dump() if name in told[day] else None
            wrong += _differ(f"{day} {name}", said, counts)
    return sorted(wrong)

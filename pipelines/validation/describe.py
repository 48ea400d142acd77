"""Figures of features as plain values, for validation.json and the page."""

from __future__ import annotations

from typing import Any

from cvr.schema import FeatureSpec
from pipelines.validation.merging import Partial
from pipelines.validation.profile import ITEM, POPULARITY
from pipelines.validation.sketches import IdSketch, NumberSketch

QUANTILES = {"p01": 0.01, "p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99}

Row = dict[str, Any]


def numbers(sketch: NumberSketch) -> Row:
    """Counts, moments, extremes and quantiles (relative error 1 %); None where there is no value."""
    moments = sketch.moments
    mean, std = moments.mean_std()
    none = not moments.count
    row: Row = {"count": moments.count, "missing": moments.missing, "unseen": moments.unseen, "zeros": sketch.zeros}
    row |= {"mean": None if none else mean, "std": None if none else std, "min": moments.minimum}
    row |= {name: sketch.quantile(share) for name, share in QUANTILES.items()}
    return row | {"max": moments.maximum}


def ids(sketch: IdSketch) -> Row:
    """Counts by kind of id, an estimate of the distinct real ones, and the share of the most frequent (`heavy_error` bounds its error)."""
    row: Row = {"count": sketch.real, "empty": sketch.empty, "unseen": sketch.unseen, "unknown": sketch.unknown}
    error = sketch.heavy_error / sketch.real if sketch.real else 0.0
    return row | {
        "distinct": round(sketch.distinct()),
        "top": sketch.top_share(1),
        "top_10": sketch.top_share(10),
        "top_error": error,
    }


def sizes(sketch: NumberSketch) -> Row:
    """Lengths of bags or histories, and the share of empty ones."""
    count = sketch.moments.count
    return {**numbers(sketch), "empty_share": sketch.zeros / count if count else None}


def features(spec: FeatureSpec, partial: Partial) -> dict[str, Row]:
    """Every stored feature, and the record's own columns: {name: {kind, level, numbers | ids [, sizes]}}."""
    kinds = {f.name: (f.kind, f.level) for f in spec.select(stored=True)}
    kinds |= {POPULARITY: ("numerical", "item"), ITEM: ("categorical", "item")}
    found: dict[str, Row] = {}
    for name, (kind, level) in kinds.items():
        row: Row = {"kind": kind, "level": level}
        if name in partial["numbers"]:
            row["numbers"] = numbers(partial["numbers"][name])
        if name in partial["ids"]:
            row["ids"] = ids(partial["ids"][name])
        if name in partial["sizes"]:
            row["sizes"] = sizes(partial["sizes"][name])
        found[name] = row
    return found

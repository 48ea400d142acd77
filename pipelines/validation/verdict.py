"""All checks and figures of a validation in one document, `validation.json`."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

from pipelines.validation import describe, labels
from pipelines.validation.baseline import baseline_checks, baseline_drift, compared
from pipelines.validation.conformance_checks import conformance_checks
from pipelines.validation.coverage import coverage_checks, launches
from pipelines.validation.drift import Drift, drift_checks, drift_of
from pipelines.validation.leak_checks import best_scores, leak_checks
from pipelines.validation.merging import Found, Partial
from pipelines.validation.results import Check, Figures, Status, Thresholds

PASSED, FAILED = 0, 3
"""Exit codes; 1 is an error, 2 are wrong flags."""

Document = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The document, and what its figures are drawn from."""

    document: Document
    checks: list[Check]
    figures: Figures
    drift: dict[str, list[Drift]]

    @property
    def exit_code(self) -> int:
        """0 passed, 3 failed."""
        return int(self.document["exit_code"])


def judge(
    figures: Figures, duplicates: Partial, other: Figures | None, thresholds: Thresholds, fail_on: str
) -> Verdict:
    """Judges all figures; `fail_on` is `fail`, or `warn` where warnings fail a validation too."""
    drift = drift_of(figures, thresholds.min_lists)
    against = baseline_drift(figures, other, thresholds.min_lists) if other else {}
    found_delays = labels.delays(figures)
    checks = [
        *conformance_checks(figures),
        *_duplicate_checks(duplicates),
        *coverage_checks(figures, thresholds),
        *drift_checks(drift, thresholds),
        *labels.list_checks(figures),
        *labels.funnel_checks(figures),
        *labels.delay_checks(found_delays, figures),
        *leak_checks(figures, thresholds),
        *(baseline_checks(figures, other, against, thresholds) if other else []),
    ]
    failed = any(check.status in ("fail", fail_on) for check in checks)
    document: Document = {
        **_origin(figures, thresholds),
        "passed": not failed,
        "exit_code": FAILED if failed else PASSED,
        "checks": [dataclasses.asdict(check) for check in checks],
        "duplicates": {kind: dataclasses.asdict(found) for kind, found in duplicates.items()},
        "splits": {split: _split(figures, split) for split in figures.splits},
        "launches": launches(figures),
        "delays": found_delays,
        "drift": {group: [_row(drift) for drift in drifts] for group, drifts in drift.items()},
    }
    if other:
        document["baseline"] = {"folder": other.folder, "volumes": compared(figures, other)}
        document["baseline"]["drift"] = {split: [_row(drift) for drift in drifts] for split, drifts in against.items()}
    return Verdict(document, checks, figures, drift)


def _origin(figures: Figures, thresholds: Thresholds) -> Document:
    manifest = figures.manifest
    return {
        "lists": figures.folder,
        "dataset": manifest.dataset,
        "built": manifest.created,
        "validated": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "data_fingerprint": manifest.data_fingerprint(),
        "spec_fingerprint": manifest.spec_fingerprint,
        "changes": manifest.changes,
        "es3": manifest.counts.get("es3", {}),
        "thresholds": dataclasses.asdict(thresholds),
    }


def _row(drift: Drift) -> Document:
    flat = dataclasses.asdict(drift)
    return {**{key: value for key, value in flat.items() if key != "found"}, **flat["found"]}


def _split(figures: Figures, split: str) -> Document:
    whole, days, spec = figures.whole(split), figures.read_days(split), figures.spec
    return {
        **labels.list_facts(whole),
        "first_time": whole["times"].low,
        "last_time": whole["times"].high,
        "funnel": {
            "all": labels.funnel(spec, whole),
            "days": {day: labels.funnel(spec, partial) for day, partial in days.items()},
        },
        "positions": {task: labels.positions(whole, task) for task in spec.task_names},
        "orders": labels.orders(whole),
        "leaks": {task: [dataclasses.asdict(score) for score in best_scores(whole, task)] for task in spec.task_names},
        "coverage": {day: partial["coverage"] for day, partial in days.items()},
        "features": {
            "all": describe.features(spec, whole),
            "days": {day: describe.features(spec, p) for day, p in days.items()},
        },
    }


def _duplicate_checks(duplicates: Partial) -> list[Check]:
    names: dict[str, tuple[str, Status]] = {
        "searches": ("every search stands in one record", "fail"),
        "across_splits": ("no search stands in two splits", "fail"),
        "content": ("no two searches have equal content", "warn"),
    }
    checks = []
    for kind, (name, worst) in names.items():
        found: Found | None = duplicates.get(kind)
        if found is None:
            checks.append(Check("duplicates", name, "skip", "no list could be read"))
            continue
        finding = f"{found.count:,} more than once" if found.count else "none"
        checks.append(Check("duplicates", name, worst if found.count else "pass", finding, found.examples))
    return checks

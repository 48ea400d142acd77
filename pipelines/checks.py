"""What a build refuses, and the messages that say what to do."""

from __future__ import annotations

import json
from collections.abc import Sequence

from apache_beam.io.filesystems import FileSystems

from cvr.errors import CvrError
from pipelines.counts import Counts
from pipelines.es3 import checks as es3_checks
from pipelines.es3.options import DOMAIN, EXPOSURE
from pipelines.reading import wanted_columns
from pipelines.settings import IMPRESSION, FeatureTable, Settings, format_time, plan_of
from pipelines.sources import source
from pipelines.sources.files import InputFile


def check_columns(settings: Settings, files: Sequence[InputFile]) -> None:
    """Raises CvrError where no file has a column that the spec reads; a feature with `introduced_on` may be absent everywhere."""
    have: dict[str, set[str]] = {}
    for file in files:
        for table, names in source(settings.source).columns(file).items():
            have.setdefault(table, set()).update(names)
    if settings.feature_table:
        _check_keys(settings.feature_table, have.get("impressions", set()))
        have.setdefault("impressions", set()).update(settings.feature_table.columns)
    es3_checks.check(settings, have)
    plan = plan_of(settings)
    for feature in plan.spec.select(stored=True):
        origin, _, name = (feature.column or "").partition(".")
        table = {"impression": "impressions", "item": "items"}.get(origin)
        supplied = feature.column in (f"impression.{DOMAIN}", f"impression.{EXPOSURE}")
        if table and not supplied and name not in have.get(table, set()) and feature.introduced_on is None:
            columns = ", ".join(sorted(have.get(table, set()))) or "no such table"
            message = f"{settings.spec_name}: features.{feature.name}: the {table} have no column {name!r}; they have {columns}"
            advice = "Remove the feature, mend its `from`, or give it `introduced_on` if it comes later"
            if not settings.labels_required:
                advice = "Give --input=... a log that has it, or --table=... a feature table"
            raise CvrError(f"{message}. {advice}")
    if "query" in wanted_columns(settings)["impressions"] and "query" not in have.get("impressions", set()):
        raise CvrError(
            f"{settings.spec_name}: an aggregate counts by query, but the impressions have no column 'query'"
        )


def _check_keys(table: FeatureTable, have: set[str]) -> None:
    missing = [name for name in table.keys if name not in have]
    if missing:
        columns = ", ".join(sorted(have))
        raise CvrError(f"--table_keys: the impressions have no column {', '.join(missing)} to look up by; they have {columns}")


def check_counts(settings: Settings, counts: Counts) -> None:
    """Raises CvrError for what only reading everything can show: broken files, bad rows, unknown events, empty splits and labels."""
    if counts.get("failures"):
        raise CvrError("\n".join(sorted(counts["failures"])))
    _check_bad(settings, counts)
    _check_events(settings, counts)
    if settings.labels_required:
        _check_splits(settings, counts)
        _check_labels(settings, counts)


def _check_bad(settings: Settings, counts: Counts) -> None:
    rows, bad = (sum(counts[key].values()) for key in ("rows", "bad"))
    if not counts["rows"].get("impressions"):
        raise CvrError(f"--input={settings.input}: the log has no impressions, so there is no list to build")
    if bad > rows * settings.max_bad_fraction:
        share = (
            f"{bad} of {rows} rows are bad ({bad / rows:.2%}, allowed --max_bad_fraction={settings.max_bad_fraction:g})"
        )
        raise CvrError(f"{share}; {first_bad(settings)}. Mend the log, or allow more")


def first_bad(settings: Settings) -> str:
    """Describes the first bad row of the dead-letter files."""
    pattern = FileSystems.join(settings.output, settings.data_folder, "bad", "*.jsonl")
    paths = sorted(entry.path for entry in FileSystems.match([pattern])[0].metadata_list)
    if not paths:
        return "no example was kept"
    with FileSystems.open(paths[0]) as file:
        letter = json.loads(file.readline())
    return f"the first: {letter['file']}, {letter['table']} row {letter['row']} (from 0): {letter['reason']}; {letter['record']}"


def _check_events(settings: Settings, counts: Counts) -> None:
    plan, have = plan_of(settings), set(counts["events"])
    listed = ", ".join(sorted(have)) or "none"
    for name, task in plan.tasks.items():
        unknown = sorted(set(task.events) - have)
        if unknown and settings.labels_required:
            raise CvrError(
                f"{settings.spec_name}: tasks.{name}.events: the log has no event {', '.join(unknown)}; it has {listed}"
            )
    for feature in plan.spec.select(stored=True):
        named = set(feature.history.events if feature.history else ())
        named |= {feature.aggregate.event, feature.aggregate.per or IMPRESSION} if feature.aggregate else set()
        unknown = sorted(named - have - {IMPRESSION})
        if unknown and feature.introduced_on is None:
            raise CvrError(
                f"{settings.spec_name}: features.{feature.name}: the log has no event {', '.join(unknown)}; it has {listed}"
            )


def _check_splits(settings: Settings, counts: Counts) -> None:
    seen = counts.get("lists", {})
    for name, low, high in settings.splits():
        if not counts.get("splits", {}).get(name, {}).get("lists"):
            first = format_time(low) if low is not None else "the beginning"
            last = format_time(high) if high is not None else "the end"
            reasons = ", ".join(f"{key} {value}" for key, value in seen.items())
            raise CvrError(
                f"the {name} split (from {first} to {last}) holds no list, so nothing can be trained or measured on it; "
                f"the log ends at {format_time(counts.get('last_time'))}; lists: {reasons or 'none'}. "
                "Change --start, --validation_from, --test_from or --end, or the tasks' windows"
            )


def _check_labels(settings: Settings, counts: Counts) -> None:
    for task in plan_of(settings).tasks:
        if not counts["splits"]["train"]["labels"][task]:
            found = counts["attribution"][task]
            numbers = ", ".join(f"{key} {found[key]}" for key in ("attributed", "out_of_window", "unattributed"))
            raise CvrError(
                f"{settings.spec_name}: tasks.{task}: no training list has an engagement of this task "
                f"({numbers}, over all lists); check its events and window, and that search_id or customer_id and "
                "item_id of engagements and impressions agree"
            )

"""What the steps of ES3 need of a log and a spec, and what is printed about them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cvr.errors import CvrError
from pipelines.counts import Counts
from pipelines.es3.options import EXPOSURE
from pipelines.settings import Settings, plan_of


def check(settings: Settings, have: Mapping[str, set[str]]) -> None:
    """Raises CvrError where a step lacks a table, a column, a task or a feature; `have` are the columns of the log's tables."""
    es3, plan = settings.es3, plan_of(settings)
    if es3.unexposed_per_list and "candidates" not in have:
        raise CvrError(
            f"--unexposed_per_list={es3.unexposed_per_list}: {settings.input} holds no candidates/*.parquet or candidates/*.jsonl; "
            "a canonical log has them in that folder (docs/log_format.md)"
        )
    if es3.attribute_elsewhere and not any(es3.click_event in task.events for task in plan.tasks.values()):
        raise CvrError(
            f"--attribute_elsewhere: {settings.spec_name} has no task of the event {es3.click_event!r}, by which samples count as clicked; "
            "add one, or name the event with --click_event"
        )
    if es3.searchify:
        _check_columns(settings, have)


def _check_columns(settings: Settings, have: Mapping[str, set[str]]) -> None:
    es3, plan = settings.es3, plan_of(settings)
    flag = f"--searchify={','.join(es3.searchify)}"
    for option, name in (("item_title", es3.item_title), ("similar_by", es3.similarity_column)):
        if name not in have.get("items", set()):
            columns = ", ".join(sorted(have.get("items", set()))) or "no such table"
            raise CvrError(f"{flag}: the items have no column {name!r} to compare by; they have {columns}. Name another with --{option}")
    if not {"domain", "query"} <= have["impressions"]:
        raise CvrError(f"{flag}: the impressions need the columns domain and query; they have {', '.join(sorted(have['impressions']))}")
    read = {feature.column for feature in plan.spec.select(level="context", stored=True)}
    unread = [name for name in es3.query_columns if f"impression.{name}" not in read]
    if unread:
        raise CvrError(f"--query_columns={','.join(unread)}: no context feature of {settings.spec_name} reads impression.{unread[0]}")


def unmarked(settings: Settings) -> list[str]:
    """Marks that the lists need and no feature reads, so that no model could tell samples apart: columns of impressions."""
    es3, plan = settings.es3, plan_of(settings)
    wanted = {EXPOSURE: bool(es3.unexposed_per_list), "domain": bool(es3.searchify)}
    return [f"impression.{name}" for name, needed in wanted.items() if needed and name not in plan.columns("impression")]


def _told(found: Counts) -> str:
    return ", ".join(f"{key.replace('_', ' ').replace(':', ' ')} {value:,}" for key, value in found.items())


def report(counts: Counts) -> Iterator[str]:
    """Lines about each step that was on."""
    found = counts.get("es3", {})
    if found.get("unexposed"):
        yield f"un-exposed: {_told(found['unexposed'])}"
    for task, told in found.get("attribution", {}).items():
        yield f"elsewhere, task {task}: {_told(told)}"
    if found.get("unsplit_customers"):
        yield f"customers with more than --split_rows rows, kept whole: {found['unsplit_customers']:,}"
    if found.get("searchified"):
        yield f"lists of other domains: {_told(found['searchified'])}"

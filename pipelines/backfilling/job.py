"""A backfill from end to end: the asked features from the log, then every file of the new version, then its manifest.

1. `pipelines.job.build` makes lists of the asked features alone, of every list of the range, in the work folder.
2. Each published file of the range gets those values; the others are linked, or written anew where the new spec has more features.

With `--step_days` both are done for some days after the other, so that a kill costs no more than one step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems

from cvr.errors import CvrError
from cvr.manifest import MANIFEST_NAME, Manifest
from pipelines import job, write
from pipelines.backfilling import work
from pipelines.backfilling.files import Rewrite, Rewriting, link, save
from pipelines.backfilling.manifest import check, describe
from pipelines.backfilling.request import Plan, Request, build_settings, load_lists, plan
from pipelines.backfilling.table import prepare
from pipelines.backfilling.work import Workspace, get_json
from pipelines.runners import check_reach, pipeline_of, run_pipeline
from pipelines.settings import Settings, plan_of
from pipelines.sources.files import match

Result = dict[str, Any]


def backfill(request: Request, beam_flags: Sequence[str] = (), force: bool = False) -> Manifest:
    """Runs or goes on with a backfill and publishes the new version; `force` starts anew.

    Raises CvrError, with nothing published, for what does not fit; see docs/backfill.md.
    """
    asked = plan(request)
    with work.opened(asked, force) as (place, held):
        results: list[Result] = []
        for step in asked.steps():
            features = compute_features(step, place, beam_flags)
            results += _rewrite(step, place, features, beam_flags)
            _keep_bad_rows(features[0], place)
        manifest = describe(asked, results)
        check(asked, manifest, place)
        held.check()
        write.publish(place.output, manifest)
    work.remove(place)
    return manifest


def compute_features(asked: Plan, place: Workspace, beam_flags: Sequence[str]) -> tuple[Settings, Manifest]:
    """Lists of the asked features alone, in the work folder; those that an earlier run of this backfill finished stay."""
    settings = build_settings(asked, place.path("lists", asked.request.start))
    if FileSystems.exists(FileSystems.join(settings.output, MANIFEST_NAME)):
        return settings, load_lists(settings.output)
    return settings, job.build(with_table(asked, settings, place), beam_flags)


def with_table(asked: Plan, settings: Settings, place: Workspace) -> Settings:
    """The settings with the feature table that was asked for, prepared in the work folder."""
    table = asked.request.table
    if table is None:
        return settings
    assert settings.start is not None and settings.end is not None
    columns = plan_of(settings).columns("impression")
    prepared, _ = prepare(
        table,
        columns,
        (settings.start, settings.end),
        place.path(f"{place.data_folder}-{asked.request.start}.arrow"),
        place.data("bad", "feature_table.jsonl"),
        asked.request.max_bad_fraction,
    )
    return dataclasses.replace(settings, feature_table=prepared)


def _partition(path: str) -> tuple[str, str]:
    """(day, partition) of a record file; a partition may have several files, `part-00003...`."""
    _, day, name = path.rsplit("/", 2)
    return day, name[: len("part-00000")]


def _by_partition(features: Manifest, folder: str) -> dict[tuple[str, str], tuple[str, ...]]:
    """The features' files by day and partition of customers."""
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for split in features.splits.values():
        for file in split.files:
            key = _partition(file.path)
            found[key] = (*found.get(key, ()), FileSystems.join(folder, file.path))
    return found


def _rewrite(
    asked: Plan, place: Workspace, features: tuple[Settings, Manifest], beam_flags: Sequence[str]
) -> list[Result]:
    """What became of every file. Raises CvrError naming the files that could not be read."""
    settings, built = features
    known = _by_partition(built, settings.output)
    elements = [
        (piece, known.get(_partition(piece.file.path), ()) if piece.treatment == "merge" else ()) for piece in asked.pieces
    ]
    request = asked.request
    work = Rewriting(
        request.lists, place, asked.manifest.spec_text, asked.spec_text, settings.spec_text, request.features
    )
    path = place.path("results.json")
    pipeline = pipeline_of(beam_flags)
    check_reach(pipeline, lists=request.lists, output=request.output)
    (
        pipeline
        | beam.Create(elements)
        | beam.Reshuffle()
        | "Rewrite" >> beam.ParDo(Rewrite(work))
        | beam.combiners.ToList()
        | "Save" >> beam.Map(save, path)
    )
    run_pipeline(pipeline)
    results = get_json(path)
    failures = sorted(result["failure"] for result in results if "failure" in result)
    if failures:
        raise CvrError("\n".join(failures))
    return results


def _keep_bad_rows(settings: Settings, place: Workspace) -> None:
    """The log's bad rows stay with the new version."""
    for path in match(FileSystems.join(settings.output, "data-*", "bad", "*.jsonl")):
        link(path, place.data("bad", FileSystems.split(path)[1]))

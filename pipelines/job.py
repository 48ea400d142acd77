"""The Beam graph of a build, what is checked after it ran, and the manifest that publishes it.

    files -> ReadFile -> by customer -> Prepare -> tables ------------------------> by customer -> Finish -> record files
                |                         |  +--- split customers -> by slice -> Prepare -> the same three ways
                +-- items ---------+      +------ counts, requests
                                   +-> by key -> Answer -> answers and attributes --^

Where other domains become lists, `pipelines.es3.graph` hangs between Prepare and the two shuffles after it, as Slices do.

Every arrow "by" is a GroupByKey of (int, Arrow bytes). Counts of all steps are merged into one JSON file, which becomes the manifest.
A spec that asks for no counts of others and no attributes of items needs the first GroupByKey only.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import uuid
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam import typehints
from apache_beam.io.filesystems import FileSystems

from cvr.elwc import check_keys
from cvr.errors import CvrError
from cvr.manifest import Manifest
from pipelines import checks, statistics, write
from pipelines.claim import claim
from pipelines.counts import Counts, merge_all
from pipelines.es3 import graph
from pipelines.exchange import Answer
from pipelines.normalise import CANDIDATES
from pipelines.partition import COUNTS, EXCHANGE, SLICES, Finish, Prepare
from pipelines.reading import ReadFile
from pipelines.runners import check_reach, pipeline_of, run_pipeline, runs_here, use_cores
from pipelines.settings import Settings, format_time, plan_of
from pipelines.sources import source
from pipelines.sources.files import InputFile, estimated_rows

LEAST_PARTITIONS, PARTITION_ROWS = 8, 200_000
THREADS_FROM_ROWS = 2_000_000
_PIECES = typehints.KV[int, bytes]


def _typed(label: str) -> beam.ParDo:
    """Declares (int, bytes), so that the shuffle uses plain coders instead of pickle."""
    return label >> beam.Map(lambda element: element).with_output_types(_PIECES)


def _last_times(counts: Counts) -> list[int]:
    return [counts["last_time"]] if "last_time" in counts else []


def _save(counts: Counts, path: str) -> None:
    write.write_bytes(path, json.dumps(counts).encode())


def construct(pipeline: beam.Pipeline, settings: Settings, files: Sequence[InputFile]) -> None:
    """Adds a build to a pipeline; its last step writes all counts to `<data folder>/counts.json`."""
    tags = ("items", "counts", "failures")
    read = (
        pipeline
        | beam.Create(files)
        | beam.Reshuffle()
        | "Read" >> beam.ParDo(ReadFile(settings)).with_outputs(*tags, main="rows")
    )
    log_end = beam.pvalue.AsSingleton(
        read.counts
        | "Times" >> beam.FlatMap(_last_times)
        | "LogEnd" >> beam.CombineGlobally(lambda times: max(times, default=0))
    )

    def prepare(name: str, rows: beam.PCollection, may_split: bool) -> Any:
        tags = (EXCHANGE, SLICES, COUNTS, *(graph.TAGS if settings.es3.searchify else ()))
        step = beam.ParDo(Prepare(settings, may_split), log_end).with_outputs(*tags, main="tables")
        return rows | _typed(f"Type{name}") | f"Group{name}" >> beam.GroupByKey() | f"Prepare{name}" >> step

    parts = [prepare("Rows", read.rows, may_split=True)]
    parts.append(prepare("Slices", parts[0][SLICES], may_split=False))
    if settings.es3.searchify:
        parts.append(graph.searchify(parts[0], read.items, settings))
    counts = [read.counts, read.failures | beam.Map(lambda message: {"failures": [message]}), *(part[COUNTS] for part in parts)]
    if plan_of(settings).exchanges:
        asked = ((*(part[EXCHANGE] for part in parts), read.items) | "AllAsked" >> beam.Flatten()) | _typed("TypeAsked")
        answers = asked | "GroupAsked" >> beam.GroupByKey() | "Answer" >> beam.ParDo(Answer(settings))
        known = ((*(part.tables for part in parts), answers) | "AllKnown" >> beam.Flatten()) | _typed("TypeKnown")
        counts.append(known | "GroupKnown" >> beam.GroupByKey() | "Finish" >> beam.ParDo(Finish(settings)))
    path = FileSystems.join(settings.output, settings.data_folder, "counts.json")
    counts | beam.Flatten() | "Counts" >> beam.CombineGlobally(merge_all) | "Save" >> beam.Map(_save, path)


def build(settings: Settings, beam_flags: Sequence[str] = ()) -> Manifest:
    """Runs a build and publishes its manifest.

    Raises CvrError, with nothing published, for input, flags or a spec that do not fit together; see docs/data_engineers.md.
    """
    settings = dataclasses.replace(settings, build_id=uuid.uuid4().hex[:12])
    plan = plan_of(settings)
    if settings.record_format == "elwc":
        check_keys(plan.spec)
    pipeline = pipeline_of(beam_flags)
    check_reach(pipeline, input=settings.input, output=settings.output)
    write.check_filesystem(settings.input, "input")
    files = source(settings.source).find(settings.input)
    if settings.es3.unexposed_per_list and hasattr(source(settings.source), CANDIDATES):
        files += source(settings.source).candidates(settings.input, len(files))
    checks.check_columns(settings, files)
    rows = estimated_rows(files)
    settings = _sized(settings, pipeline, rows)
    if rows >= THREADS_FROM_ROWS and settings.spill:
        use_cores(pipeline, beam_flags)
    write.check_output(settings.output)
    with claim(settings.output, settings.build_id) as held:
        write.prepare_output(settings.output, settings.data_folder)
        try:
            construct(pipeline, settings, files)
            run_pipeline(pipeline)
            counts = _load_counts(settings)
            checks.check_counts(settings, counts)
            spilled = write.remove_spilled(settings.spill_folder)
            manifest = _manifest(settings, counts).model_copy(update={"costs": {"spilled_bytes": spilled}})
            held.check()
        except BaseException as error:
            letters = "" if isinstance(error, KeyboardInterrupt) else _keep_letters(settings)
            write.remove_data(settings.output, settings.data_folder)
            if letters and isinstance(error, CvrError):
                raise CvrError(f"{error}\nbad rows are kept until the next build: {letters}") from error
            raise
        write.publish(settings.output, manifest)
    return manifest


def _sized(settings: Settings, pipeline: beam.Pipeline, rows: int) -> Settings:
    """The settings with the number of partitions, and the way of the shuffle, where they were left open."""
    partitions = settings.partitions or max(LEAST_PARTITIONS, -(-rows // PARTITION_ROWS))
    spill = (write.is_local(settings.output) and runs_here(pipeline)) if settings.spill is None else settings.spill
    return dataclasses.replace(settings, partitions=partitions, spill=spill)


def _keep_letters(settings: Settings) -> str:
    return write.keep_dead_letters(settings.output, settings.data_folder, f"failed-{settings.build_id}")


def _load_counts(settings: Settings) -> Counts:
    path = FileSystems.join(settings.output, settings.data_folder, "counts.json")
    with FileSystems.open(path) as file:
        return json.loads(file.read())


def _manifest(settings: Settings, counts: Counts) -> Manifest:
    spec = plan_of(settings).spec
    histograms = ("list_lengths", "positions")
    splits: dict[str, Any] = {name: {} for name, _, _ in settings.splits()}
    for name, found in counts.get("splits", {}).items():
        kept = {key: value for key, value in found.items() if key not in histograms}
        kept["statistics"] = statistics.from_counts(found["statistics"])
        kept["coverage"] = {day: kept["coverage"][day] for day in sorted(kept.get("coverage", {}))}
        kept["files"] = sorted(found["files"], key=lambda file: file["path"])
        splits[name] = kept
    described = {name: {key: found[key] for key in histograms} for name, found in counts.get("splits", {}).items()}
    flags = {
        f.name: getattr(settings, f.name)
        for f in dataclasses.fields(settings)
        if f.name not in ("spec_text", "build_id", "feature_table", "labels_required", "es3")
    }
    flags |= {name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(settings.es3).items()}
    return Manifest(
        record_format=settings.record_format,
        dataset=spec.dataset,
        source=settings.source,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        spec_fingerprint=spec.fingerprint,
        spec_text=settings.spec_text,
        counts={**{key: value for key, value in counts.items() if key != "splits"}, "splits": described},
        flags={
            **flags,
            **{key: format_time(flags[key]) for key in ("start", "validation_from", "test_from", "end", "log_end")},
        },
        splits=splits,
    )

"""The Beam graph of a validation: every record file becomes partial figures, which merge per folder, split, day and half of the partitions.

files -> Inspect -> partials ----------------------------------------------> combine per key -> one file
            |  | -> digests -> GroupByKey(bucket) -> find duplicates -----------------^
            |    -> rates of ids -> combine -> side input of: scored files -> ScoreIds -^
"""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems

from cvr.errors import CvrError
from cvr.records import Layout
from pipelines import write
from pipelines.runners import check_reach, pipeline_of, run_pipeline
from pipelines.validation import conformance, duplicates, leaks
from pipelines.validation.facts import facts
from pipelines.validation.inputs import LISTS, Element, Source
from pipelines.validation.merging import Box, Partial, merge_boxes
from pipelines.validation.profile import profile

Key = tuple[str, str, str, int]
"""(role, split, day, half of the partitions); the results of `duplicates` stand under `WHOLE`."""
WHOLE: Key = (LISTS, "", "", 0)

_LISTS_PER_BUCKET = 500_000


class Inspect(beam.DoFn):
    """A record file -> (key, partial figures); tags `digests` (of the validated lists) and `rates` (of their ids, by split)."""

    def __init__(self, sources: dict[str, Source], buckets: int) -> None:
        self._sources, self._buckets = sources, buckets

    def process(self, element: Element) -> Iterator[Any]:
        source = self._sources[element.role]
        columns, wrong = conformance.read(source, element)
        if columns is None:
            yield element.key, Box({"files": 1, "unread": 1, "violations": wrong})
            return
        layout = Layout.of(source.spec)
        wrong |= conformance.check_values(source, element, columns)
        partial = {"files": 1, "violations": wrong, **facts(layout, columns), **profile(source.spec, layout, columns)}
        if element.role == LISTS:
            partial["leaks"] = leaks.measure_scores(layout, columns)
            for piece in duplicates.digests(layout, columns, element.number, self._buckets):
                yield beam.pvalue.TaggedOutput("digests", piece)
            if leaks.id_features(layout):
                yield beam.pvalue.TaggedOutput("rates", Box({element.split: leaks.learn_rates(layout, columns)}))
        yield element.key, Box(partial)


class ScoreIds(beam.DoFn):
    """A record file and the rates of all ids -> (key, partial figures of the leak detector)."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def process(self, element: Element, learnt: Box) -> Iterator[tuple[Key, Box]]:
        columns = conformance.decode_file(self._source, element)
        if columns is not None:
            found = leaks.measure_rates(Layout.of(self._source.spec), columns, learnt.partial[element.split])
            yield element.key, Box({"leaks": found})


def _save(totals: list[tuple[Key, Box]], path: str) -> None:
    write.write_bytes(path, pickle.dumps({key: box.partial for key, box in totals}))


def construct(pipeline: beam.Pipeline, sources: Sequence[Source], elements: Sequence[Element], path: str) -> None:
    """Adds a validation to a pipeline; its last step writes the merged partials, {key: partial}, to `path`."""
    by_role = {source.role: source for source in sources}
    lists = sum(element.lists for element in elements)
    inspected = (
        pipeline
        | beam.Create(elements)
        | beam.Reshuffle()
        | "Inspect"
        >> beam.ParDo(Inspect(by_role, 1 + lists // _LISTS_PER_BUCKET)).with_outputs(
            "digests", "rates", main="partials"
        )
    )
    places = [(element.split, element.path) for element in elements if element.role == LISTS]
    twice = (
        inspected.digests
        | "GroupDigests" >> beam.GroupByKey()
        | "FindTwice" >> beam.MapTuple(lambda key, pieces: (WHOLE, Box(duplicates.find(key, pieces, places))))
    )
    rates = inspected.rates | "Rates" >> beam.CombineGlobally(merge_boxes)
    scored = [
        element
        for element in elements
        if element.role == LISTS and element.scored and leaks.id_features(Layout.of(by_role[LISTS].spec))
    ]
    ids = (
        pipeline
        | "CreateScored" >> beam.Create(scored)
        | "SpreadScored" >> beam.Reshuffle()
        | "ScoreIds" >> beam.ParDo(ScoreIds(by_role[LISTS]), beam.pvalue.AsSingleton(rates))
    )
    (
        (inspected.partials, twice, ids)
        | beam.Flatten()
        | "Merge" >> beam.CombinePerKey(merge_boxes)
        | "Collect" >> beam.combiners.ToList()
        | "Save" >> beam.Map(_save, path)
    )


def measure(
    sources: Sequence[Source], elements: Sequence[Element], output: str, beam_flags: Sequence[str] = ()
) -> dict[Key, Partial]:
    """Runs a validation of record files and gives their merged partial figures by key.

    The workers' result comes back through a file in `output`, which is removed. Raises CvrError where that cannot be written, or the
    runner cannot run.
    """
    path = FileSystems.join(output, f".partials-{uuid.uuid4().hex[:12]}")
    pipeline = pipeline_of(beam_flags)
    check_reach(pipeline, output=output, **{source.role: source.folder for source in sources})
    try:
        write.write_bytes(path, b"")
    except OSError as error:
        raise CvrError(f"--output={output} cannot be written: {error}") from error
    try:
        construct(pipeline, sources, elements, path)
        run_pipeline(pipeline)
        with FileSystems.open(path) as file:
            return pickle.loads(file.read())  # noqa: S301 - written by this very job
    finally:
        if FileSystems.exists(path):
            FileSystems.delete([path])

"""The part of the Beam graph that makes lists of pages of other domains (`pipelines.es3.steps`)."""

from __future__ import annotations

from collections.abc import Sequence

import apache_beam as beam
from apache_beam import typehints

from pipelines.es3.queries import QUERIES, earliest
from pipelines.es3.steps import COUNTS, EXCHANGE, AnswerPages, Searchify
from pipelines.partition import PAGE_QUESTIONS, PAGES
from pipelines.settings import Settings

TAGS = (PAGES, PAGE_QUESTIONS, QUERIES)
"""What `pipelines.partition.Prepare` gives beside its other outputs where pages become lists."""
_PIECES = typehints.KV[int, bytes]


def _by_place(parts: Sequence[beam.PCollection], name: str) -> beam.PCollection:
    pieces = (parts | f"All{name}" >> beam.Flatten()) | f"Type{name}" >> beam.Map(lambda element: element).with_output_types(_PIECES)
    return pieces | f"Group{name}" >> beam.GroupByKey()


def searchify(part: beam.pvalue.DoOutputsTuple, items: beam.PCollection, settings: Settings) -> beam.pvalue.DoOutputsTuple:
    """The lists of pages, with the tags `exchange` and `counts`, from the outputs of `Prepare` and the catalogue's pieces."""
    asked = _by_place((part[PAGE_QUESTIONS], items), "PageQuestions") | "AnswerPages" >> beam.ParDo(AnswerPages(settings))
    known = part[QUERIES] | "EarliestQueries" >> beam.CombineGlobally(earliest)
    lists = _by_place((part[PAGES], asked), "Pages")
    step = beam.ParDo(Searchify(settings), beam.pvalue.AsSingleton(known)).with_outputs(EXCHANGE, COUNTS, main="tables")
    return lists | "Searchify" >> step

"""What a build decides by itself: how many partitions, which way the shuffle goes, which columns are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.job import LEAST_PARTITIONS, PARTITION_ROWS, _sized
from pipelines.reading import wanted_columns
from pipelines.runners import pipeline_of
from pipelines.settings import Settings, plan_of
from pipelines.sources.files import InputFile, estimated_rows
from tests.pipelines.logs import SPEC, settings, write_log
from tests.pipelines.steps import steps_settings


def _settings(**changes: Any) -> Settings:
    return Settings("canonical", "logs", "/out", SPEC, **changes)


def test_rows_are_estimated_from_the_sizes_of_files(tmp_path: Path) -> None:
    sizes = {"a.parquet": 1_500, "b.jsonl": 3_000, "c.jsonl.gz": 150, "d.csv": 449}
    files = []
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(bytes(size))
        files.append(InputFile(str(tmp_path / name)))
    # A compressed or columnar row takes about 15 bytes, a row of text 150.
    assert [estimated_rows([file]) for file in files] == [100, 20, 10, 2]
    assert estimated_rows(files) == 132 and estimated_rows(files[:1]) == 100


@pytest.mark.parametrize(
    ("asked", "rows", "partitions"),
    [
        (0, 0, LEAST_PARTITIONS),
        (0, LEAST_PARTITIONS * PARTITION_ROWS, LEAST_PARTITIONS),
        (0, LEAST_PARTITIONS * PARTITION_ROWS + 1, LEAST_PARTITIONS + 1),
        (0, 1_000 * PARTITION_ROWS, 1_000),
        (5, 1_000 * PARTITION_ROWS, 5),
        (1, 0, 1),
    ],
)
def test_the_number_of_partitions(asked: int, rows: int, partitions: int) -> None:
    found = _sized(_settings(partitions=asked), pipeline_of([]), rows)
    assert found.partitions == partitions and 1 <= found.key_partitions <= partitions


@pytest.mark.parametrize(
    ("output", "flags", "spill", "found"),
    [
        ("/out", [], None, True),
        ("out", ["--runner=DirectRunner", "--direct_num_workers=2"], None, True),
        ("gs://bucket/out", [], None, False),
        ("/out", ["--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK"], None, False),
        ("/out", [], False, False),
        ("gs://bucket/out", [], True, True),
    ],
)
def test_shuffles_go_through_files_where_all_is_on_this_machine(output: str, flags: list[str], spill: bool | None, found: bool) -> None:
    asked = Settings("canonical", "logs", output, SPEC, spill=spill, build_id="b")
    sized = _sized(asked, pipeline_of(flags), 10)
    assert sized.spill is found and sized.spill_folder == (f"{output}/data-b/spill" if found else None)


def test_columns_that_a_spec_reads() -> None:
    wanted = wanted_columns(_settings())
    assert wanted == {"impressions": {"price", "device", "query"}, "engagements": set(), "items": {"title", "stock"}}
    plan = plan_of(_settings())
    assert plan.columns("impression") == {"price": {"n"}, "device": {"c"}, "query": {"s"}}
    assert plan.event_names == ("click", "purchase") and plan.codes(["purchase", "impression", "click"]) == [1, -1, 0]
    assert plan.window == 86_400_000


def test_a_plan_is_made_once_for_equal_settings(tmp_path: Path) -> None:
    log = write_log(tmp_path, [], [])
    assert plan_of(settings(log, tmp_path / "out")) is plan_of(settings(log, tmp_path / "out"))
    assert plan_of(steps_settings(popularity_bucket=None)).popularity is None

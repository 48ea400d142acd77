"""What a demo run consists of for each log source: its spec, flags and time splits, and the stages in order."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pyarrow.json as pj

from cvr.errors import CvrError
from cvr.manifest import MANIFEST_NAME
from cvr.schema import load_spec
from tools.stages import Stage

# Of the searches of canonical logs whose attribution windows are over at the log's end, by time; the rest is the test split.
TRAIN_SHARE, VALIDATION_SHARE = 0.70, 0.15
LAUNCHED = "semantic_score"
"""The feature that the synthetic logs have from some day on; a feature table has its values for the days before."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Defaults of one kind of log: `reader` is build_lists' --source, the times are the first of the splits (ISO 8601, UTC)."""

    reader: str
    spec: str
    flagfile: str
    validation_from: str | None = None
    test_from: str | None = None
    popularity_bucket: str = "1h"


SOURCES = {
    "synthetic": Source(
        "canonical", "configs/features/synthetic.yaml", "configs/demo.flags", "2026-01-15", "2026-01-16"
    ),
    "canonical": Source("canonical", "configs/features/synthetic.yaml", "configs/demo.flags"),
    "trivago2019": Source(
        "trivago2019",
        "configs/features/trivago2019.yaml",
        "configs/trivago2019.flags",
        "2018-11-08T10:35",
        "2018-11-08T15:33",
        popularity_bucket="1ms",  # two days of logs: what happened within the hour counts
    ),
    "expedia2013": Source(
        "expedia2013",
        "configs/features/expedia2013.yaml",
        "configs/expedia2013.flags",
        "2013-04-23",
        "2013-05-15",
    ),
}


@dataclasses.dataclass(frozen=True)
class Choices:
    """The flags of the demo: `folder` is the run's, `make_logs` are further flags of tools.make_logs."""

    source: str
    input: str | None
    folder: Path
    settings: Source
    make_logs: Sequence[str] = ()

    @property
    def logs(self) -> Path:
        """Where the logs are: given, or made by this run."""
        return self.folder / "logs" if self.source == "synthetic" else Path(self.input or "")

    @property
    def lists(self) -> Path:
        """The search lists."""
        return self.folder / "lists"

    @property
    def validation(self) -> Path:
        """The lists' checks and the page that describes them."""
        return self.folder / "validation"

    @property
    def model(self) -> Path:
        """The training run."""
        return self.folder / "model"

    @property
    def evaluation(self) -> Path:
        """The evaluation's results."""
        return self.folder / "eval"

    @property
    def export(self) -> Path:
        """The base folder of SavedModel versions."""
        return self.folder / "export"

    @property
    def parity(self) -> Path:
        """The parity gate's verdict."""
        return self.folder / "parity.json"


def check(choices: Choices) -> None:
    """Raises CvrError for an input that is missing, or given where logs are made."""
    if choices.source == "synthetic":
        if choices.input:
            raise CvrError(
                "--source=synthetic makes its own logs; leave --input out, or give --source=canonical to read them"
            )
        return
    if not choices.input:
        raise CvrError(
            f"--source={choices.source} needs --input: make demo SOURCE={choices.source} INPUT=<file or folder>"
        )
    if not choices.logs.exists():
        raise CvrError(f"--input={choices.input} does not exist; give the logs' file or folder")


def split_times(choices: Choices) -> tuple[str, str]:
    """First times of the validation and the test split: given, the source's own, or by shares of the logs' searches.

    Raises:
      CvrError: if the logs hold no impressions, or none whose attribution windows are over.
    """
    settings = choices.settings
    if settings.validation_from and settings.test_from:
        return settings.validation_from, settings.test_from
    times = _search_times(choices.logs / "impressions")
    window = max([task.window for task in load_spec(settings.spec).tasks.values() if task.censor], default=0)
    times = times[times <= times.max() - window]
    if not len(times):
        raise CvrError(
            f"{choices.logs} spans less than the longest attribution window of {settings.spec}, {window / 86_400_000:g} days: "
            "no list's labels are complete; give longer logs, or shorter windows in the spec"
        )
    cuts = np.quantile(times, [TRAIN_SHARE, TRAIN_SHARE + VALIDATION_SHARE], method="nearest")
    validation, test = (datetime.datetime.fromtimestamp(int(t) // 1000, datetime.timezone.utc) for t in cuts)
    text = "%Y-%m-%dT%H:%M:%S"
    return settings.validation_from or validation.strftime(text), settings.test_from or test.strftime(text)


def _search_times(folder: Path) -> np.ndarray:
    parquet, lines = sorted(folder.glob("*.parquet")), sorted(folder.glob("*.jsonl"))
    if not parquet and not lines:
        raise CvrError(f"no *.parquet or *.jsonl in {folder}; canonical logs are described in docs/log_format.md")
    columns = ["search_id", "time"]
    tables = [ds.dataset(parquet).to_table(columns)] if parquet else []
    tables += [pj.read_json(path).select(columns) for path in lines]
    return np.concatenate([table.group_by("search_id").aggregate([("time", "min")])["time_min"] for table in tables])


def _launch_to_backfill(choices: Choices) -> str | None:
    """The first day of the synthetic logs' late feature; None for other logs, and for those that begin after it."""
    if choices.source != "synthetic":
        return None
    feature = load_spec(choices.settings.spec).features.get(LAUNCHED)
    days = sorted(path.stem for path in (choices.logs / "impressions").glob("*.*"))
    if feature is None or feature.introduced_on is None or (days and days[0] >= feature.introduced_on.isoformat()):
        return None
    return feature.introduced_on.isoformat()


def stages(choices: Choices) -> Iterator[Stage]:
    """All stages up to the parity gate, in order; each may read what those before it wrote."""
    settings, lists = choices.settings, f"--lists={choices.lists}"
    if choices.source == "synthetic":
        arguments = ("tools.make_logs", f"--output={choices.logs}", *choices.make_logs)
        yield Stage("make_logs", "Synthetic search logs", arguments, choices.logs)
    validation, test = split_times(choices)
    arguments = ("pipelines.build_lists", f"--source={settings.reader}", f"--input={choices.logs}")
    arguments += (f"--spec={settings.spec}", f"--validation_from={validation}", f"--test_from={test}")
    launch = _launch_to_backfill(choices)
    built = choices.folder / "lists-built" if launch else choices.lists
    arguments += (f"--output={built}", f"--popularity_bucket={settings.popularity_bucket}")
    yield Stage("build_lists", "Logs to labelled search lists", arguments, built, MANIFEST_NAME)
    if launch:
        arguments = ("pipelines.backfill", f"--lists={built}", f"--output={choices.lists}", f"--features={LAUNCHED}")
        arguments += ("--start=1970-01-01", f"--end={launch}", f"--table={choices.logs}/feature_tables/{LAUNCHED}")
        arguments += ("--table_keys=query,item_id",)
        heading = "The feature that was launched midway, for the days before"
        yield Stage("backfill", heading, arguments, choices.lists, MANIFEST_NAME, resumes=True)
    arguments = ("pipelines.validate", lists, f"--output={choices.validation}")
    yield Stage("validate", "Are the lists sound?", arguments, choices.validation, "validation.json")
    arguments = ("cvr.train", f"--flagfile={settings.flagfile}", lists, f"--output={choices.model}")
    yield Stage("train", "Training", arguments, choices.model, "run.json", resumes=True)
    arguments = ("cvr.evaluate", f"--run={choices.model}", lists, "--split=test", f"--output={choices.evaluation}")
    yield Stage("evaluate", "Evaluation on the test lists", arguments, choices.evaluation, "summary.json")
    arguments = ("export.save", f"--run={choices.model}", f"--output={choices.export}", lists)
    yield Stage("export", "SavedModel", arguments, choices.export, "[0-9]*")
    arguments = ("export.parity", f"--run={choices.model}", f"--export={choices.export}", lists)
    yield Stage(
        "parity", "Does it score as the checkpoint does?", (*arguments, f"--output={choices.parity}"), choices.parity
    )

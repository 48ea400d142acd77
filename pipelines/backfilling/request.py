"""What a backfill is asked to do, and what of it fits the lists: the new spec, the spec of the features alone, each file's treatment."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path
from typing import Literal

from apache_beam.io.filesystems import FileSystems

from cvr.errors import CvrError
from cvr.manifest import MANIFEST_NAME, Manifest, RecordFile, load_manifest, parse_manifest
from cvr.schema import FeatureSpec, parse_spec
from pipelines import write
from pipelines.backfilling.spec import check_features, check_spec, features_spec
from pipelines.backfilling.table import TableRequest
from pipelines.feature_table import TIME
from pipelines.settings import Settings, parse_time

DAY_MS = 86_400_000
Treatment = Literal["merge", "encode", "measure", "link"]
"""Of a file: features replaced; new features added as unseen; taken over, but read for statistics; taken over."""


@dataclasses.dataclass(frozen=True)
class Request:
    """The flags of `pipelines.backfill`; `start` and `end` are days such as 2026-01-31, `source` and `input` default to the lists' own."""

    lists: str
    output: str
    features: tuple[str, ...]
    start: str
    end: str
    spec_text: str | None = None
    spec_name: str = "<spec>"
    source: str = ""
    input: str = ""
    table: TableRequest | None = None
    max_bad_fraction: float = 0.001
    max_unmatched_fraction: float = 0.001
    step_days: int = 0


@dataclasses.dataclass(frozen=True)
class Piece:
    """A published file and what becomes of it."""

    split: str
    file: RecordFile
    treatment: Treatment


@dataclasses.dataclass(frozen=True)
class Plan:
    """A request that fits its lists."""

    request: Request
    manifest: Manifest
    spec_text: str
    pieces: tuple[Piece, ...]

    @property
    def spec(self) -> FeatureSpec:
        """The new version's spec."""
        return parse_spec(self.spec_text, self.request.spec_name)

    @property
    def source(self) -> str:
        """The log's format."""
        return self.request.source or self.manifest.source

    @property
    def input(self) -> str:
        """The log."""
        return self.request.input or str(self.manifest.flags.get("input", ""))

    def steps(self) -> list[Plan]:
        """The same, cut into ranges of `step_days` days that hold partitions; files outside the range go with the first one."""
        low, high = (datetime.date.fromisoformat(day) for day in (self.request.start, self.request.end))
        days = self.request.step_days or (high - low).days
        found: list[Plan] = []
        for offset in range(0, (high - low).days, days):
            start, end = ((low + datetime.timedelta(days=offset + length)).isoformat() for length in (0, days))
            own = [piece for piece in self.chosen("merge") if start <= piece.file.day < end]
            rest = [] if found else self.chosen("encode", "measure", "link")
            request = dataclasses.replace(self.request, start=start, end=min(end, self.request.end))
            found += [dataclasses.replace(self, request=request, pieces=(*own, *rest))] if own else []
        return found

    def chosen(self, *treatments: Treatment) -> list[Piece]:
        """The files that are treated so."""
        return [piece for piece in self.pieces if piece.treatment in treatments]


def load_lists(folder: str) -> Manifest:
    """The manifest of published lists on any of Beam's filesystems. Raises CvrError where there is none of our record format."""
    if write.is_local(folder):
        return load_manifest(folder)
    write.check_filesystem(folder, "lists")
    path = FileSystems.join(folder, MANIFEST_NAME)
    if not FileSystems.exists(path):
        raise CvrError(f"no {MANIFEST_NAME} in {folder}; build the lists first: python -m pipelines.build_lists --output={folder} ...")
    with FileSystems.open(path) as file:
        return parse_manifest(file.read().decode(), path)


def _day(text: str, flag: str) -> str:
    moment = parse_time(text, flag)
    if moment is None or moment % DAY_MS:
        raise CvrError(f"--{flag}={text}: expected a day such as 2026-01-31; partitions are whole days (UTC)")
    return (datetime.date(1970, 1, 1) + datetime.timedelta(days=moment // DAY_MS)).isoformat()


def plan(request: Request) -> Plan:
    """Checks a request against its lists. Raises CvrError naming the flag, feature or difference of specs that does not fit."""
    if write.is_local(request.lists) and write.is_local(request.output):
        same = Path(request.lists).resolve() == Path(request.output).resolve()
    else:
        same = request.lists.rstrip("/") == request.output.rstrip("/")
    if same:
        raise CvrError(f"--output={request.output} is --lists; published lists never change, so give a new folder")
    manifest = load_lists(request.lists)
    _check_plain(manifest, request)
    request = dataclasses.replace(request, start=_day(request.start, "start"), end=_day(request.end, "end"))
    if request.start >= request.end:
        raise CvrError(f"--start={request.start} must lie before --end={request.end}, which is the first day left out")
    old = manifest.spec()
    spec_text = manifest.spec_text if request.spec_text is None else request.spec_text
    new = old if request.spec_text is None else parse_spec(request.spec_text, request.spec_name)
    check_features(new, request.features, request.spec_name)
    if request.spec_text is not None:
        check_spec(old, new, request.features, request.spec_name)
    if request.table:
        _check_table(new, request)
    pieces = _pieces(manifest, request, new)
    found = Plan(request, manifest, spec_text, pieces)
    if not found.input:
        raise CvrError("--input: the manifest does not say which log the lists were built from; give --source and --input")
    return found


def _check_plain(manifest: Manifest, request: Request) -> None:
    widened = [name for name in ("unexposed_per_list", "attribute_elsewhere", "searchify") if manifest.flags.get(name)]
    if widened:
        raise CvrError(
            f"--lists={request.lists}: built with --{widened[0]}, so they hold more than the log's searches and their labels, and that is "
            "all that a backfill knows; build them anew with the spec that has the feature"
        )


def _check_table(spec: FeatureSpec, request: Request) -> None:
    assert request.table is not None
    keys = request.table.keys
    if not keys:
        raise CvrError("--table_keys: name the key columns of the feature table, such as --table_keys=query,item_id")
    reserved = {TIME, "position", "domain", "search_id", "customer_id", "item_id"}
    for name in request.features:
        origin, _, column = (spec.features[name].column or "").partition(".")
        if origin != "impression" or column in reserved or column in keys:
            raise CvrError(
                f"--features: {name} cannot come from --table={request.table.path}: its source in the spec has to be "
                f"`from: impression.<column>` with a column of its own, neither a key nor one of {', '.join(sorted(reserved))}; "
                "backfill it from the logs, in a run of its own"
            )


def _pieces(manifest: Manifest, request: Request, new: FeatureSpec) -> tuple[Piece, ...]:
    changed = manifest.spec_fingerprint != new.fingerprint
    measured = any(new.features[name].kind == "numerical" for name in request.features)
    pieces: list[Piece] = []
    for split, found in manifest.splits.items():
        inside = [request.start <= file.day < request.end for file in found.files]
        for file, chosen in zip(found.files, inside, strict=True):
            outside: Treatment = "encode" if changed else "measure" if measured and any(inside) else "link"
            pieces.append(Piece(split, file, "merge" if chosen else outside))
    tails = [piece.file.path.split("/", 1)[1] for piece in pieces]
    if len(set(tails)) < len(tails):
        raise CvrError(f"--lists={request.lists}: two files of the manifest have the same split, day and partition; build the lists anew")
    if not any(piece.treatment == "merge" for piece in pieces):
        days = sorted({piece.file.day for piece in pieces})
        have = f"{days[0]} to {days[-1]}" if days else "no day"
        raise CvrError(f"--start={request.start} --end={request.end}: {request.lists} has no partition in this range; it has {have}")
    return tuple(pieces)


def build_settings(plan: Plan, output: str) -> Settings:
    """The build of the asked features from the log: every list of the range, partitioned as the old lists are.

    Sampling leaves lists out by their search ids alone, of the training split only; so it is repeated where the range is training data.
    """
    request, flags = plan.request, plan.manifest.flags
    kept = ["partitions", "split_rows"]
    if {piece.split for piece in plan.chosen("merge")} == {"train"}:
        kept += ["sampling_rate", "sampling_seed"]
    return Settings(
        source=plan.source,
        input=plan.input,
        output=output,
        spec_text=features_spec(plan.spec_text, request.features),
        spec_name=request.spec_name,
        start=parse_time(request.start, "start"),
        end=parse_time(request.end, "end"),
        drop_unconverted="none",
        popularity_bucket=None,
        max_bad_fraction=request.max_bad_fraction,
        labels_required=False,
        **{name: flags[name] for name in kept if name in flags},
    )

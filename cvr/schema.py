"""The feature spec: what a data set's features and tasks are, read from `configs/features/<dataset>.yaml`.

Every stage (pipelines, training, export) reads this one file; nothing restates a feature. Specs are frozen and strictly validated:
an unknown key, a wrong type or a reference to something that does not exist is an error that names the file, the line and the key.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml

from cvr.errors import CvrError

Level = Literal["context", "item"]
AggregateKey = Literal["item", "query", "customer"]
NumericalTransform = Literal["zscore", "log1p", "zlog", "identity"]
EmbeddingMethod = Literal["hash", "quotient_remainder", "multi_hash", "unified"]
DeriveOp = Literal[
    "history_count", "history_age", "history_rank", "history_list_rank", "history_is_last", "history_length",
    "history_seconds_since", "history_distinct", "history_dwell", "offset_to_last", "value_minus_last", "diff_touched", "list_rank",
    "list_ratio", "list_size", "diff_above", "diff_below", "diff_best_above", "diff_mean", "same_as_context",
]  # fmt: skip
"""In-graph features; `cvr.derived` defines each one."""

CONTEXT_OPS = ("history_length", "history_distinct", "history_seconds_since", "list_size")
"""Derived features whose value is one per list."""

DIFFERENCES = ("value_minus_last", "diff_touched", "diff_above", "diff_below", "diff_best_above", "diff_mean")
"""Derived features that compare an item's value with another one: by difference, or by ratio where `ratio` is set."""

_PRICE_LIKE = (("feature", "item", "numerical"),)
_OPERANDS: dict[str, tuple[tuple[str, str, str], ...]] = {
    **dict.fromkeys((*DIFFERENCES, "list_rank", "list_ratio"), _PRICE_LIKE),
    "same_as_context": (("feature", "item", "categorical"), ("other", "context", "categorical")),
}
"""Per derived feature: (key, level, kind) of the features that it needs."""

_DURATION = re.compile(r"^(\d+)(ms|s|m|h|d)$")
_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def parse_duration(text: str) -> int:
    """`"30m"`, `"7d"`, `"0s"` -> milliseconds. Raises ValueError on anything else."""
    match = _DURATION.match(str(text).strip())
    if not match:
        raise ValueError(f"{text!r} is not a duration; write a whole number and a unit of ms, s, m, h or d, such as 30m or 7d")
    return int(match.group(1)) * _UNIT_MS[match.group(2)]


Duration = Annotated[int, pydantic.BeforeValidator(parse_duration)]
"""Milliseconds, written as `30m` or `7d` in the file."""


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Task(_Strict):
    """A behaviour to predict: which engagement events count, how long after the impression they do, and which impression has the credit."""

    events: tuple[str, ...] = pydantic.Field(min_length=1)
    window: Duration
    credit: Literal["last", "first", "all"] = "last"
    """Of several impressions that may have led to an engagement within the window: the last one, the first one, or all of them."""
    primary: bool = False
    censor: bool = True
    """Whether a list stays aside until this task's window is over at the end of the log."""


class Embedding(_Strict):
    """How ids become vectors. Full hashes are reduced modulo `buckets` in the model; four more rows hold the reserved ids."""

    buckets: int = pydantic.Field(gt=0, le=2**31)
    dim: int = pydantic.Field(gt=0, le=4096)
    method: EmbeddingMethod = "hash"
    collisions: int = pydantic.Field(default=4, gt=1)
    """Method quotient_remainder: codes that share a row of the quotient's table, which is the size of the remainder's."""
    hashes: int = pydantic.Field(default=2, gt=1, le=16)
    """Methods multi_hash and unified: rows that make a vector."""
    shrinkage: float = pydantic.Field(default=0.0, ge=0.0, allow_inf_nan=False)
    """Method hash: vectors are scaled by n / (n + shrinkage), n being how often the training lists read their row; 0 for not at all."""

    @pydantic.model_validator(mode="after")
    def _check(self) -> Embedding:
        methods = {"collisions": ("quotient_remainder",), "hashes": ("multi_hash", "unified"), "shrinkage": ("hash",)}
        for key, users in methods.items():
            if key in self.model_fields_set and self.method not in users:
                raise ValueError(f"{key} belongs to method {' or '.join(users)}, not to {self.method}")
        if self.method == "unified" and self.dim % self.hashes:
            raise ValueError(f"unified cuts a vector into {self.hashes} equal parts, so dim must be a multiple of {self.hashes}")
        return self


class Aggregate(_Strict):
    """A point-in-time engagement count, or a smoothed rate when `per` is given.

    count = number of `event` of the key in the last ceil(window / bucket) time buckets of those that are over at t - lag, which are
    floor((t - lag) / bucket) since 1970; rate = (count + prior * base) / (count of `per` + prior), `base` the same ratio over all keys.
    """

    by: tuple[AggregateKey, ...] = pydantic.Field(min_length=1)
    event: str
    per: str | None = None
    prior: float = pydantic.Field(default=20.0, ge=0)
    window: Literal["all"] | Duration = "all"
    lag: Duration = 0
    bucket: Duration = 86_400_000


class History(_Strict):
    """The customer's last `length` engagement events strictly before the search, most recent first."""

    events: tuple[str, ...] = pydantic.Field(min_length=1)
    length: int = pydantic.Field(gt=0, le=10_000)


class Encoder(_Strict):
    """How the model reads a sequence: the name of an encoder, and its factors. A spec writes `gru`, or `{name: transformer, layers: 2}`."""

    name: str = pydantic.Field(pattern=r"^[a-z]\w*$")
    factors: dict[str, bool | int | float | str] = {}

    @pydantic.model_validator(mode="before")
    @classmethod
    def _name_alone(cls, data: Any) -> Any:
        if isinstance(data, str):
            return {"name": data}
        if isinstance(data, dict):
            return {"name": data.get("name"), "factors": {key: value for key, value in data.items() if key != "name"}}
        return data


class Derive(_Strict):
    """A feature computed in the model's graph from others, alike in training and serving; never stored in records."""

    op: DeriveOp
    history: str | None = None
    feature: str | None = None
    other: str | None = None
    events: tuple[str, ...] = ()
    within: Duration | None = None
    ratio: bool = False
    """The quotient in place of the difference."""
    cap: Duration = 600_000
    """The longest time that one event counts for `history_dwell`."""


class Feature(_Strict):
    """One input: its kind, its level, exactly one source, and how the model turns it into numbers."""

    name: str = ""
    kind: Literal["numerical", "categorical", "text", "sequence"]
    level: Level
    column: str | None = pydantic.Field(default=None, alias="from")
    aggregate: Aggregate | None = None
    history: History | None = None
    derive: Derive | None = None
    transforms: tuple[NumericalTransform, ...] = ("zscore", "log1p")
    embedding: Embedding | None = None
    table: str | None = None
    vocabulary: tuple[str, ...] = ()
    separator: str | None = None
    ngrams: tuple[int, ...] = (3,)
    max_chars: int = pydantic.Field(default=64, gt=0, le=4096)
    encoder: Encoder = Encoder(name="mean")
    introduced_on: datetime.date | None = None

    @property
    def stored(self) -> bool:
        """Whether records hold this feature (a derived one is computed in the graph)."""
        return self.derive is None

    @property
    def ragged(self) -> bool:
        """Whether a value is a bag of ids: text n-grams and multi-valued categoricals."""
        return self.kind == "text" or (self.kind == "categorical" and self.separator is not None)

    @pydantic.model_validator(mode="after")
    def _check(self) -> Feature:
        sources = [s for s in (self.column, self.aggregate, self.history, self.derive) if s is not None]
        if len(sources) != 1:
            raise ValueError("give exactly one source: from, aggregate, history or derive")
        if self.column is not None and not re.match(r"^(impression|item)\.\w+$", self.column):
            raise ValueError(f"from: {self.column!r} must read impression.<column> or item.<column>")
        if (self.kind == "sequence") != (self.history is not None):
            raise ValueError("kind sequence and source history go together")
        if self.kind == "sequence" and self.level != "context":
            raise ValueError("a sequence belongs to the customer, so its level is context")
        if self.aggregate is not None and self.kind != "numerical":
            raise ValueError("an aggregate is a numerical feature")
        if self.aggregate is not None and self.level == "context" and "item" in self.aggregate.by:
            raise ValueError("an aggregate by item has level item")
        if self.derive is not None and self.level == "context" and self.derive.op not in CONTEXT_OPS:
            raise ValueError(f"{self.derive.op} has a value per item, so its level is item")
        if self.vocabulary and (self.kind != "categorical" or self.ragged or not self.stored):
            raise ValueError("a vocabulary belongs to a stored categorical feature with one value")
        if self.derive is not None and self.kind not in ("numerical", "categorical"):
            raise ValueError("a derived feature is numerical or categorical")
        if (self.kind == "numerical") != (self.embedding is None and self.table is None):
            raise ValueError("categorical, text and sequence features need an embedding or a table; numerical ones take neither")
        if self.embedding is not None and self.table is not None:
            raise ValueError("give either an embedding of its own or a shared table, not both")
        if not self.transforms or len(set(self.transforms)) != len(self.transforms):
            raise ValueError("transforms names at least one transform, and each once")
        if self.kind == "text" and (not self.ngrams or min(self.ngrams) < 1 or max(self.ngrams) > 8):
            raise ValueError("ngrams are orders between 1 and 8, such as [2, 3]")
        return self


class FeatureSpec(_Strict):
    """A data set's tasks, shared tables and features. `load_spec` makes one from a file."""

    dataset: str = pydantic.Field(pattern=r"^\w+$")
    tasks: dict[str, Task] = pydantic.Field(min_length=1)
    tables: dict[str, Embedding] = {}
    features: dict[str, Feature] = pydantic.Field(min_length=1)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _name_features(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("features"), dict):
            named = {k: {**v, "name": k} if isinstance(v, dict) else v for k, v in data["features"].items()}
            return {**data, "features": named}
        return data

    @pydantic.model_validator(mode="after")
    def _check(self) -> FeatureSpec:
        primaries = [name for name, task in self.tasks.items() if task.primary]
        if len(primaries) != 1:
            raise ValueError(f"exactly one task must say `primary: true`; here {primaries or 'none'} do")
        for name, feature in self.features.items():
            if not re.match(r"^[a-z]\w*$", name):
                raise ValueError(f"features.{name}: a feature's name is lower case letters, digits and _")
            if feature.table is not None and feature.table not in self.tables:
                raise ValueError(f"features.{name}.table: no table {feature.table!r} under `tables`; there are {sorted(self.tables)}")
            if feature.vocabulary and len(feature.vocabulary) > self.embedding_of(feature)[1].buckets:
                raise ValueError(f"features.{name}.vocabulary: {len(feature.vocabulary)} values need at least as many buckets")
            if (feature.vocabulary or feature.derive) and feature.kind == "categorical" and self.embedding_of(feature)[1].method != "hash":
                raise ValueError(f"features.{name}: the values of a vocabulary or a derived feature have a row each, so its method is hash")
            if feature.derive is not None:
                self._check_derive(name, feature.derive)
        return self

    def _check_derive(self, name: str, derive: Derive) -> None:
        needs_history = derive.op.startswith("history_") or derive.op in ("offset_to_last", "value_minus_last", "diff_touched")
        if needs_history:
            source = self.features.get(derive.history or "")
            if source is None or source.history is None:
                raise ValueError(f"features.{name}.derive.history: {derive.op} needs the name of a sequence feature")
            unknown = set(derive.events) - set(source.history.events)
            if unknown:
                raise ValueError(f"features.{name}.derive.events: {sorted(unknown)} are not events of {derive.history}")
        if derive.ratio and derive.op not in DIFFERENCES:
            raise ValueError(f"features.{name}.derive.ratio: {derive.op} compares nothing; {', '.join(DIFFERENCES)} do")
        earlier = dict(itertools.takewhile(lambda pair: pair[0] != name, self.features.items()))
        for key, level, kind in _OPERANDS.get(derive.op, ()):
            self._check_operand(f"features.{name}.derive.{key}", derive, getattr(derive, key), (level, kind), earlier)

    def _check_operand(
        self, key: str, derive: Derive, name: str | None, wanted: tuple[str, str], earlier: dict[str, Feature]
    ) -> None:
        level, kind = wanted
        operand = self.features.get(name or "")
        if operand is None:
            raise ValueError(f"{key}: {derive.op} needs the name of a feature" + (f"; there is no {name!r}" if name else ""))
        if (operand.level, operand.kind) != (level, kind) or operand.ragged:
            raise ValueError(f"{key}: {derive.op} needs a {kind} feature of level {level} with one value, {name} is none")
        if not operand.stored and (kind != "numerical" or name not in earlier):
            raise ValueError(f"{key}: {name} is derived itself; it must be numerical and stand above in the file")

    @functools.cached_property
    def task_names(self) -> tuple[str, ...]:
        """Task names in the file's order: the last axis of labels and logits."""
        return tuple(self.tasks)

    @functools.cached_property
    def primary_task(self) -> str:
        """The task that ranking, validation and early decisions go by."""
        return next(name for name, task in self.tasks.items() if task.primary)

    def select(self, kind: str | None = None, level: str | None = None, stored: bool | None = None) -> tuple[Feature, ...]:
        """Features in the file's order, filtered by kind, level and whether records hold them."""
        return tuple(
            f
            for f in self.features.values()
            if (kind is None or f.kind == kind) and (level is None or f.level == level) and (stored is None or f.stored == stored)
        )

    def embedding_of(self, feature: Feature) -> tuple[str, Embedding]:
        """The table that a feature looks up in: (table name, size). A table of its own is named after the feature."""
        if feature.table is not None:
            return feature.table, self.tables[feature.table]
        assert feature.embedding is not None
        return feature.name, feature.embedding

    @functools.cached_property
    def fingerprint(self) -> str:
        """Identifies what records of this spec contain: stored features, their sources and text settings, and the tasks.

        Model-side settings (embedding sizes, transforms, encoders, derived features) are left out, so changing them needs no rebuild.
        """
        model_side = {"embedding", "table", "transforms", "encoder"}
        content = {
            "dataset": self.dataset,
            "tasks": {k: v.model_dump(mode="json") for k, v in self.tasks.items()},
            "features": [f.model_dump(mode="json", exclude=model_side) for f in self.select(stored=True)],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=False).encode()).hexdigest()[:16]


def _walk_lines(node: yaml.Node, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], int]]:
    yield path, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*path, str(key.value)), key.start_mark.line + 1
            for inner, line in _walk_lines(value, (*path, str(key.value))):
                if inner != (*path, str(key.value)):
                    yield inner, line
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _walk_lines(value, (*path, str(index)))


class _NoDuplicates(yaml.SafeLoader):
    """A YAML loader that refuses a key written twice in one mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is written twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def parse_spec(text: str, source: str = "<spec>") -> FeatureSpec:
    """Parses a spec's YAML text; `source` is the file name that errors show. Raises CvrError naming file, line and key."""
    try:
        data = yaml.load(text, Loader=_NoDuplicates)  # noqa: S506 - a SafeLoader
        lines = dict(_walk_lines(yaml.compose(text, Loader=yaml.SafeLoader) or yaml.ScalarNode("", "")))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}:{mark.line + 1}" if mark else source
        raise CvrError(f"{where}: not valid YAML: {getattr(error, 'problem', error)}") from error
    except AttributeError as error:
        raise CvrError(f"{source}: the file is empty; see docs/features.md for what a spec holds") from error
    try:
        return FeatureSpec.model_validate(data)
    except pydantic.ValidationError as error:
        raise CvrError("\n".join(_describe(e, source, lines) for e in error.errors())) from error


def _describe(error: Any, source: str, lines: dict[tuple[str, ...], int]) -> str:
    path = tuple(str(part) for part in error["loc"] if not str(part).startswith(("function-", "literal", "constrained-")))
    message = error["msg"].removeprefix("Value error, ")
    named = re.match(r"^([\w.]+): ", message)
    if named and (named.group(1).split(".")[0],) in lines:
        path, message = tuple(named.group(1).split(".")), message[named.end() :]
    known = path
    while known and known not in lines:
        known = known[:-1]
    line = lines.get(known, 1)
    key = ".".join(path) or "the file"
    if error["type"] == "extra_forbidden":
        message = "unknown key; remove it or check its spelling"
    return f"{source}:{line}: {key}: {message}"


def load_spec(path: str | Path) -> FeatureSpec:
    """Reads and validates `configs/features/<dataset>.yaml`. Raises CvrError naming file, line and key."""
    file = Path(path)
    if not file.is_file():
        raise CvrError(f"no feature spec at {file}; give --spec=configs/features/<dataset>.yaml")
    return parse_spec(file.read_text(encoding="utf-8"), str(file))

"""Starts a model from another run's: all that does not depend on the features is loaded, whatever features came or went.

For the input projection, the only layer that knows the feature set (paper 3.2.2; PAPERS R73 to R75, trap 6): loaded where features and
their order are the same, else as initialised, all of it. Everything after it is loaded. Tables are kept by name (`cvr.resizing`), tasks and
domains by name, statistics and counts are those of the new data. Optimizer, schedule and step start anew and every variable trains.
"""

from __future__ import annotations

import collections
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from cvr import backbones
from cvr.domains import domains_of
from cvr.errors import CvrError
from cvr.layers.mmoe import TASK_AXES
from cvr.manifest import publish_json
from cvr.ranker import Ranker
from cvr.resizing import carry_over
from cvr.runs import PRETRAIN, RUN_FILE, SPEC_FILE
from cvr.schema import Feature, FeatureSpec, load_spec

REPORT_FILE = "warm_start.json"
PARTS = ("all", "tables")
"""What may be loaded: all that fits, or embedding tables alone, whatever the base's backbone is."""
LOADED, ANEW, RESIZED, NEW, DROPPED = "loaded", "re-initialised", "resized", "new", "dropped"
PROFILE = "_profile"
"""What encoders call the layers that read the other context features (`cvr.layers.profile_tokens`)."""


@dataclasses.dataclass(frozen=True)
class Base:
    """Where a warm start comes from: a run's folder, the prefix of one of its checkpoints, its `run.json` and its spec."""

    folder: Path
    checkpoint: str
    info: dict[str, Any]
    spec: FeatureSpec

    @property
    def is_pretrained(self) -> bool:
        """Whether it is a run of `cvr.pretrain`: an item table and what reads a sequence, and no ranker."""
        return self.info.get("program") == PRETRAIN

    def describe(self) -> dict[str, Any]:
        """For the `run.json` of the run that starts from it."""
        return {
            "run": str(self.folder),
            "checkpoint": str(Path(self.checkpoint).relative_to(self.folder)),
            "data": self.info["data"],
            "spec_fingerprint": self.info.get("spec_fingerprint"),
        }

    def values(self) -> dict[str, np.ndarray]:
        """The model's variables by their path. Raises CvrError for a checkpoint that cannot be read."""
        try:
            reader = tf.train.load_checkpoint(self.checkpoint)
            keys = [key for key in reader.get_variable_to_shape_map() if key.startswith("model/") and key.endswith(_ENDING)]
            return {key.removeprefix("model/").removesuffix(_ENDING): np.asarray(reader.get_tensor(key)) for key in keys}
        except (tf.errors.OpError, ValueError, IndexError, RuntimeError, OSError) as error:
            raise CvrError(f"--warm_start_from: cannot read checkpoint {self.checkpoint}: {str(error).splitlines()[0]}") from error


_ENDING = "/.ATTRIBUTES/VARIABLE_VALUE"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one variable: its path in the model, status, reason, and shapes in the base and in the new model (None: absent)."""

    variable: str
    status: str
    reason: str
    base_shape: list[int] | None
    shape: list[int] | None


def find_base(place: str) -> Base:
    """The finished run in a folder, with the checkpoint that evaluation uses, or the checkpoint of a given prefix, of any run.

    Raises CvrError where there is neither.
    """
    path = Path(place.removesuffix(".index"))
    folder = path if path.is_dir() else next((p for p in path.parents if (p / RUN_FILE).is_file()), path)
    if not (folder / RUN_FILE).is_file():
        raise CvrError(f"--warm_start_from={place}: no {RUN_FILE} there; give the folder of a run, or <run>/checkpoints/ckpt-<number>")
    info = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    if path != folder:
        prefix = str(path)
    elif info.get("status") == "finished":
        prefix = str(folder / info["checkpoint"])
    else:
        raise CvrError(f"--warm_start_from={place}: this run is not finished; finish it, or name one of its checkpoints/ckpt-<number>")
    if not Path(f"{prefix}.index").is_file():
        raise CvrError(f"--warm_start_from={place}: no checkpoint {prefix}; look into {folder / 'checkpoints'}")
    return Base(folder, prefix, info, load_spec(folder / SPEC_FILE))


def variables_of(model: tf.keras.Model) -> dict[str, tf.Variable]:
    """A model's variables by their path, as its checkpoints name them: the shortest path of attributes, breadth first."""
    view, found = tf.train.TrackableView(model), {}
    seen, queue = {id(model)}, collections.deque([("", model)])
    while queue:
        path, node = queue.popleft()
        if isinstance(node, tf.Variable):
            found[path] = node
            continue
        for name, child in view.children(node).items():
            if id(child) not in seen:
                seen.add(id(child))
                queue.append((f"{path}/{name}" if path else name, child))
    return found


def _definition(spec: FeatureSpec, feature: Feature) -> dict[str, Any]:
    """What a feature means to the layers that read it: all but when it came, how many rows its table has, and which words have one."""
    fixed = feature.model_dump(exclude={"introduced_on", "vocabulary", "embedding"})
    if feature.kind != "numerical":
        fixed["embedding"] = spec.embedding_of(feature)[1].model_dump(exclude={"buckets", "shrinkage"})
    return fixed


def _without_encoder(definition: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in definition.items() if key != "encoder"}


class _Surgery:
    """Decides for each variable of a ranker what it takes from a base."""

    def __init__(self, ranker: Ranker, base: Base) -> None:
        self._specs = (base.spec, ranker.spec)
        self._domains = _domain_names(base, ranker)
        self._domain_axes = getattr(backbones.load(ranker.config.backbone), "DOMAIN_AXES", {})
        before, after = ({f.name: _definition(spec, f) for f in spec.features.values()} for spec in self._specs)
        self._changed = {name for name in after if name in before and before[name] != after[name]}
        self._events_changed = {name for name in self._changed if _without_encoder(before[name]) != _without_encoder(after[name])}
        parts = {"added": after.keys() - before.keys(), "removed": before.keys() - after.keys(), "changed": self._changed}
        told = [f"{what} {', '.join(sorted(names))}" for what, names in parts.items() if names]
        if not told and list(before) != list(after):
            told = ["in another order"]
        self._features_reason = f"features {'; '.join(told)}" if told else ""

    def decide(self, path: str, old: np.ndarray | None, fresh: np.ndarray) -> tuple[np.ndarray | None, str, str]:
        """(new value or None to leave it as initialised, status, reason) of the variable at `path`."""
        parts = path.split("/")
        if path == "dropout_step":
            return None, ANEW, "steps are counted anew"
        if parts[0] == "extraction" and (parts[1] == "numericals" or parts[-1] == "counts"):
            return None, ANEW if old is not None else NEW, "statistics of the new data"
        if old is None:
            return None, NEW, "not in the base"
        if parts[0] == "projection" and self._features_reason:
            return None, ANEW, self._features_reason
        if parts[0] == "extraction":
            return self._extraction(parts, old, fresh)
        if parts[0] == "head" and "/".join(parts[1:]) in TASK_AXES:
            return self._by_name("task", (self._specs[0].task_names, self._specs[1].task_names), TASK_AXES["/".join(parts[1:])], old, fresh)
        if parts[0] == "backbone" and "/".join(parts[1:]) in self._domain_axes:
            return self._by_name("domain", self._domains, self._domain_axes["/".join(parts[1:])], old, fresh)
        return self._as_it_is(old, fresh)

    def _as_it_is(self, old: np.ndarray, fresh: np.ndarray) -> tuple[np.ndarray | None, str, str]:
        if old.shape != fresh.shape:
            return None, ANEW, f"shape {list(old.shape)} then, {list(fresh.shape)} now"
        return old, LOADED, ""

    def _extraction(self, parts: list[str], old: np.ndarray, fresh: np.ndarray) -> tuple[np.ndarray | None, str, str]:
        if parts[1] == "tables":
            carried = carry_over(self._specs, parts[2], old, fresh)
            if carried.rows is None:
                return None, ANEW, carried.reason
            return carried.rows, RESIZED if carried.reason else LOADED, carried.reason
        # what an event's vector means does not depend on who reads it
        changed = (self._events_changed if parts[1] == "_events" else self._changed).intersection(parts)
        if changed:
            return None, ANEW, f"feature {min(changed)} changed"
        if PROFILE in parts and self._features_reason:  # a layer per context feature, in the order of the spec
            return None, ANEW, self._features_reason
        return self._as_it_is(old, fresh)

    def _by_name(
        self, what: str, names: tuple[tuple[str, ...], tuple[str, ...]], axis: int, old: np.ndarray, fresh: np.ndarray
    ) -> tuple[np.ndarray | None, str, str]:
        """Parts of tasks or of domains, which stand one after the other on an axis, each by its name."""
        before, after = names
        olds, news = np.split(old, len(before), axis), np.split(fresh, len(after), axis)
        if olds[0].shape != news[0].shape:
            return None, ANEW, f"shape {list(olds[0].shape)} per {what} then, {list(news[0].shape)} now"
        value = np.concatenate([olds[before.index(name)] if name in before else news[i] for i, name in enumerate(after)], axis)
        if before == after:
            return value, LOADED, ""
        fresh_ones = [name for name in after if name not in before]
        kept = [name for name in after if name in before]
        if not kept:
            return None, ANEW, f"no {what} of the base: {', '.join(before)}"
        return value, RESIZED, f"{what}s {', '.join(kept)} loaded" + (f", {', '.join(fresh_ones)} new" if fresh_ones else "")


def _domain_names(base: Base, ranker: Ranker) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Domains of a base and of a ranker. A model without any is one of the target domain of the other."""
    there, here = domains_of(base.spec, base.info["model"].get("domain_feature", "")), ranker.domains
    before, after = (found.names if found else None for found in (there, here))
    return before or (after or ("",))[:1], after or (before or ("",))[:1]


def warm_start(ranker: Ranker, base: Base, parts: str = "all") -> list[Outcome]:
    """Loads a built ranker, whose statistics are set, from a base; returns what became of every variable, sorted by path.

    With `parts` "tables", and from a pre-training run, which has no backbone, it is enough that a table fits. Raises CvrError where the
    backbone is another one or nothing of it fits: there is no body to start from; and for a frozen table that is not loaded.
    """
    needed = "extraction/tables/" if parts == "tables" or base.is_pretrained else "backbone/"
    here, there = ranker.config.backbone, base.info["model"].get("backbone")
    if needed == "backbone/" and here != there:
        raise CvrError(
            f"--warm_start_from={base.folder} has backbone {there} and this run {here}: nothing after the projection fits; "
            "--warm_start_parts=tables loads embedding tables alone"
        )
    values, surgery, outcomes, assign = base.values(), _Surgery(ranker, base), [], []
    for path, variable in variables_of(ranker).items():
        old, fresh = values.pop(path, None), variable.numpy()
        if parts == "tables" and not path.startswith("extraction/tables/"):
            value, status, reason = None, NEW if old is None else ANEW, "--warm_start_parts=tables"
        else:
            value, status, reason = surgery.decide(path, old, fresh)
        outcomes.append(Outcome(path, status, reason, None if old is None else list(old.shape), list(fresh.shape)))
        if value is not None:
            assign.append((variable, value))
    outcomes += [Outcome(path, DROPPED, "not in this model", list(old.shape), None) for path, old in values.items()]
    _check_loaded(ranker, base, needed, outcomes)
    for variable, value in assign:
        variable.assign(value)
    return sorted(outcomes, key=lambda outcome: outcome.variable)


def _check_loaded(ranker: Ranker, base: Base, needed: str, outcomes: list[Outcome]) -> None:
    """Raises CvrError where nothing under the path `needed` is loaded, or a frozen table is not."""
    found = {outcome.variable for outcome in outcomes if outcome.status in (LOADED, RESIZED)}
    if not any(name.startswith(needed) for name in found):
        told = "no embedding table of it fits this spec; give --spec the same tables"
        if needed == "backbone/":
            told = f"no variable of its {base.info['model']['backbone']} fits this one's scaling factors; give the same ones"
        raise CvrError(f"--warm_start_from={base.folder}: {told}")
    for name, table in ranker.extraction.tables.items():
        path = f"extraction/tables/{name}/"
        lost = [outcome for outcome in outcomes if outcome.variable.startswith(path) and outcome.status in (ANEW, NEW)]
        lost = [outcome for outcome in lost if not outcome.variable.endswith("/counts")]
        if lost and not table.trainable:
            raise CvrError(
                f"--freeze_tables: {base.folder} does not give table {name!r} ({lost[0].reason}), which would stay random; "
                "freeze others, or start from a run that has it"
            )


def write_report(folder: Path, base: Base, outcomes: list[Outcome]) -> None:
    """Publishes `<folder>/warm_start.json`."""
    publish_json(folder / REPORT_FILE, {**base.describe(), "variables": [dataclasses.asdict(outcome) for outcome in outcomes]})


def summary(base: Base, outcomes: list[Outcome]) -> str:
    """The report for a terminal: how many variables of each status, and by reason which ones were not simply loaded."""
    counts = collections.Counter(outcome.status for outcome in outcomes)
    told = ", ".join(f"{counts[status]} {status}" for status in (LOADED, RESIZED, ANEW, NEW, DROPPED))
    lines = [f"warm start from {base.checkpoint} (data {base.info['data']}): {told}"]
    groups: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
    for outcome in outcomes:
        if outcome.status != LOADED:
            groups[outcome.status, outcome.reason].append(outcome.variable)
    lines += [f"  {status}: {', '.join(names)} ({reason})" for (status, reason), names in groups.items()]
    return "\n".join(lines)

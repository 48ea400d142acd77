"""DHEN: layers that join several backbones (KDD'22; paper sections 3.1 and 4.4, PAPERS 3.5)."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from cvr.layers.ensemble import ENSEMBLES, Ensemble


@dataclasses.dataclass(frozen=True)
class Config:
    """Scaling factors. `members` are backbones with factors of their own: `masknet:variant=M,rankmixer:tokens=8:model_width=32`.

    Each member's output becomes `tokens` embeddings of `model_width`, which `ensemble` joins.
    """

    members: str = "dcnv2:variant=S,masknet:variant=S"
    ensemble: str = "concat"
    layers: int = 1
    tokens: int = 8
    model_width: int = 16
    shortcut: bool = True
    layer_norm: bool = True

    def __post_init__(self) -> None:
        if min(self.layers, self.tokens, self.model_width) < 1:
            raise ValueError("layers, tokens and model_width are at least 1")
        if self.ensemble not in ENSEMBLES:
            raise ValueError(f"ensemble is {', '.join(ENSEMBLES)}, not {self.ensemble!r}")
        read_members(self.members)


VARIANTS = {
    size: {"members": f"dcnv2:variant={size},masknet:variant={size}", "tokens": tokens, "model_width": width}
    for size, tokens, width in (("S", 8, 16), ("M", 16, 32), ("L", 32, 32), ("XL", 64, 64))
}


def read_members(text: str) -> list[tuple[str, Any]]:
    """Name and Config of each member. Raises ValueError for what cannot be read, and what the members' own Configs raise."""
    backbones = _backbones()
    members = []
    for member in text.split(","):
        name, *settings = member.strip().split(":")
        if name == "dhen":
            raise ValueError("members: dhen cannot be its own member")
        pairs = [setting.partition("=")[::2] for setting in settings]
        bad = [setting for setting, (key, value) in zip(settings, pairs, strict=True) if not key or not value]
        if bad:
            raise ValueError(f"members: {bad[0]!r} is not factor=value; write members as name:factor=value:factor=value,name")
        values = dict(pairs)
        variant = values.pop("variant", None)
        kinds = {field.name: field.type for field in dataclasses.fields(backbones.load(name).Config)}
        typed = {key: _convert(key, value, str(kinds.get(key, "str"))) for key, value in values.items()}
        members.append((name, backbones.make_config(name, typed, variant)))
    return members


def _backbones() -> Any:
    """The package around this module; it finds this module by name, so a statement that imports it would be a circle."""
    return importlib.import_module(__name__.rpartition(".")[0])


def _convert(name: str, text: str, kind: str) -> Any:
    readers: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "str": str}
    readers["bool"] = {"true": True, "false": False}.__getitem__
    try:
        return readers[kind](text)
    except (KeyError, ValueError):
        raise ValueError(f"members: {name}={text} is not of type {kind}") from None


class _Member(tf.keras.layers.Layer):
    """A backbone inside a DHEN layer: on the input's own projections in the first layer, on a projection of the layer before in others."""

    def __init__(self, kind: str, config: Any, is_first: bool, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.backbone = _backbones().load(kind).Backbone(config, name=kind)
        total = sum(self.backbone.views.values())
        self._project = None if is_first else tf.keras.layers.Dense(total, "relu", kernel_initializer="he_normal", name="projection")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """The views side by side `[N, V]`, or the layer before `[N, D]` -> the backbone's output."""
        joined = self._project(inputs) if self._project else inputs
        views = tf.split(joined, list(self.backbone.views.values()), axis=1)
        return self.backbone(dict(zip(self.backbone.views, views, strict=True)))

    def multiply_adds(self, width: int) -> int:
        projection = width * sum(self.backbone.views.values()) if self._project else 0
        return projection + self.backbone.multiply_adds()


class Backbone(tf.keras.layers.Layer):
    """X_{n+1} = LN( Ensemble_i(member_i(X_n)) + ShortCut(X_n) ), X_0 all members' projections of the input side by side.

    In the first layer each member reads its own views of the input, exactly as it would alone; in others ReLU projections of X_n.
    """

    def __init__(self, config: Config, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.config = config
        members = read_members(config.members)
        self._members = [
            [_Member(kind, member, not layer, name=f"{kind}_{layer}_{i}") for i, (kind, member) in enumerate(members)]
            for layer in range(config.layers)
        ]
        sizes = (config.ensemble, config.tokens, config.model_width, config.shortcut, config.layer_norm)
        self._ensembles = [Ensemble(*sizes, name=f"ensemble_{layer}") for layer in range(config.layers)]

    @property
    def views(self) -> dict[str, int]:
        """Projections of the input: those of member i under the names `<i>/<view>`."""
        first = enumerate(self._members[0])
        return {f"{i}/{name}": width for i, member in first for name, width in member.backbone.views.items()}

    @property
    def width(self) -> int:
        """Of the hidden representation: l d, times the number of members with `ensemble` concat."""
        return self._ensembles[-1].output_width(len(self._members[-1]))

    def parts(self) -> dict[str, int]:
        """Multiply-adds per item of each kind of member with the projections between layers, of the maps to l d and of the shortcuts."""
        found = dict.fromkeys([*(member.backbone.name for member in self._members[0]), "ensemble"], 0)
        width = sum(self.views.values())
        for members, ensemble in zip(self._members, self._ensembles, strict=True):
            for member in members:
                found[member.backbone.name] += member.multiply_adds(width)
            found["ensemble"] += ensemble.multiply_adds(width, [member.backbone.width for member in members])
            width = ensemble.output_width(len(members))
        return found

    def multiply_adds(self) -> int:
        """Per item: the sum of the parts."""
        return sum(self.parts().values())

    def call(self, views: dict[str, tf.Tensor]) -> tf.Tensor:
        """{<member>/<view>: `[N, width]`} -> `[N, K l d]`, or `[N, l d]` for sums."""
        parts = [tf.concat([views[f"{i}/{name}"] for name in m.backbone.views], axis=1) for i, m in enumerate(self._members[0])]
        current = tf.concat(parts, axis=1)
        for members, ensemble in zip(self._members, self._ensembles, strict=True):
            outputs = [member(part) for member, part in zip(members, parts, strict=True)]
            current = ensemble([current, *outputs])
            parts = [current] * len(members)
        return current

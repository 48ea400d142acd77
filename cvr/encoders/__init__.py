"""Encoders of behaviour sequences, found by module name: `encoder: gru` in a feature spec loads `cvr.encoders.gru`.

An encoder's module defines

    Config                                a frozen dataclass of its factors, those that a spec may give beside the name
    PER_ITEM                              whether it makes a vector per item of the list (else one per list)
    make(config, length, dim, name)       -> a Keras layer for histories of `length` events of width `dim`; it has
        .list_multiply_adds(length)       multiply-adds of its matrix products once per list, after it was built
        .item_multiply_adds(length)       and per item
    encode(layer, behaviour)              -> [B, D], or [N, D] where it is PER_ITEM; builds the layer in its first call

Adding one takes one file here; nothing else needs an edit (docs/features.md). Modules whose name begins with `_`, and `behaviour`, which
says what an encoder may read, are no encoders.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import tensorflow as tf

from cvr.errors import CvrError
from cvr.schema import Feature


def names() -> tuple[str, ...]:
    """The encoders there are, in alphabetic order."""
    found = (info.name for info in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in found if not name.startswith("_") and name != "behaviour"))


def load(feature: Feature) -> ModuleType:
    """The module of a sequence's encoder. Raises CvrError naming those that exist."""
    name = feature.encoder.name
    if name not in names():
        raise CvrError(f"features.{feature.name}.encoder: no such encoder {name!r}; there are {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name}")


def make_encoder(feature: Feature, dim: int, name: str) -> tf.keras.layers.Layer:
    """The layer that reads a sequence of events of width `dim`. Raises CvrError for a factor that its encoder lacks or cannot have."""
    assert feature.history is not None
    module = load(feature)
    try:
        return module.make(_config(module.Config, feature.encoder.factors), feature.history.length, dim, name)
    except ValueError as error:
        raise CvrError(f"features.{feature.name}.encoder: {feature.encoder.name}: {error}") from error


def _config(kind: type, factors: Mapping[str, Any]) -> Any:
    known = {field.name: type(field.default) for field in dataclasses.fields(kind)}
    for name, value in factors.items():
        if name not in known:
            raise ValueError(f"unknown factor {name}; it has {', '.join(sorted(known)) or 'none'}")
        if type(value) is not known[name] and not (known[name] is float and type(value) is int):
            raise ValueError(f"{name} is of type {known[name].__name__}, not {value!r}")
    return kind(**factors)

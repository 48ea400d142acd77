"""Backbones, found by module name: `--backbone=dcnv2` loads `cvr.backbones.dcnv2`.

A backbone module defines `Config`, a frozen dataclass of its scaling factors (each becomes a flag), and `Backbone`, a Keras layer with

    Backbone(config)            made from a Config
    .views -> {name: width}     the projections of the input that it needs
    call({name: [N, width]})    -> the hidden representation [N, D]

Adding one takes one file here and one flagfile; nothing else needs an edit.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from types import ModuleType
from typing import Any

from cvr.errors import CvrError


def names() -> tuple[str, ...]:
    """The backbones there are, in alphabetic order."""
    return tuple(sorted(info.name for info in pkgutil.iter_modules(__path__) if not info.name.startswith("_")))


def load(name: str) -> ModuleType:
    """The module of a backbone. Raises CvrError naming those that exist."""
    if name not in names():
        raise CvrError(f"--backbone={name}: no such backbone; there are {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name}")


def make_config(name: str, values: dict[str, Any]) -> Any:
    """A backbone's `Config` from flag values; those left at None keep the default. Raises CvrError for a factor that it lacks."""
    config = load(name).Config
    known = {field.name for field in dataclasses.fields(config)}
    given = {key: value for key, value in values.items() if value is not None}
    for key in given:
        if key not in known:
            raise CvrError(f"--{key} does not belong to --backbone={name}, whose factors are {', '.join(sorted(known))}")
    try:
        return config(**given)
    except ValueError as error:
        raise CvrError(f"--backbone={name}: {error}") from error

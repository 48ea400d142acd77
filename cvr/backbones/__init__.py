"""Backbones, found by module name: `--backbone=dcnv2` loads `cvr.backbones.dcnv2`.

A backbone module defines `Config`, a frozen dataclass of its scaling factors (each becomes a flag); `VARIANTS`, the factors of its sizes
S, M, L and XL (`--variant`); and `Backbone`, a Keras layer with

    Backbone(config)            made from a Config
    .views -> {name: width}     the projections of the input that it needs
    .width                      D, the width of the hidden representation
    .multiply_adds()            multiply-adds of its matrix products per item, from the Config alone
    .parts() -> {kind: number}  optional: the same by kind of layer, the names that its layers have without their numbers
    call({name: [N, width]})    -> the hidden representation [N, D]

One that routes by domain says so in its Config, `routes_by_domain`, takes the number of `domains` beside the Config, finds the domain of
each item in `call` as `views["domain"]`, int32 `[N]`, and names in `DOMAIN_AXES` what has a part for each domain (`cvr.domains`).
One that behaves differently in training takes a `training` argument in `call`, to which Keras gives the ranker's, and may `add_loss`.
Adding one takes one file here and one flagfile; nothing else needs an edit (docs/models.md). Modules whose name begins with `_` are no
backbones; `_tokens` has the base class of those that work on global tokens.
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


def make_config(name: str, values: dict[str, Any], variant: str | None = None) -> Any:
    """A backbone's `Config`: its defaults, over them the factors of the size `variant`, over them the `values` that are not None.

    Raises CvrError for a factor or a variant that it lacks.
    """
    module = load(name)
    known = {field.name for field in dataclasses.fields(module.Config)}
    given = {key: value for key, value in values.items() if value is not None}
    for key in given:
        if key not in known:
            raise CvrError(f"--{key} does not belong to --backbone={name}, whose factors are {', '.join(sorted(known))}")
    if variant and variant not in module.VARIANTS:
        raise CvrError(f"--variant={variant}: --backbone={name} comes in {', '.join(module.VARIANTS)}")
    try:
        return module.Config(**{**(module.VARIANTS[variant] if variant else {}), **given})
    except ValueError as error:
        raise CvrError(f"--backbone={name}: {error}") from error

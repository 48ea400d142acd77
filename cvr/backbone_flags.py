"""One flag per scaling factor of every backbone; factors of the same name share a flag."""

from __future__ import annotations

import dataclasses
from typing import Any

from absl import flags

from cvr import backbones

_DEFINE = {"int": flags.DEFINE_integer, "float": flags.DEFINE_float, "str": flags.DEFINE_string, "bool": flags.DEFINE_bool}


def factors() -> dict[str, tuple[str, list[str]]]:
    """Every factor's (type, backbones that have it with their default). Raises TypeError where two backbones disagree on the type."""
    found: dict[str, tuple[str, list[str]]] = {}
    for name in backbones.names():
        for field in dataclasses.fields(backbones.load(name).Config):
            kind = field.type if isinstance(field.type, str) else field.type.__name__
            known, users = found.setdefault(field.name, (kind, []))
            if known != kind:
                raise TypeError(f"factor {field.name} is {known} in one backbone and {kind} in {name}")
            users.append(f"{name}: {field.default}")
    return found


def define_backbone_flags() -> None:
    """Defines the flags, all None by default, which means the backbone's own default."""
    for name, (kind, users) in factors().items():
        _DEFINE[kind](name, None, f"Scaling factor ({', '.join(users)}).")


def backbone_values(values: flags.FlagValues = flags.FLAGS) -> dict[str, Any]:
    """Values of the factors' flags, None where not given."""
    return {name: values[name].value for name in factors()}

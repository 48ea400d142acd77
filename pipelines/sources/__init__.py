"""Readers of log formats: one module per format, found by its name.

A module `pipelines.sources.<name>` offers

    find(path) -> list[InputFile]                           the files to read, each with the tables it gives
    read(file, columns) -> Iterator[(table name, pa.Table)] canonical tables; `columns` are those that the spec needs per table
    columns(file) -> {table name: set of column names}      what a file has, without reading it whole
    candidates(path, first) -> list[InputFile]              optional: files of un-exposed candidates, numbered from `first` on

Tables are `impressions`, `engagements`, `items` and, if asked for, `candidates` with the columns of docs/log_format.md. A reader that
cannot make sense of a file raises CvrError, naming it.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from cvr.errors import CvrError

_HELPERS = {"files"}


def names() -> list[str]:
    """The sources there are."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in _HELPERS)


def source(name: str) -> ModuleType:
    """The module of a source. Raises CvrError for a name that there is none for."""
    if name not in names():
        raise CvrError(f"--source={name}: no such source; there are {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name}")

"""Scaling studies, found by module name: `--study=data` runs `tools.scaling.studies.data`.

A module defines

    declare(setup) -> Study                            arms, axes and the published figures, before anything runs
    contrasts(study, results) -> [Contrast]            the claims; those of `report.ARMS` are added for every arm
    findings(study, results, how) -> [Finding]         what no contrast says, such as an identity
    sections(study, results, judged) -> [Section]      plots in the paper's form
    SPEC, LOG_FLAGS                                    optional: the spec and further flags of the synthetic log, (name, value)

A study whose runs another command makes defines what `tools.scaling.followed` says instead. Adding one takes one file here; nothing else
needs an edit.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


def names() -> tuple[str, ...]:
    """The studies there are."""
    return tuple(sorted(info.name for info in pkgutil.iter_modules(__path__)))


def load(name: str) -> ModuleType:
    """The module of a study."""
    return importlib.import_module(f"{__name__}.{name}")

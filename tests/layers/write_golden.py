"""Writes the golden files of all layer cases: `python -m tests.layers.write_golden [case]`, after a change that is meant."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import sys

import numpy as np
import pytest

import cvr  # noqa: F401  selects legacy Keras before TensorFlow is imported
from tests import layers
from tests.layers.case import GOLDEN, LayerCase


def cases() -> list[type[LayerCase]]:
    """All subclasses of the case in this folder's tests, by name."""
    for info in pkgutil.iter_modules(layers.__path__):
        if info.name.startswith("test_"):
            with contextlib.suppress(pytest.skip.Exception):  # peers that are not installed
                importlib.import_module(f"tests.layers.{info.name}")
    found, waiting = set(), [LayerCase]
    while waiting:
        children = waiting.pop().__subclasses__()
        found.update(child for child in children if child.__name__.startswith("Test"))
        waiting += children
    return sorted(found, key=lambda case: case.__name__)


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for case in cases():
        if len(sys.argv) == 1 or case.__name__ in sys.argv[1:]:
            np.savez_compressed(GOLDEN / f"{case.__name__}.npz", **case().golden())  # type: ignore[arg-type]
            print(case.__name__)

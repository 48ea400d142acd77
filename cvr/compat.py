"""Lets tensorflow-ranking run on TensorFlow >= 2.16, which has no `tensorflow.estimator` any more.

tensorflow-ranking imports `tensorflow.estimator` and `tensorflow.compat.v1.estimator` at module level, though nothing that this
project uses touches it. `install` appends a finder to `sys.meta_path` that supplies placeholder modules for those names only. It comes
last in the search, so a real estimator package always wins. Reading any attribute of a placeholder gives a `Placeholder`; calling it or
subclassing it at run time raises `NotImplementedError` with the reason.

TensorFlow is not imported here, so that the switch to legacy Keras (tf-keras), which tensorflow-recommenders needs, is made in time.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
import types
from collections.abc import Sequence

ESTIMATOR_MODULES = (
    "tensorflow.estimator",
    "tensorflow.compat.v1.estimator",
    "tensorflow._api.v2.compat.v1.estimator",
)


class Placeholder:
    """Stands where a removed estimator symbol stood; any use of it says why it cannot work."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *args: object, **kwargs: object) -> None:
        raise NotImplementedError(
            f"{self._name} was removed from TensorFlow in 2.16 and is not provided by cvr; use the Keras API instead"
        )

    def __mro_entries__(self, bases: tuple[object, ...]) -> tuple[type, ...]:
        """Allows `class A(estimator.B)` at import time; making an instance of such a class raises."""
        name = self._name

        class RemovedBase:
            def __init__(self, *args: object, **kwargs: object) -> None:
                Placeholder(name)(*args, **kwargs)

        return (RemovedBase,)

    def __getattr__(self, attribute: str) -> Placeholder:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return Placeholder(f"{self._name}.{attribute}")


class PlaceholderModule(types.ModuleType):
    """A module every attribute of which is a `Placeholder`."""

    def __getattr__(self, attribute: str) -> Placeholder:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return Placeholder(f"{self.__name__}.{attribute}")


class EstimatorFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the removed estimator modules when nothing before it in `sys.meta_path` does."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname in ESTIMATOR_MODULES or fullname.startswith(tuple(f"{name}." for name in ESTIMATOR_MODULES)):
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return PlaceholderModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing to run: attributes are made on demand."""


def install() -> None:
    """Selects legacy Keras and makes the estimator placeholders findable; calling it twice does nothing more."""
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    if not any(isinstance(finder, EstimatorFinder) for finder in sys.meta_path):
        sys.meta_path.append(EstimatorFinder())

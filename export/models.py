"""The versions of one model in a server: which are served, which requests use them, and what became of the others."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from tensorflow_serving.apis import get_model_status_pb2, model_pb2

from export.memory import give_back
from export.servable import Servable

_State = get_model_status_pb2.ModelVersionStatus
START, LOADING, AVAILABLE, UNLOADING, END = _State.START, _State.LOADING, _State.AVAILABLE, _State.UNLOADING, _State.END
_REMEMBERED = 50
"""Ended versions whose status is kept."""


@dataclasses.dataclass(frozen=True)
class Status:
    """A version's state of ModelVersionStatus, and the error that ended it: a gRPC code (0: none) and a message."""

    state: int
    code: int = 0
    message: str = ""


@dataclasses.dataclass
class _Entry:
    servable: Servable
    users: int = 0


class Models:
    """Versions of one model; the newest one served answers requests that name none. Safe to use from many threads."""

    def __init__(self, name: str, servables: Mapping[int, Servable] | None = None, labels: Mapping[str, int] | None = None) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._served: dict[int, _Entry] = {}
        self._leaving: list[tuple[int, _Entry]] = []
        self._states: dict[int, Status] = {}
        self._labels: dict[str, int] = {}
        self.switch(servables or {}, labels)

    @property
    def versions(self) -> list[int]:
        """Served versions, lowest first."""
        return sorted(self._served)

    @property
    def labels(self) -> dict[str, int]:
        """Versions by label."""
        return dict(self._labels)

    def folder(self, version: int) -> Path | None:
        """Where a served version was loaded from; None where it is not served."""
        entry = self._served.get(version)
        return entry.servable.folder if entry else None

    def find(self, spec: model_pb2.ModelSpec) -> Servable:
        """The version that a request asks for. Raises LookupError saying what is not there."""
        return self._served[self._number(spec)].servable

    @contextlib.contextmanager
    def lease(self, spec: model_pb2.ModelSpec) -> Iterator[tuple[int, Servable]]:
        """Like `find`, with the number; the version stays loaded until the block ends."""
        with self._lock:
            number = self._number(spec)
            entry = self._served[number]
            entry.users += 1
        try:
            yield number, entry.servable
        finally:
            with self._lock:
                entry.users -= 1

    def _number(self, spec: model_pb2.ModelSpec) -> int:
        if spec.name != self.name:
            raise LookupError(f"no model {spec.name!r} here; the server has {self.name!r}")
        if not self._served:
            raise LookupError(f"no version of model {self.name!r} is loaded")
        choice = spec.WhichOneof("version_choice")
        if choice is None:
            return max(self._served)
        number = self._labelled(spec.version_label) if choice == "version_label" else spec.version.value
        if number not in self._served:
            raise LookupError(f"no version {number} of model {self.name!r}; there is {', '.join(map(str, self.versions))}")
        return number

    def _labelled(self, label: str) -> int:
        if label not in self._labels:
            there = ", ".join(sorted(self._labels)) or "none"
            raise LookupError(f"no version label {label!r} for model {self.name!r}; there is {there}")
        return self._labels[label]

    def status(self) -> dict[int, Status]:
        """What is known of each version, lowest first."""
        with self._lock:
            return dict(sorted(self._states.items()))

    def describe(self, spec: model_pb2.ModelSpec) -> dict[int, Status]:
        """The status of the version that a request asks for, or of all that are known. Raises LookupError saying what is not there."""
        if spec.name != self.name:
            raise LookupError(f"no model {spec.name!r} here; the server has {self.name!r}")
        known, choice = self.status(), spec.WhichOneof("version_choice")
        if choice is None:
            return known
        number = self._labelled(spec.version_label) if choice == "version_label" else spec.version.value
        if number not in known:
            raise LookupError(f"no version {number} of model {self.name!r}; known are {', '.join(map(str, known)) or 'none'}")
        return {number: known[number]}

    def note(self, version: int, status: Status) -> None:
        """Records what happens to a version that is not served."""
        with self._lock:
            self._record(version, status)

    def switch(self, servables: Mapping[int, Servable], labels: Mapping[str, int] | None = None) -> None:
        """From now on exactly these versions are served, by number, in one step; others leave after their last request."""
        with self._lock:
            for number, entry in list(self._served.items()):
                if servables.get(number) is not entry.servable:
                    self._leaving.append((number, self._served.pop(number)))
                    self._record(number, Status(UNLOADING))
            for number, servable in servables.items():
                self._served.setdefault(number, _Entry(servable))
                self._record(number, Status(AVAILABLE))
            self._labels = dict(labels or {})

    def served(self) -> dict[int, Servable]:
        """Served versions by number."""
        with self._lock:
            return {number: entry.servable for number, entry in self._served.items()}

    def sweep(self) -> None:
        """Unloads the versions that left and whose last request has ended."""
        with self._lock:
            idle = [place for place in self._leaving if not place[1].users]
            self._leaving = [place for place in self._leaving if place[1].users]
        for number, entry in idle:
            entry.servable.close()
            with self._lock:
                if number not in self._served:
                    self._record(number, Status(END))
        if idle:
            give_back()

    def _record(self, version: int, status: Status) -> None:
        self._states[version] = status
        ended = sorted(number for number, known in self._states.items() if known.state == END)
        for number in ended[:-_REMEMBERED]:
            del self._states[number]

"""Keeps a server's versions as the model folder has them: new ones in when they are fit, old ones out after their last request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import grpc
from absl import logging

from cvr.errors import CvrError
from export.metrics import Metrics
from export.models import END, LOADING, START, Models, Status
from export.servable import Servable
from export.source import Source

Load = Callable[[Path], Servable]
_Files = frozenset[tuple[str, int, int]]
_FAILED = grpc.StatusCode.FAILED_PRECONDITION.value[0]


class Watcher:
    """Looks at the source every `seconds` once started; `poll` looks now.

    A version that cannot be loaded or fails its self-check is refused: those before it go on, and it is tried again when its files
    change. Where the source has no version left, the last ones stay.
    """

    def __init__(self, models: Models, source: Source, load: Load, metrics: Metrics | None = None, seconds: float = 1.0) -> None:
        self._models, self._source, self._load, self._metrics, self._seconds = models, source, load, metrics, seconds
        self._refused: dict[Path, tuple[_Files, str]] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)

    def start(self) -> None:
        """Begins to look at the source in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread, after what it is loading now."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def load_first(self) -> None:
        """Loads what the source has. Raises CvrError where nothing of it can be served, or a label's version cannot."""
        self.apply(self._source)

    def poll(self) -> None:
        """Looks at the source once: loads, switches, unloads."""
        with self._lock:
            staged = self._stage(self._source)
            if staged:
                self._switch(staged, self._source)
            self._models.sweep()

    def apply(self, source: Source) -> None:
        """Serves from another source, or with another policy or labels, once its versions are loaded.

        Raises CvrError, and changes nothing, where none of them can be served or a label's version is not among them.
        """
        with self._lock:
            staged = self._stage(source)
            try:
                self._check(source, staged)
            except CvrError:
                self._drop(staged)
                raise
            self._source = source
            self._switch(staged, source)
            self._models.sweep()

    def _watch(self) -> None:
        while not self._stopped.wait(self._seconds):
            try:
                self.poll()
            except Exception:  # a file system that fails for a moment must not end the watch
                logging.exception("the model folder could not be looked at; it is tried again")

    def _stage(self, source: Source) -> dict[int, Servable]:
        """What the source wants served: versions that are, and new ones, loaded. Refused ones make room for those before them."""
        folders = source.folders()
        self._forget(folders.values())
        served, staged = self._models.served(), dict[int, Servable]()
        while True:
            wanted = source.choose(version for version, folder in folders.items() if folder not in self._refused)
            missing = [version for version in wanted if version not in staged]
            if not missing:
                self._drop({version: kept for version, kept in staged.items() if version not in wanted})
                return {version: staged[version] for version in wanted}
            version, folder = missing[0], folders[missing[0]]
            if version in served and served[version].folder == folder:
                staged[version] = served[version]
                continue
            loaded = self._try(version, folder)
            if loaded is not None:
                staged[version] = loaded

    def _try(self, version: int, folder: Path) -> Servable | None:
        files = _files(folder)
        is_served = version in self._models.versions
        if not is_served:
            self._models.note(version, Status(START))
            self._models.note(version, Status(LOADING))
        try:
            return self._load(folder)
        except Exception as error:
            if not isinstance(error, CvrError):
                logging.exception("loading %s failed for a reason that is no fault of its files", folder)
            message = str(error) if isinstance(error, CvrError) else f"{folder} cannot be loaded: {type(error).__name__}: {error}"
            logging.error("version %d is refused, what was served before goes on: %s", version, message)
            self._refused[folder] = (files, message)
            if not is_served:
                self._models.note(version, Status(END, _FAILED, message))
            if self._metrics:
                self._metrics.refused.inc()
            return None

    def _switch(self, staged: dict[int, Servable], source: Source) -> None:
        before = self._models.versions
        self._models.switch(staged, source.labels)
        if before and before != self._models.versions:
            print(f"serving version {_listed(staged)}, no longer {_listed(before)}", flush=True)

    def _check(self, source: Source, staged: dict[int, Servable]) -> None:
        if not staged:
            reasons = [self._refused[folder][1] for folder in reversed(source.folders().values()) if folder in self._refused]
            hint = f"no model version under {source.base}; export one first: python -m export.save --run=RUN --output={source.base}"
            raise CvrError(reasons[0] if reasons else hint)
        for label, version in sorted(source.labels.items()):
            if version not in staged:
                raise CvrError(f"version label {label!r} stands for version {version}, which is not served; there is {_listed(staged)}")

    def _drop(self, staged: dict[int, Servable]) -> None:
        served = self._models.served()
        for version, servable in staged.items():
            if served.get(version) is not servable:
                servable.close()
                if version not in served:
                    self._models.note(version, Status(END))

    def _forget(self, folders: Iterable[Path]) -> None:
        present = set(folders)
        kept = {path: refused for path, refused in self._refused.items() if path in present and _files(path) == refused[0]}
        self._refused = kept


def _files(folder: Path) -> _Files:
    """Names, sizes and times of a folder's files: whether a refused version changed. Empty where the folder is gone."""
    try:
        found = [(path, path.stat()) for path in folder.rglob("*")]
    except OSError:
        return frozenset()
    return frozenset((str(path), stat.st_size, stat.st_mtime_ns) for path, stat in found)


def _listed(versions: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(versions)))

"""Which versions are served as folders come and go; loading is stood in for, so only the decisions are tested here."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from tensorflow_serving.apis import model_pb2

from cvr.errors import CvrError
from export.models import AVAILABLE, END, UNLOADING, Models
from export.source import Source
from export.watcher import Watcher
from tests.export.stand_ins import StandIn


class Loader:
    """Loads stand-ins, and refuses folders that hold a file `broken`."""

    def __init__(self) -> None:
        self.loaded: list[StandIn] = []

    def __call__(self, folder: Path) -> Any:
        if (folder / "broken").exists():
            raise CvrError(f"{folder} is broken")
        self.loaded.append(StandIn(folder))
        return self.loaded[-1]


@pytest.fixture
def loader() -> Loader:
    return Loader()


@pytest.fixture
def models() -> Models:
    return Models("cvr")


def _add(base: Path, *versions: int, broken: bool = False) -> None:
    for version in versions:
        (base / str(version)).mkdir(parents=True)
        (base / str(version) / ("broken" if broken else "saved_model.pb")).touch()


def _watcher(models: Models, base: Path, loader: Loader, **policy: Any) -> Watcher:
    watcher = Watcher(models, Source(base, **policy), loader)
    watcher.load_first()
    return watcher


def _states(models: Models) -> dict[int, int]:
    return {version: status.state for version, status in models.status().items()}


def test_newest_comes_in_and_a_rollback_brings_the_old_one_back(models: Models, loader: Loader, tmp_path: Path) -> None:
    _add(tmp_path, 2, 10)
    watcher = _watcher(models, tmp_path, loader)
    assert models.versions == [10]
    _add(tmp_path, 11)
    watcher.poll()
    assert models.versions == [11] and _states(models) == {10: END, 11: AVAILABLE}
    assert [version.closed for version in loader.loaded] == [True, False]
    shutil.rmtree(tmp_path / "11")
    watcher.poll()
    assert models.versions == [10] and _states(models) == {10: AVAILABLE, 11: END}
    assert [version.version for version in loader.loaded] == [10, 11, 10]
    watcher.poll()
    assert len(loader.loaded) == 3


def test_a_refused_version_changes_nothing_until_its_files_do(models: Models, loader: Loader, tmp_path: Path) -> None:
    _add(tmp_path, 1)
    watcher = _watcher(models, tmp_path, loader)
    _add(tmp_path, 2, broken=True)
    for _ in range(2):
        watcher.poll()
    status = models.status()
    assert models.versions == [1] and status[2].state == END and status[2].code == 9 and "2 is broken" in status[2].message
    (tmp_path / "2" / "broken").unlink()
    watcher.poll()
    assert models.versions == [2] and _states(models) == {1: END, 2: AVAILABLE}


def test_at_the_start_the_newest_fit_version_is_taken(models: Models, loader: Loader, tmp_path: Path) -> None:
    _add(tmp_path, 1)
    _add(tmp_path, 2, broken=True)
    _watcher(models, tmp_path, loader)
    assert models.versions == [1]
    with pytest.raises(CvrError, match="no model version under"):
        _watcher(Models("cvr"), tmp_path / "none", loader)
    shutil.rmtree(tmp_path / "1")
    with pytest.raises(CvrError, match="2 is broken"):
        _watcher(Models("cvr"), tmp_path, loader)


def test_an_empty_folder_takes_nothing_away(models: Models, loader: Loader, tmp_path: Path) -> None:
    _add(tmp_path, 1)
    watcher = _watcher(models, tmp_path, loader)
    shutil.rmtree(tmp_path)
    watcher.poll()
    assert models.versions == [1] and not loader.loaded[0].closed


def test_policies(models: Models, loader: Loader, tmp_path: Path) -> None:
    _add(tmp_path, 1, 2, 3, 4)
    watcher = _watcher(models, tmp_path, loader, latest=2)
    assert models.versions == [3, 4]
    watcher.apply(Source(tmp_path, None))
    assert models.versions == [1, 2, 3, 4] and len(loader.loaded) == 4
    watcher.apply(Source(tmp_path, None, frozenset({1, 4}), {"stable": 1}))
    assert models.versions == [1, 4] and models.labels == {"stable": 1}


def test_a_source_that_cannot_be_served_changes_nothing(models: Models, loader: Loader, tmp_path: Path) -> None:
    _add(tmp_path / "a", 1, 2)
    _add(tmp_path / "b", 2)
    watcher = _watcher(models, tmp_path / "a", loader)
    with pytest.raises(CvrError, match="no model version under"):
        watcher.apply(Source(tmp_path / "c"))
    with pytest.raises(CvrError, match="label 'canary' stands for version 7, which is not served; there is 2"):
        watcher.apply(Source(tmp_path / "b", labels={"canary": 7}))
    watcher.poll()
    assert models.versions == [2] and models.folder(2) == tmp_path / "a" / "2" and [v.closed for v in loader.loaded] == [False, True]
    watcher.apply(Source(tmp_path / "b"))  # the same number from another folder
    assert models.folder(2) == tmp_path / "b" / "2" and _states(models)[2] == AVAILABLE and loader.loaded[0].closed


def test_a_version_is_unloaded_after_its_last_request(models: Models, loader: Loader, tmp_path: Path) -> None:
    _add(tmp_path, 1)
    watcher = _watcher(models, tmp_path, loader)
    with models.lease(model_pb2.ModelSpec(name="cvr")) as (number, servable):
        _add(tmp_path, 2)
        watcher.poll()
        assert number == 1 and not loader.loaded[0].closed and _states(models) == {1: UNLOADING, 2: AVAILABLE}
        with models.lease(model_pb2.ModelSpec(name="cvr")) as (newer, _):
            assert newer == 2
    watcher.poll()
    assert loader.loaded[0].closed and _states(models) == {1: END, 2: AVAILABLE}


def test_few_ended_versions_are_remembered(
    models: Models, loader: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.models._REMEMBERED", 3)
    _add(tmp_path, 1)
    watcher = _watcher(models, tmp_path, loader)
    for version in range(2, 8):
        _add(tmp_path, version)
        watcher.poll()
    assert sorted(_states(models)) == [4, 5, 6, 7]

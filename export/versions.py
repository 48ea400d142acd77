"""Version folders `<base>/<digits>/` as TF Serving reads them, published whole by one rename."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from cvr.errors import CvrError

MODEL_FILE = "saved_model.pb"
RETIRED = "retired"
"""Folder beside the versions with those that were rolled back; no server looks into it."""


def published(base: Path) -> dict[int, Path]:
    """Versions under a base folder, lowest first. Empty where there is none."""
    if not base.is_dir():
        return {}
    found = {int(p.name): p for p in base.iterdir() if p.name.isdecimal() and p.name.isascii() and p.is_dir()}
    return dict(sorted(found.items()))


def newest(path: str | Path) -> Path:
    """The newest version under a base folder, or the version folder itself if that is what was given. Raises CvrError without one."""
    folder = Path(path)
    if (folder / MODEL_FILE).is_file():
        return folder
    versions = published(folder)
    if not versions:
        raise CvrError(f"no model version under {folder}; export one first: python -m export.save --run=RUN --output={folder}")
    version, found = versions.popitem()
    if not (found / MODEL_FILE).is_file():
        raise CvrError(f"version {version} in {found} has no {MODEL_FILE}; remove the folder and export again")
    return found


def choose_version(base: Path, wanted: str | None) -> int:
    """The version to publish: the highest one, in use or retired, plus 1, or `wanted`.

    Raises CvrError if it is not a number or was there already.
    """
    versions = {**published(base / RETIRED), **published(base)}
    if wanted is None or wanted == "":
        return max(versions, default=0) + 1
    if not (wanted.isascii() and wanted.isdecimal()) or not 0 < int(wanted) < 2**63 or wanted.startswith("0"):
        raise CvrError(f"--version={wanted} must be a whole number above 0, without leading zeros: TF Serving orders versions by it")
    if int(wanted) in versions:
        raise CvrError(
            f"version {wanted} is already published in {versions[int(wanted)]} and is never changed; "
            f"give another --version or none (the next is {max(versions) + 1})"
        )
    return int(wanted)


def retire(base: Path, above: int) -> list[int]:
    """Moves the versions above one into `retired/`, by renames, and gives their numbers, lowest first.

    The highest goes last, so the newest version changes once, and an interrupted call can be repeated. Raises CvrError where `retired/`
    has one of them already.
    """
    leaving = {version: folder for version, folder in published(base).items() if version > above}
    _move(leaving, base / RETIRED)
    return list(leaving)


def restore(base: Path, up_to: int | None = None) -> list[int]:
    """Moves retired versions that are newer than the newest in use, and not above `up_to`, back, the highest first; gives their numbers."""
    newest_used = max(published(base), default=0)
    chosen = {v: f for v, f in published(base / RETIRED).items() if newest_used < v and (up_to is None or v <= up_to)}
    back = dict(sorted(chosen.items(), reverse=True))
    _move(back, base)
    return list(back)


def _move(folders: dict[int, Path], target: Path) -> None:
    target.mkdir(exist_ok=True)
    for folder in folders.values():
        final = target / folder.name
        if final.exists():
            raise CvrError(f"{final} is there already, so {folder} cannot be moved to it; look at both and remove one")
    for folder in folders.values():
        os.rename(folder, target / folder.name)
        _sync(target)
        _sync(folder.parent)


def publish(base: Path, version: int, write: Callable[[Path], None]) -> Path:
    """Lets `write` fill a hidden folder, flushes it to disk and renames it to `<base>/<version>`.

    Whatever interrupts `write` removes the hidden folder, and a killed process leaves one that no reader takes for a version.
    Raises CvrError when the version came into being meanwhile.
    """
    base.mkdir(parents=True, exist_ok=True)
    temporary = base / f".{version}.{uuid.uuid4().hex[:8]}.tmp"
    final = base / str(version)
    try:
        _refuse_existing(final)
        write(temporary)
        _flush(temporary)
        _refuse_existing(final)
        os.rename(temporary, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync(base)
    return final


def _refuse_existing(final: Path) -> None:
    if final.exists():
        raise CvrError(f"version {final.name} was published in {final} meanwhile; export again for the next version")


def _flush(folder: Path) -> None:
    for root, _, files in os.walk(folder):
        for name in files:
            _sync(Path(root) / name)
        _sync(Path(root))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

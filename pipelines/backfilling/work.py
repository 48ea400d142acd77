"""The work folder of an unfinished backfill, `<output>/work`: what was asked, so that only the same command goes on, and what is done.

    work/request.json    the flags and what they stood for; written first
    work/lists/<day>/    the build of the asked features alone, of the step that begins on that day
    work/done/<split>/<day>/part-<p>.json   what became of a file, written after it: a rerun does not write that file again
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from apache_beam.io.filesystems import FileSystems

from cvr.errors import CvrError
from cvr.manifest import MANIFEST_NAME, publish_json
from pipelines import write
from pipelines.backfilling.request import Plan
from pipelines.claim import Claim, claim
from pipelines.sources import source
from pipelines.sources.files import match

WORK = "work"
_REQUEST = "request.json"


@dataclasses.dataclass(frozen=True)
class Workspace:
    """Where a backfill writes; `data_folder` is relative to the output and part of what is published."""

    output: str
    data_folder: str

    def path(self, *parts: str) -> str:
        """A path in the work folder."""
        return FileSystems.join(self.output, WORK, *parts)

    def data(self, *parts: str) -> str:
        """A path in the data folder."""
        return FileSystems.join(self.output, self.data_folder, *parts)


def put_json(path: str, content: Any) -> None:
    """Writes JSON so that a reader sees all of it or nothing."""
    if write.is_local(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        publish_json(Path(path), content)
    else:
        write.write_bytes(path, json.dumps(content).encode())


def get_json(path: str) -> Any:
    """What `put_json` wrote; None where there is nothing."""
    if not FileSystems.exists(path):
        return None
    with FileSystems.open(path) as file:
        return json.loads(file.read())


def file_sizes(paths: Sequence[str]) -> list[int]:
    """Bytes of files; each of their folders is listed once. Raises CvrError for a file that is not there."""
    places = [FileSystems.split(path) for path in paths]  # of relative paths on this machine it gives absolute folders
    found = FileSystems.match([FileSystems.join(folder, "*") for folder in sorted({folder for folder, _ in places})])
    sizes = {FileSystems.split(entry.path): int(entry.size_in_bytes) for folder in found for entry in folder.metadata_list}
    missing = [path for path, place in zip(paths, places, strict=True) if place not in sizes]
    if missing:
        raise CvrError(f"{missing[0]} was there a moment ago and is not any more")
    return [sizes[place] for place in places]


def _digest(paths: Sequence[str]) -> str:
    """A hash of files' names and sizes."""
    listed = "\n".join(f"{path} {size}" for path, size in sorted(zip(paths, file_sizes(paths), strict=True)))
    return f"{len(paths)} files, {hashlib.sha256(listed.encode()).hexdigest()[:12]}"


def describe(plan: Plan) -> dict[str, str]:
    """Everything that decides what a backfill writes, by the flag that it came from."""
    request = plan.request
    found = {
        "lists": f"{request.lists}, data fingerprint {plan.manifest.data_fingerprint()}",
        "features": ",".join(request.features),
        "start": request.start,
        "end": request.end,
        "step_days": str(request.step_days),
        "spec": hashlib.sha256(plan.spec_text.encode()).hexdigest()[:12],
        "source": plan.source,
        "input": f"{plan.input}, {_digest([file.path for file in source(plan.source).find(plan.input)])}",
    }
    if request.table:
        found["table"] = f"{request.table.path}, {_digest(request.table.files())}"
        found["table_keys"] = ",".join(request.table.keys)
        found["table_lag"] = f"{request.table.lag} ms"
    return found


def _begin(output: str, asked: dict[str, str], force: bool) -> Workspace:
    """The workspace to go on with, if the features were computed already; else a new one."""
    path = FileSystems.join(output, WORK, _REQUEST)
    begun = get_json(path)
    if begun is not None and not force:
        found = Workspace(output, begun["data_folder"])
        if match(found.path("lists", "*", MANIFEST_NAME)):
            _check_same(output, begun["request"], asked)
            return found
    place = Workspace(output, f"data-{uuid.uuid4().hex[:12]}")
    for name in ("lists", "done"):
        write.delete_tree(place.path(name))
    write.prepare_output(output, place.data_folder)
    put_json(path, {"data_folder": place.data_folder, "request": asked})
    return place


def _check_same(output: str, begun: dict[str, str], asked: dict[str, str]) -> None:
    flags = sorted({*begun, *asked})
    differ = [f"--{key} (was {begun.get(key)}, now {asked.get(key)})" for key in flags if begun.get(key) != asked.get(key)]
    if differ:
        raise CvrError(
            f"--output={output} holds an unfinished backfill that was asked for differently: {'; '.join(differ)}. "
            "Give the same flags to go on, --force to start anew, or another folder"
        )


@contextlib.contextmanager
def opened(plan: Plan, force: bool = False) -> Iterator[tuple[Workspace, Claim]]:
    """The workspace of a backfill, new or the one that the same request left behind, and the claim to it; `force` starts anew.

    Raises CvrError where the output is published, another process writes there, or another request was left unfinished.
    """
    output = plan.request.output
    write.check_output(output)
    asked = describe(plan)
    with claim(output, f"backfill-{uuid.uuid4().hex[:12]}") as held:
        yield _begin(output, asked, force), held


def remove(place: Workspace) -> None:
    """Removes the work folder."""
    write.delete_tree(place.path())

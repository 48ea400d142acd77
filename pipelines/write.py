"""Record files and the publication of a build.

Files go to `<output>/data-<id>/<split>/<day>/part-<partition>.tfrecord.gz` through Beam's filesystems; a reader only looks at what
`manifest.json` names, and that is written last. Folders `data-*` of an output without a manifest are what killed builds left behind;
`failed-*` hold the dead letters of builds that failed. The next build removes both.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import re
import shutil
import struct
import time
from collections.abc import Iterable
from pathlib import Path

import google_crc32c
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from isal import igzip

from cvr.errors import CvrError
from cvr.manifest import MANIFEST_NAME, Manifest, publish_json

_MASK_DELTA = 0xA282EAD8
_LEFT_BEHIND = re.compile(r"((data|failed)-[0-9a-f]{12}|\.manifest\.json\.[0-9a-f]{8}\.tmp)$")


def mask_crc(crc: int) -> int:
    """TFRecord's mask of a CRC-32C: rotated right by 15 bits, plus a constant."""
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def masked_crc(data: bytes) -> int:
    """TFRecord's masked CRC-32C of data."""
    return mask_crc(google_crc32c.value(data))


@functools.lru_cache(maxsize=65_536)
def _head(length: int) -> bytes:
    """The length of a record and its CRC, as they stand before it."""
    packed = struct.pack("<Q", length)
    return packed + struct.pack("<I", masked_crc(packed))


def frame(records: Iterable[bytes]) -> bytes:
    """Records in TFRecord framing: length, its CRC, data, its CRC, all little-endian."""
    pieces: list[bytes] = []
    for record in records:
        pieces += (_head(len(record)), record, masked_crc(record).to_bytes(4, "little"))
    return b"".join(pieces)


def write_bytes(path: str, data: bytes) -> None:
    """Writes a file as it is, whatever its name says about compression, and makes its folder."""
    folder, _ = FileSystems.split(path)
    if not FileSystems.exists(folder):
        try:
            FileSystems.mkdirs(folder)
        except OSError:
            pass  # another worker was faster
    with FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        file.write(data)


def write_records(path: str, records: Iterable[bytes]) -> tuple[int, str]:
    """Writes a gzipped TFRecord file; gives (bytes, SHA-256) of it. The same records give the same bytes."""
    data = igzip.compress(frame(records), compresslevel=1, mtime=0)
    write_bytes(path, data)
    return len(data), hashlib.sha256(data).hexdigest()


def is_local(output: str) -> bool:
    """Whether an output lies on this machine's file system."""
    return "://" not in output


def check_output(output: str) -> None:
    """Raises CvrError where an output holds a published build, is a file, or lies on an unknown filesystem; changes nothing."""
    check_filesystem(output, "output")
    if FileSystems.exists(FileSystems.join(output, MANIFEST_NAME)):
        raise CvrError(
            f"--output={output} holds published lists ({MANIFEST_NAME}); give a new folder, or remove this one to build anew"
        )
    if is_local(output) and Path(output).exists() and not Path(output).is_dir():
        raise CvrError(f"--output={output} is a file; give a folder")


def prepare_output(output: str, folder: str) -> None:
    """Removes what killed and failed builds left in an output and makes this build's own folder in it; call it under a claim.

    Raises CvrError where the output holds a published build or cannot be written.
    """
    check_output(output)
    try:
        for path in _left_behind(output):
            delete_tree(path)
        FileSystems.mkdirs(FileSystems.join(output, folder))
    except OSError as error:
        raise CvrError(f"--output={output} cannot be written: {error}") from error


def check_filesystem(path: str, flag: str) -> None:
    """Raises CvrError for a path of a filesystem that Beam does not have here."""
    try:
        FileSystems.get_filesystem(path)
        missing = path.startswith("s3://") and importlib.util.find_spec("boto3") is None  # Beam notices that at the first access
    except (ValueError, OSError) as error:
        if not path.startswith("gs://"):
            raise CvrError(f"--{flag}={path}: {error}; the extras gcs and aws of this package bring more filesystems") from error
        missing = True
    if missing:
        extra = "aws" if path.startswith("s3://") else "gcs"
        raise CvrError(f"--{flag}={path}: this filesystem needs the extra {extra!r}: pip install 'cvr[{extra}]'")


def _left_behind(output: str) -> list[str]:
    """Folders and files of earlier builds in an output without a manifest."""
    if is_local(output):
        found = [str(path) for path in Path(output).glob("*")]
    else:
        parts = (path[len(output) :].strip("/").split("/")[0] for path in files_below(output))
        found = [FileSystems.join(output, part) for part in parts]
    return sorted({path for path in found if _LEFT_BEHIND.fullmatch(FileSystems.split(path)[1])})


def files_below(folder: str) -> list[str]:
    """All files of a folder of a Beam filesystem, at any depth; [] where there is none, as object stores know no empty folders."""
    return [entry.path for entry in FileSystems.match([FileSystems.join(folder, "**")])[0].metadata_list]


def delete_tree(path: str) -> None:
    """Deletes a file or a folder with all that is in it, if it is there; on object stores, which have no folders, every object below."""
    if not is_local(path):
        found = files_below(path)
        if found:
            FileSystems.delete(found)
    elif Path(path).is_dir():
        _delete_folder(path)
    else:
        Path(path).unlink(missing_ok=True)


def _delete_folder(path: str) -> None:
    """Deletes a folder to which threads of an interrupted build may still be writing their last files."""
    for seconds in (0.1, 0.3, 1.0):
        try:
            shutil.rmtree(path)
            return
        except OSError:
            time.sleep(seconds)
    if Path(path).exists():
        shutil.rmtree(path)


def remove_data(output: str, folder: str) -> None:
    """Removes a build's own files after it failed."""
    delete_tree(FileSystems.join(output, folder))


def keep_dead_letters(output: str, folder: str, kept: str) -> str:
    """Moves a failed build's dead-letter files from `<folder>/bad` to `<kept>/bad`; gives that place, or "" where there are none."""
    source, target = (FileSystems.join(output, name, "bad") for name in (folder, kept))
    if is_local(output):
        if not Path(source).is_dir():
            return ""
        Path(target).parent.mkdir()
        Path(source).rename(target)
        return target
    letters = files_below(source)
    if letters:
        FileSystems.rename(letters, [FileSystems.join(target, FileSystems.split(path)[1]) for path in letters])
    return target if letters else ""


def remove_spilled(folder: str | None) -> int:
    """Removes what a build shuffled through files; gives their bytes."""
    if folder is None:
        return 0
    size = sum(entry.size_in_bytes for entry in FileSystems.match([FileSystems.join(folder, "**")])[0].metadata_list)
    delete_tree(folder)
    return size


def publish(output: str, manifest: Manifest) -> None:
    """Publishes a build: its manifest appears in one step."""
    if is_local(output):
        publish_json(Path(output) / MANIFEST_NAME, manifest)
    else:
        write_bytes(FileSystems.join(output, MANIFEST_NAME), (manifest.model_dump_json(indent=1) + "\n").encode())

"""Which versions a server takes from where: a base folder, a version policy and labels, from flags or TF Serving's ModelServerConfig."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from cvr.errors import CvrError
from export.versions import MODEL_FILE, published

_PLATFORM = "tensorflow"


@dataclasses.dataclass(frozen=True)
class Source:
    """Versions under `base`, or `base` itself if it is one: the `latest` newest ones, those in `specific`, or all if both are None."""

    base: Path
    latest: int | None = 1
    specific: frozenset[int] | None = None
    labels: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def folders(self) -> dict[int, Path]:
        """Version folders that are there now."""
        if (self.base / MODEL_FILE).is_file():
            return {int(self.base.name) if self.base.name.isdecimal() else 0: self.base}
        return published(self.base)

    def choose(self, versions: Iterable[int]) -> list[int]:
        """The versions to serve out of those that could be, newest first."""
        ordered = sorted(versions, reverse=True)
        if self.specific is not None:
            return [version for version in ordered if version in self.specific]
        return ordered[: self.latest]

    @classmethod
    def from_config(cls, config: model_server_config_pb2.ModelServerConfig, name: str) -> Source:
        """The source of the one model that a server has. Raises CvrError naming the field that it cannot take."""
        entries = config.model_config_list.config
        names = [entry.name for entry in entries]
        if names != [name]:
            raise CvrError(f"model_config_list must have exactly one entry, for model {name!r}, and has {names}; run a server per model")
        (entry,) = entries
        if entry.model_platform not in ("", _PLATFORM):
            raise CvrError(f"model_platform {entry.model_platform!r} of model {name!r} must be {_PLATFORM!r}")
        if not entry.base_path:
            raise CvrError(f"base_path of model {name!r} is empty; give the folder of its versions")
        return cls(Path(entry.base_path), *_policy(entry), labels=dict(entry.version_labels))

    @classmethod
    def from_file(cls, path: str, name: str) -> Source:
        """The source that a `models.config` (ModelServerConfig as text) describes. Raises CvrError where it cannot be read or taken."""
        config = model_server_config_pb2.ModelServerConfig()
        try:
            text_format.Parse(Path(path).read_text(encoding="utf-8"), config)
            return cls.from_config(config, name)
        except (OSError, UnicodeDecodeError, text_format.ParseError, CvrError) as error:
            raise CvrError(f"--model_config_file={path}: {error}") from error


def _policy(entry: model_server_config_pb2.ModelConfig) -> tuple[int | None, frozenset[int] | None]:
    policy = entry.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return None, None
    if choice == "specific":
        if not policy.specific.versions:
            raise CvrError(f"model_version_policy.specific of model {entry.name!r} names no version")
        return None, frozenset(policy.specific.versions)
    return (policy.latest.num_versions or 1) if choice else 1, None

from __future__ import annotations

from pathlib import Path

import pytest

from cvr.errors import CvrError
from export.source import Source

CONFIG = 'model_config_list {{ config {{ name: "cvr" base_path: "/m" model_platform: "tensorflow" {} }} }}'


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [
        ("", [5]),
        ("model_version_policy { latest { num_versions: 2 } }", [5, 3]),
        ("model_version_policy { latest { } }", [5]),
        ("model_version_policy { all { } }", [5, 3, 1]),
        ("model_version_policy { specific { versions: 1 versions: 3 versions: 9 } }", [3, 1]),
    ],
)
def test_policies_of_a_config_file(policy: str, chosen: list[int], tmp_path: Path) -> None:
    (tmp_path / "models.config").write_text(CONFIG.format(policy), encoding="utf-8")
    source = Source.from_file(str(tmp_path / "models.config"), "cvr")
    assert source.base == Path("/m") and source.choose([1, 5, 3]) == chosen


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"exactly one entry, for model 'cvr', and has \[\]"),
        ('model_config_list { config { name: "other" base_path: "/m" } }', "has .'other'."),
        ('model_config_list { config { name: "cvr" } }', "base_path of model 'cvr' is empty"),
        ('model_config_list { config { name: "cvr" base_path: "/m" model_platform: "torch" } }', "'torch' .* must be 'tensorflow'"),
        (CONFIG.format("model_version_policy { specific { } }"), "names no version"),
        ("model_config_list { colour: 1 }", "colour"),
    ],
)
def test_config_files_that_cannot_be_taken(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "models.config").write_text(text, encoding="utf-8")
    with pytest.raises(CvrError, match=f"--model_config_file=.*{message}"):
        Source.from_file(str(tmp_path / "models.config"), "cvr")


def test_labels_and_a_version_folder_as_base(tmp_path: Path) -> None:
    (tmp_path / "models.config").write_text(CONFIG.format('version_labels { key: "canary" value: 5 }'), encoding="utf-8")
    assert Source.from_file(str(tmp_path / "models.config"), "cvr").labels == {"canary": 5}
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "saved_model.pb").touch()
    assert Source(tmp_path).folders() == Source(tmp_path / "7").folders() == {7: tmp_path / "7"}

"""Lists to train on, made once per test module."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import LEAN, random_columns, tiny_spec, write_lists


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Published lists: 40 to train on in two files, 15 for validation, 15 for test."""
    folder, spec = tmp_path_factory.mktemp("data") / "lists", tiny_spec(LEAN)
    splits = {
        "train": [random_columns(spec, 20, seed) for seed in (1, 2)],
        "validation": [random_columns(spec, 15, 3)],
        "test": [random_columns(spec, 15, 4)],
    }
    write_lists(folder, splits, LEAN)
    return folder

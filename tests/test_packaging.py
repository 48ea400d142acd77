"""The source distribution, which `--setup_file=./setup.py` sends to a runner's workers, holds every file of the packages."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

PACKAGES = ("cvr", "pipelines", "export", "tools")
READ_BY_SETUP = ("setup.py", "pyproject.toml", "README.md", "LICENSE")


def test_the_sdist_holds_what_the_packages_hold(project_root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"  # setuptools writes beside setup.py
    for package in PACKAGES:
        shutil.copytree(project_root / package, copy / package, ignore=shutil.ignore_patterns("__pycache__", "BUILD"))
    for name in READ_BY_SETUP:
        shutil.copy(project_root / name, copy / name)
    files = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    # What Beam's stager calls, too, where the package `build` is not installed.
    command = [sys.executable, "setup.py", "-q", "sdist", f"--dist-dir={tmp_path}"]
    subprocess.run(command, cwd=copy, check=True, capture_output=True, timeout=120)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        inside = {name.split("/", 1)[1] for name in opened.getnames() if "/" in name}
    assert len(files) > 100 and not files - inside

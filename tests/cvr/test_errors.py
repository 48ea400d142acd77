"""Wrong flags: what was meant, and where in which flagfile it stands."""

from __future__ import annotations

from pathlib import Path

import pytest
from absl import flags

from cvr.errors import parse_flags


def _said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    values = flags.FlagValues()
    flags.DEFINE_integer("layers", 1, "Layers.", flag_values=values)
    flags.DEFINE_bool("fast", False, "Speed.", flag_values=values)
    with pytest.raises(SystemExit) as caught:
        parse_flags(["job", *arguments], values)
    assert caught.value.code == 1
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--layer=3", "Unknown command line flag 'layer'. Did you mean: layers ?"),
        ("-nofats", "Unknown command line flag 'nofats'"),
        ("--layers=many", "flag --layers=many: invalid literal"),
    ],
)
def test_flagfile_and_line_are_named(line: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inner, outer = tmp_path / "inner.flags", tmp_path / "outer.flags"
    inner.write_text(f"# a comment\n--layers=2\n{line}\n")
    outer.write_text(f"--fast\n--flagfile={inner}\n--flagfile={outer}\n")
    assert f"Flags parsing error: {inner}:3: {said}" in _said(capsys, "--fast", f"--flagfile={outer}")
    assert f"{inner}:3: {said}" in _said(capsys, "--flagfile", str(inner))
    assert f"Flags parsing error: {said}" in _said(capsys, line)


def test_a_flagfile_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "masknet.flags").touch()
    said = _said(capsys, f"--flagfile={tmp_path / 'maksnet.flags'}")
    assert "Unable to open flagfile" in said and "Did you mean: masknet.flags ?" in said

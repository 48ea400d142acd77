from __future__ import annotations

import pytest

from export import describe
from export.servable import Servable
from tests.commands import run_main
from tests.export.conftest import Exported


def test_list_by_hand() -> None:
    price = {"dtype": "float32", "shape": [None], "meaning": "numerical, column item.price"}
    age = {"dtype": "float32", "shape": [None]}
    sides = {"inputs": {"price": price, "h.age": age}, "outputs": {"w": {"dtype": "int32", "shape": [1, 4]}}}
    assert describe.listed({"score": sides}).splitlines() == [
        "score",
        "  in   price  float32 [n]   numerical, column item.price",
        "  in   h.age  float32 [k]",
        "  out  w      int32 [1, 4]",
    ]


def test_every_name_and_its_meaning(
    exported: Exported, servable: Servable, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(describe, f"--export={exported.base}", "--list") == 0
    said = capsys.readouterr().out
    for signature, definition in servable.signature_defs.items():
        block = next(part for part in said.split("\n\n") if part.splitlines()[0] == signature)
        names = {line.split()[1] for line in block.splitlines()[1:]}
        assert names == set(definition.inputs) | set(definition.outputs)
    for line in said.splitlines():
        if line.startswith(("  in ", "  out")):
            assert len(line.split("  ")) >= 4 and line.split("]")[1].strip(), f"no meaning: {line}"
    assert run_main(describe, f"--export={exported.version}") == 0
    told = capsys.readouterr().out
    assert "spec_fingerprint" in told and "purchase (ranks), click" in told and "batching.allowed_sizes" in told

"""`cvr.describe`: what it prints adds up, follows its flags, and needs neither data nor memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cvr import describe
from cvr.errors import CvrError
from tests.commands import run_main
from tests.support import LEAN

MODEL = ("--experts=2", "--expert_width=8", "--tower_width=4", "--batch_items=64")
SMALL = ("--backbone=dcnv2", "--cross_width=8", "--deep_width=8")
Describe = Callable[..., dict[str, Any]]


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "lean.yaml"
    path.write_text(LEAN.replace("length: 4}, ", "length: 4}, encoder: target_attention, "), encoding="utf-8")
    return path


@pytest.fixture
def described(spec: Path, capsys: pytest.CaptureFixture[str]) -> Describe:
    def run(*arguments: str, text: str = "") -> dict[str, Any]:
        spec.write_text(text or spec.read_text(), encoding="utf-8")
        run_main(describe, f"--spec={spec}", "--json", "--list_size=4", *MODEL, *arguments)
        return json.loads(capsys.readouterr().out)

    return run


def test_it_adds_up(described: Describe) -> None:
    found = described(*SMALL)
    for key in ("parameters", "flops_per_item", "flops_per_list"):
        assert found[key] == sum(part[key] for part in found["parts"]) > 0
    assert found["flops_of_list"] == found["flops_per_list"] + 4 * found["flops_per_item"]
    assert found["flops_per_item_unshared"] == found["flops_per_list"] + found["flops_per_item"]
    assert found["embedding_bytes"] == 4 * 2 * (9 + 34 + 24)
    assert found["embedding_bytes"] + found["dense_bytes"] == 4 * found["parameters"]
    assert found["optimizer_bytes"] == 2 * 4 * found["parameters"]
    assert [found["batch_items"], found["list_size"]] == [64, 4]


def test_the_encoder_is_the_flag_s(described: Describe) -> None:
    (part,) = [part for part in described(*SMALL, "--encoder={name: eta, bits: 8, heads: 1}")["parts"] if part["part"] == "sequence"]
    code, read = 2 * 8, 3 * 4 + 2 * 4 * 2  # of width 2: the item's code; each attention's matrices, and 4 events
    assert part["name"] == "recent (eta, 4 events)" and part["flops_per_item"] == 2 * (code + 2 * read)


def test_it_follows_its_flags(described: Describe) -> None:
    before, after = described(*SMALL), described(*SMALL, "--history_length=9", "--table_optimizer=rowwise_adagrad", "--batch_items=128")
    dim, actions = 2, 2
    own = 2 * ((actions + 4 + 32) * dim + dim * (2 * dim + 1))  # an event's vector; its key, its value and its bias
    assert after["flops_per_list"] - before["flops_per_list"] == 5 * own
    assert after["flops_per_item"] - before["flops_per_item"] == 5 * 2 * 2 * dim
    assert after["parameters"] == before["parameters"]
    assert after["optimizer_bytes"] == 2 * after["dense_bytes"] + 4 * (9 + 34 + 24)
    assert after["training_activation_bytes"] > 2 * before["training_activation_bytes"]
    frozen = described(*SMALL, "--history_length=9", "--batch_items=128", "--freeze_tables=tags,recent")
    assert before["optimizer_bytes"] - frozen["optimizer_bytes"] == 2 * 4 * 2 * (34 + 24)
    assert [frozen[key] for key in ("parameters", "embedding_bytes", "dense_bytes")] == [
        before[key] for key in ("parameters", "embedding_bytes", "dense_bytes")
    ]
    narrow = described(*SMALL, "--history_length=9", "--batch_items=128", "--precision=mixed_bfloat16")
    assert {**narrow, "training_activation_bytes": 0} == {
        **after,
        "training_activation_bytes": 0,
        "inference_activation_bytes": narrow["inference_activation_bytes"],
        "optimizer_bytes": 2 * 4 * narrow["parameters"],
    }
    assert 0.5 < narrow["training_activation_bytes"] / after["training_activation_bytes"] < 0.8


def test_a_model_that_no_machine_holds(described: Describe) -> None:
    """A table of 2e9 rows, and sparse experts, which are traced without dispatch: nothing of it is made."""
    text = LEAN.replace("buckets: 30, dim: 2", "buckets: 2000000000, dim: 1024")
    found = described("--backbone=rankmixer", "--variant=XL", "--tokens=4", "--layers=1", "--ffn_experts=2", text=text)
    assert found["embedding_bytes"] > 8 * 10**12 and found["optimizer_bytes"] > 16 * 10**12


def test_the_table_shows_what_json_holds(described: Describe, spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = described(*SMALL)
    run_main(describe, f"--spec={spec}", "--list_size=4", *MODEL, *SMALL)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "dcnv2 on lean, tasks purchase, click"
    for part in found["parts"]:
        numbers = [f"{part[key]:,}" for key in ("parameters", "flops_per_item", "flops_per_list")]
        assert any(line.split()[-3:] == numbers and part["name"] in line for line in lines), part
    for key in ("flops_of_list", "flops_per_item_unshared", "embedding_bytes", "dense_bytes", "optimizer_bytes"):
        assert any(f" {found[key]:,}" in line for line in lines[-7:]), key
    kept = found["training_activation_bytes"]
    assert lines[-2].split()[-4:] == [f"{kept:,}", f"{kept / 64:,.0f}", "per", "item"]


def test_the_lists_say_what_the_features_are(lists: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_main(describe, f"--lists={lists}", "--json", *MODEL, *SMALL)
    found = json.loads(capsys.readouterr().out)
    assert found["dataset"] == "lean" and found["parts"][-1]["name"] == "towers"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give --spec=configs/features/<dataset>.yaml or --lists=<folder>"),
        (("--spec=nowhere.yaml",), "no feature spec at nowhere.yaml"),
        (("--spec=nowhere.yaml", "--list_size=65"), "--list_size=65 is more than a batch holds; raise --batch_items=64"),
    ],
)
def test_errors(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(CvrError, match=message):
        run_main(describe, *MODEL, *SMALL, *arguments)


def test_the_page_shows_its_real_output(project_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (project_root / "docs" / "modelers.md").read_text(encoding="utf-8")
    section = page.split("\n## What a model costs\n")[1].split("\n## ")[0]
    flagfile, spec = (project_root / path for path in ("configs/rankmixer.flags", "configs/features/synthetic.yaml"))
    assert "--flagfile=configs/rankmixer.flags --spec=configs/features/synthetic.yaml\n" in section
    run_main(describe, f"--flagfile={flagfile}", f"--spec={spec}")
    assert section.split("```\n")[1] == capsys.readouterr().out

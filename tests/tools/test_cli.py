"""Console entry points: each names a function of tools.cli, which runs a main that exists."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from tools import cli

MAINS = {
    "backfill": "pipelines.backfill",
    "build_lists": "pipelines.build_lists",
    "calibrate": "cvr.calibrate",
    "compare": "tools.compare",
    "conformance": "export.conformance",
    "demo": "tools.demo",
    "describe": "cvr.describe",
    "describe_export": "export.describe",
    "evaluate": "cvr.evaluate",
    "export": "export.save",
    "gbdt_baseline": "tools.gbdt_baseline",
    "importance": "tools.importance",
    "inspect_lists": "tools.inspect_lists",
    "load_test": "tools.load_test",
    "make_logs": "tools.make_logs",
    "plan": "tools.plan",
    "pretrain": "cvr.pretrain",
    "rank_by": "tools.rank_by",
    "replay": "export.replay",
    "rollback": "export.rollback",
    "scaling_study": "tools.scaling_study",
    "serve": "export.serve",
    "simulate_serving": "tools.simulate_serving",
    "soak": "tools.soak",
    "study_backbones": "tools.study_backbones",
    "study_warm_start": "tools.study_warm_start",
    "track": "tools.track",
    "train": "cvr.train",
    "tune_batching": "tools.tune_batching",
    "validate": "pipelines.validate",
}


@pytest.mark.parametrize("name", sorted(MAINS))
def test_an_entry_point_runs_its_main(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(cli.runpy, "run_module", lambda module, **how: ran.append((module, how)))
    getattr(cli, name)()
    assert ran == [(MAINS[name], {"run_name": "__main__", "alter_sys": True})]
    found = importlib.util.find_spec(MAINS[name])
    if found is not None and found.submodule_search_locations:
        found = importlib.util.find_spec(MAINS[name] + ".__main__")
    assert found is not None and found.origin is not None
    assert '\nif __name__ == "__main__":\n' in Path(found.origin).read_text()


def test_setup_declares_them_all(project_root: Path) -> None:
    declared = re.findall(r'"(cvr-[\w-]+) = tools\.cli:(\w+)"', (project_root / "setup.py").read_text())
    assert {function for _, function in declared} == set(MAINS)
    assert all(script == "cvr-" + function.replace("_", "-") for script, function in declared)

"""BUILD files are true: every source file in exactly one target, deps equal to the imports, and Bazel can load them."""

from __future__ import annotations

import ast
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tools import gen_build

PACKAGES = ("cvr", "pipelines", "export", "tools", "tests")


def _targets(root: Path) -> dict[str, dict[str, Any]]:
    """All Python targets by label; a BUILD file is also Python syntax, so Python's own parser reads it."""
    found = {}
    for path in [root / "BUILD", *(p for top in PACKAGES for p in (root / top).rglob("BUILD"))]:
        package = path.parent.relative_to(root).as_posix()
        for call in (node.value for node in ast.parse(path.read_text()).body if isinstance(node, ast.Expr)):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id.startswith("py_"):
                rule = {k.arg: _literal(k.value) for k in call.keywords} | {"rule": call.func.id, "package": package}
                found[f"//{'' if package == '.' else package}:{rule['name']}"] = rule
    return found


def _literal(node: ast.expr) -> Any:
    return None if isinstance(node, ast.Call) else ast.literal_eval(node)


def _own_sources(rule: dict[str, Any]) -> list[str]:
    folder = "" if rule["package"] == "." else f"{rule['package']}/"
    return [f"{folder}{source}" for source in rule["srcs"] if not source.startswith("//")]


def _full(dep: str, rule: dict[str, Any]) -> str:
    return f"//{rule['package']}{dep}" if dep.startswith(":") else dep


def _module(source: str) -> str:
    return source.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _imported(source: Path, known: set[str]) -> set[str]:
    """The project's modules in a file's import statements; written apart from the generator's reader, to check it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{source}: relative import; write the whole module name"
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= (full & known) or {str(node.module)}
            names |= {str(node.module)} if full - known else set()
    return names & known


def test_files_are_up_to_date(project_root: Path) -> None:
    stale = [
        str(path.relative_to(project_root))
        for path, text in gen_build.build_files(project_root).items()
        if not path.exists() or path.read_text() != text
    ]
    assert not stale, f"out of date: {stale}; run: python -m tools.gen_build"


def test_every_source_is_in_exactly_one_target(project_root: Path) -> None:
    listed = [source for rule in _targets(project_root).values() for source in _own_sources(rule)]
    on_disk = {p.relative_to(project_root).as_posix() for top in PACKAGES for p in (project_root / top).rglob("*.py")}
    assert sorted(listed) == sorted(on_disk | {"setup.py"})


def test_deps_equal_imports(project_root: Path) -> None:
    targets = _targets(project_root)
    module_of = {label: _module(_own_sources(rule)[0]) for label, rule in targets.items()}
    known = set(module_of.values())
    for label, rule in targets.items():
        deps = {module_of[_full(dep, rule)] for dep in rule.get("deps", [])}
        imported = _imported(project_root / _own_sources(rule)[0], known) - {module_of[label]}
        around = {m for m in deps - imported if any(n.startswith(f"{m}.") for n in {*imported, module_of[label]})}
        conftests = {m for m in deps if m.endswith(".conftest")}
        assert imported <= deps, f"{label}: missing {imported - deps}"
        assert deps - imported - around - conftests == set(), f"{label}: not imported"


def test_targets_form_no_circle(project_root: Path) -> None:
    """Bazel refuses circles, also those by way of a package's `__init__` or of data."""
    targets, done = _targets(project_root), set()

    def visit(label: str, trail: tuple[str, ...]) -> None:
        assert label not in trail, " -> ".join((*trail, label))
        if label in targets and label not in done:
            rule = targets[label]
            for dep in [*(rule.get("deps") or []), *(rule.get("data") or [])]:
                visit(_full(dep, rule), (*trail, label))
            done.add(label)

    for label in targets:
        visit(label, ())


def test_mains_and_tests_have_their_rules(project_root: Path) -> None:
    for label, rule in _targets(project_root).items():
        name = _own_sources(rule)[0].rpartition("/")[2]
        text = (project_root / _own_sources(rule)[0]).read_text()
        if name.startswith("test_"):
            assert rule["rule"] == "py_test" and rule["main"] == "//tests:run_pytest.py", label
        else:
            assert (rule["rule"] == "py_binary") == ("\nif __name__ ==" in text), label


def test_visibility_states_the_import_rules() -> None:
    for kind, importers in gen_build.VISIBLE_TO.items():
        assert ("pipelines" in importers) == (kind in ("base", "pipelines")), kind
        assert ("cvr" in importers) == (kind in ("base", "cvr")), kind
        assert ("tools" in importers) == (kind != "tests"), kind
    assert gen_build.VISIBLE_TO["tools"] == ("tools", "tests")


def _write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_generator_on_a_small_tree(tmp_path: Path) -> None:
    _write(
        tmp_path,
        {
            "cvr/__init__.py": "from cvr import compat\n",
            "cvr/compat.py": "import os\n",
            "cvr/data.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from cvr import train\n",
            "cvr/train.py": "from cvr import data\nif __name__ == '__main__':\n    print(data)\n",
        },
    )
    text = gen_build.build_files(tmp_path)[tmp_path / "cvr" / "BUILD"]
    rules = {block.split('"')[1]: block for block in text.split("\n\n") if 'name = "' in block}
    assert 'deps = [":compat"]' in rules["cvr"]
    assert "deps" not in rules["compat"]  # its package imports it, not the other way round
    assert 'deps = [":cvr"]' in rules["data"]  # an import for types only is none
    assert rules["train"].startswith("py_binary(") and '":cvr",\n        ":data",' in rules["train"]


def test_modules_that_are_found_by_name_travel_as_data(tmp_path: Path) -> None:
    _write(
        tmp_path,
        {
            "cvr/backbones/__init__.py": "import pkgutil\n",
            "cvr/backbones/one.py": "import math\n",
            "cvr/ranker.py": "from cvr import backbones\n",
        },
    )
    text = gen_build.build_files(tmp_path)[tmp_path / "cvr" / "backbones" / "BUILD"]
    assert 'data = [":one"]' in text and "deps" not in text


def test_golden_files_travel_with_the_module_that_names_their_folder(tmp_path: Path) -> None:
    _write(tmp_path, {"tests/a/case.py": "FOLDER = 'golden'\n", "tests/a/other.py": "", "tests/a/golden/one.npz": ""})
    text = gen_build.build_files(tmp_path)[tmp_path / "tests" / "a" / "BUILD"]
    assert text.count('data = glob(["golden/*"])') == 1 and text.index('"case.py"') < text.index("glob") < text.index('"other.py"')


def test_generator_refuses_circular_imports(tmp_path: Path) -> None:
    _write(tmp_path, {"cvr/a.py": "import cvr.b\n", "cvr/b.py": "import cvr.a\n"})
    with pytest.raises(ValueError, match="import each other"):
        gen_build.build_files(tmp_path)


def test_bazel_query(project_root: Path) -> None:
    bazel = shutil.which("bazel") or shutil.which("bazelisk")
    if bazel is None:
        pytest.skip("no bazel on this machine")
    command = [bazel, "--batch", "query", "//...", "--output=label"]
    answer = subprocess.run(command, cwd=project_root, capture_output=True, text=True, timeout=300, check=False)
    assert answer.returncode == 0, answer.stderr
    assert "//cvr:schema" in answer.stdout.split()

"""The import rules of docs/architecture.md, read from the sources."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

from tools.gen_build import BASE_LAYER
from tools.source_tree import Module, read_tree

# What a top-level package may import besides itself; "base" is the layer of cvr that everyone shares.
MAY_IMPORT = {
    "cvr": {"cvr"},
    "pipelines": {"base"},
    "export": {"cvr"},
    "tools": {"cvr", "pipelines", "export"},
    "tests": {"cvr", "pipelines", "export", "tools"},
}

# Libraries whose import name is not their name on PyPI.
DISTRIBUTIONS = {
    "absl": "absl-py",
    "apache_beam": "apache-beam",
    "google": "protobuf",
    "google_crc32c": "google-crc32c",
    "grpc_health": "grpcio-health-checking",
    "grpc_reflection": "grpcio-reflection",
    "prometheus_client": "prometheus-client",
    "sklearn": "scikit-learn",
    "tensorflow_ranking": "tensorflow-ranking",
    "tensorflow_recommenders": "tensorflow-recommenders",
    "tensorflow_serving": "tensorflow-serving-api",
    "tf_keras": "tf-keras",
    "grpc": "grpcio",
    "hdrh": "hdrhistogram",
    "yaml": "pyyaml",
}


@pytest.fixture(scope="module")
def modules() -> dict[str, Module]:
    return read_tree()


def _top(name: str) -> str:
    return name.split(".")[0]


def _is_allowed(importer: str, imported: str) -> bool:
    if _top(importer) == _top(imported):
        return True
    allowed = MAY_IMPORT[_top(importer)]
    return _top(imported) in allowed or ("base" in allowed and imported in (*BASE_LAYER, "cvr"))


def test_packages_import_only_what_they_may(modules: dict[str, Module]) -> None:
    broken = [
        f"{name} imports {imported}"
        for name, module in modules.items()
        for imported in module.imports
        if not _is_allowed(name, imported)
    ]
    assert not broken


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("pipelines.attribution", "cvr.records", True),
        ("pipelines.attribution", "cvr.ranker", False),
        ("cvr.train", "pipelines.lists", False),
        ("cvr.train", "tools.demo", False),
        ("export.save", "cvr.ranker", True),
        ("export.save", "tools.demo", False),
        ("cvr.train", "export.save", False),
        ("tools.demo", "export.save", True),
    ],
)
def test_the_rule_itself(importer: str, imported: str, allowed: bool) -> None:
    assert _is_allowed(importer, imported) == allowed


def test_the_base_layer_imports_only_what_stands_before_it(modules: dict[str, Module]) -> None:
    for place, name in enumerate(BASE_LAYER):
        if name in modules:
            assert modules[name].imports <= {"cvr", *BASE_LAYER[:place]}, name


def test_the_package_itself_imports_only_errors_and_the_compatibility_module(modules: dict[str, Module]) -> None:
    assert modules["cvr"].imports == {"cvr.compat", "cvr.errors"}


def test_no_import_goes_round_in_a_circle(modules: dict[str, Module]) -> None:
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name not in done:
            for imported in modules[name].imports:
                visit(imported, (*trail, name))
            done.add(name)

    for name in modules:
        visit(name, ())


def test_libraries_are_declared(modules: dict[str, Module], project_root: Path) -> None:
    constants = [n for n in ast.walk(ast.parse((project_root / "setup.py").read_text())) if isinstance(n, ast.Constant)]
    declared = {re.split(r"[\[>=<!,]", n.value)[0] for n in constants if isinstance(n.value, str)}
    for name, module in modules.items():
        used = {library for library in module.libraries if library not in sys.stdlib_module_names}
        missing = {DISTRIBUTIONS.get(library, library) for library in used} - declared
        assert not missing, f"{name} imports {missing}: add it to setup.py and run `make lock`"

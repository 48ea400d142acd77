"""The style rules of docs/architecture.md that can be counted."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator

import pytest

from tools.source_tree import ROOT, Module, read_tree

MAX_FILE = 400
MAX_FUNCTION = 60
MAX_PARAMETERS = 8
MEDIAN_FILE = 150
MEDIAN_FUNCTION = 15

# Methods that a base class of Keras, Beam, gRPC or Python defines, and documents, are found under these names.
INHERITED = {
    "add_input",
    "build",
    "call",
    "compute_output_shape",
    "create_accumulator",
    "create_module",
    "exec_module",
    "expand",
    "extract_output",
    "find_spec",
    "get_config",
    "merge_accumulators",
    "process",
    "reset_state",
    "result",
    "setup",
    "teardown",
    "update_state",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef


@pytest.fixture(scope="module")
def modules() -> list[Module]:
    return list(read_tree().values())


def _is_product(module: Module) -> bool:
    return not module.name.startswith("tests")


def _functions(module: Module) -> list[Function]:
    return [node for node in ast.walk(module.tree) if isinstance(node, Function)]


def _public(module: Module) -> Iterator[tuple[str, Definition]]:
    """Public functions and classes of a module, and the public methods of its public classes."""
    if not _is_product(module):
        return
    for node in module.tree.body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield _place(module, node), node
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    is_own = isinstance(inner, Function) and inner.name not in INHERITED
                    if is_own and not inner.name.startswith("_"):
                        yield _place(module, inner), inner


def _place(module: Module, node: ast.stmt) -> str:
    return f"{module.path.relative_to(ROOT)}:{node.lineno} {getattr(node, 'name', '')}"


def _lines(module: Module) -> int:
    return len(module.path.read_text(encoding="utf-8").splitlines())


def _length(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def _parameters(function: Function) -> int:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return sum(argument.arg not in ("self", "cls") for argument in named)


def test_files_are_small(modules: list[Module]) -> None:
    long = {module.name: _lines(module) for module in modules if _lines(module) > MAX_FILE}
    assert not long, f"more than {MAX_FILE} lines"
    assert statistics.median(_lines(module) for module in modules if _is_product(module)) <= MEDIAN_FILE


def test_functions_are_short(modules: list[Module]) -> None:
    long = [_place(m, f) for m in modules for f in _functions(m) if _length(f) > MAX_FUNCTION]
    assert not long, f"more than {MAX_FUNCTION} lines"
    lengths = [_length(f) for m in modules if _is_product(m) for f in _functions(m)]
    assert statistics.median(lengths) <= MEDIAN_FUNCTION


def test_functions_have_few_parameters(modules: list[Module]) -> None:
    wide = [_place(m, f) for m in modules for f in _functions(m) if _parameters(f) > MAX_PARAMETERS]
    assert not wide, f"more than {MAX_PARAMETERS} parameters"


def test_public_things_have_docstrings(modules: list[Module]) -> None:
    bare = [place for m in modules for place, node in _public(m) if not ast.get_docstring(node)]
    bare += [m.name for m in modules if _is_product(m) and not ast.get_docstring(m.tree)]
    assert not bare


def test_functions_name_their_return_type(modules: list[Module]) -> None:
    untyped = [_place(m, f) for m in modules if _is_product(m) for f in _functions(m) if f.returns is None]
    assert not untyped


def test_no_behaviour_from_environment_variables(modules: list[Module]) -> None:
    """Nothing reads the environment; cvr.compat sets the one variable by which TensorFlow selects legacy Keras."""
    readers = [
        _place(m, node)
        for m in modules
        if _is_product(m) and m.name != "cvr.compat"
        for node in ast.walk(m.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("os.getenv", "os.environ.get")
    ]
    assert not readers

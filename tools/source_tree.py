"""Reads the project's own source tree: which modules there are and what each imports, from the syntax tree alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cvr.errors import CvrError

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("cvr", "pipelines", "export", "tools", "tests")


@dataclass(frozen=True)
class Module:
    """One source file.

    `imports` are the project's modules that it names in import statements, `libraries` the top-level names of all
    other imports; imports under `if TYPE_CHECKING` do not run and are left out.
    """

    name: str
    path: Path
    tree: ast.Module = field(repr=False, compare=False)
    imports: frozenset[str] = frozenset()
    libraries: frozenset[str] = frozenset()

    @property
    def is_package(self) -> bool:
        """Whether this is the `__init__.py` of a package."""
        return self.path.name == "__init__.py"

    @property
    def is_main(self) -> bool:
        """Whether the file has an `if __name__ == "__main__"` block."""
        return any(isinstance(node, ast.If) and "__main__" in ast.dump(node.test) for node in self.tree.body)

    def strings(self) -> Iterator[str]:
        """All string constants of the file."""
        return (n.value for n in ast.walk(self.tree) if isinstance(n, ast.Constant) and isinstance(n.value, str))


def read_tree(root: Path = ROOT) -> dict[str, Module]:
    """All modules of the project by dotted name.

    Raises:
      CvrError: if a source file is not valid Python.
    """
    paths = {_module_name(path, root): path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))}
    return {name: _read_module(name, path, paths) for name, path in paths.items()}


def ancestors(name: str) -> list[str]:
    """The packages that Python imports before module `name`: `a`, `a.b` for `a.b.c`."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def reachable(name: str, modules: dict[str, Module]) -> set[str]:
    """Module `name` and all that it imports, directly or not."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            waiting.extend(modules[current].imports)
    return seen


def _module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _read_module(name: str, path: Path, known: dict[str, Path]) -> Module:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    except SyntaxError as error:
        raise CvrError(f"{path}: line {error.lineno}: not valid Python: {error.msg}") from None
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    named = {found for node in _runtime_nodes(tree) for found in _named(node, package, known)}
    own = {module for module in named if module in known and module != name}
    libraries = {module.split(".")[0] for module in named} - set(PACKAGES)
    return Module(name, path, tree, frozenset(own), frozenset(libraries))


def _runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING`."""
    yield node
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        return
    for child in ast.iter_child_nodes(node):
        yield from _runtime_nodes(child)


def _named(node: ast.AST, package: str, known: dict[str, Path]) -> Iterator[str]:
    """The modules that one import statement names; `from a import b` is module `a.b` where there is one, else `a`."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parent = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*parent, *([node.module] if node.module else [])])
        for alias in node.names:
            full = f"{base}.{alias.name}"
            yield full if full in known else base

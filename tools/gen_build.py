"""Writes the BUILD files of the Python packages from the imports of the source files.

    python -m tools.gen_build            writes every BUILD file anew
    python -m tools.gen_build --check    changes nothing; exit code 1 names the files that are out of date

One target per source file: `py_binary` for a main, `py_test` for a test, `py_library` otherwise; a package's
`__init__.py` is the target named like its folder. `deps` are the project's modules that the file imports, and the
packages that Python imports on the way to them. Libraries from PyPI come from the environment (constraints.txt) and
have no labels. Visibility states the import rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from cvr.errors import CvrError, run_main
from tools.source_tree import PACKAGES, ROOT, Module, ancestors, reachable, read_tree

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_bool("check", False, "Only compare; fail if a BUILD file is out of date.")


# The base layer in order: each may import those before it, and `pipelines` may import no other module of `cvr`.
BASE_LAYER = ("cvr.errors", "cvr.compat", "cvr.schema", "cvr.transforms", "cvr.wire", "cvr.records", "cvr.elwc", "cvr.manifest")

# Who may import what, by top-level package; tests may import everything.
VISIBLE_TO = {
    "base": ("cvr", "pipelines", "export", "tools", "tests"),
    "cvr": ("cvr", "export", "tools", "tests"),
    "pipelines": ("pipelines", "tools", "tests"),
    "export": ("export", "tools", "tests"),
    "tools": ("tools", "tests"),
    "tests": ("tests",),
}

LAUNCHER = "tests.run_pytest"
_HEADER = "# Written by `python -m tools.gen_build` from the imports of the sources; do not edit.\n"
_NATIVE_ROOT = """
# Libraries from PyPI come from the environment of constraints.txt; the rules are Bazel's native ones.

exports_files([
    "LICENSE",
    "README.md",
    "constraints.txt",
    "pyproject.toml",
])

py_library(
    name = "setup",
    srcs = ["setup.py"],
    visibility = ["//visibility:private"],
)
"""
_CONFIGS = """
filegroup(
    name = "configs",
    srcs = glob([
        "**/*.flags",
        "**/*.yaml",
    ]),
    visibility = ["//visibility:public"],
)
"""


def build_files(root: Path = ROOT) -> dict[Path, str]:
    """The text of every BUILD file by path.

    Raises:
      CvrError: if modules import each other in a circle, which Bazel refuses.
    """
    modules = read_tree(root)
    _refuse_cycles(modules)
    texts = {root / "BUILD": _HEADER + _NATIVE_ROOT, root / "configs" / "BUILD": _HEADER + _CONFIGS}
    for folder in sorted({module.path.parent for module in modules.values()}):
        members = [module for module in modules.values() if module.path.parent == folder]
        top = folder.relative_to(root).parts[0]
        rules = "".join("\n" + _target(module, modules, root) for module in sorted(members, key=_target_name))
        exports = '\nexports_files(["run_pytest.py"])\n' if any(module.name == LAUNCHER for module in members) else ""
        package = f"package(default_visibility = {_list(_visibility(top), 0)})"
        texts[folder / "BUILD"] = f"{_HEADER}\n{package}\n{exports}{rules}"
    return texts


def dependencies(module: Module, modules: dict[str, Module]) -> set[str]:
    """The modules whose targets `module` depends on: its imports, and the packages around it and them.

    A package's `__init__` is left out where it imports `module` itself, as `cvr` imports `cvr.compat`, or finds it by name.
    """
    wanted = set(module.imports)
    for name in (module.name, *module.imports):
        wanted.update(
            parent
            for parent in ancestors(name)
            if parent in modules
            and module.name not in reachable(parent, modules)
            and not (_finds_by_name(modules[parent]) and module.path.parent == modules[parent].path.parent)
        )
    if module.path.name.startswith("test_"):
        folders = ["tests", *ancestors(module.name)]
        wanted.update(f"{folder}.conftest" for folder in folders if f"{folder}.conftest" in modules)
    return wanted - {module.name}


def _finds_by_name(module: Module) -> bool:
    """Whether a package loads its modules by their names, so that no import statement tells of them."""
    return module.is_package and "pkgutil" in module.libraries


def label(module: Module, root: Path = ROOT) -> str:
    """The Bazel label of a module's target, such as `//cvr/layers:cross`."""
    return f"//{module.path.parent.relative_to(root).as_posix()}:{_target_name(module)}"


def _target_name(module: Module) -> str:
    return module.path.parent.name if module.is_package else module.path.stem


def _visibility(kind: str) -> list[str]:
    return [f"//{package}:__subpackages__" for package in VISIBLE_TO[kind]]


def _target(module: Module, modules: dict[str, Module], root: Path) -> str:
    is_test = module.path.name.startswith("test_")
    lines = [("name", f'"{_target_name(module)}"')]
    sources = [module.path.name]
    if is_test:
        launcher = label(modules[LAUNCHER], root) if LAUNCHER in modules else ""
        lines += [("size", '"medium"'), ("srcs", _list([*sources, f"{launcher}.py"])), ("main", f'"{launcher}.py"')]
        lines.append(("args", _list([f"$(location {module.path.name})"])))
    else:
        lines.append(("srcs", _list(sources)))
    if _finds_by_name(module):
        siblings = [other for other in modules.values() if other.path.parent == module.path.parent]
        found = [other for other in siblings if other.name not in reachable(module.name, modules)]
        lines.append(("data", _list(sorted(f":{_target_name(other)}" for other in found))))
    elif module.is_package and any(module.path.parent.glob("*.j2")):
        lines.append(("data", 'glob(["*.j2"])'))
    elif "golden" in module.strings() and (module.path.parent / "golden").is_dir():
        lines.append(("data", 'glob(["golden/*"])'))
    elif any(text.startswith("configs/") for text in module.strings()):
        lines.append(("data", _list(["//configs"])))
    if not is_test and module.name.startswith("tests"):
        lines.append(("testonly", "True"))
    if module.name in BASE_LAYER or module.name == "cvr":
        lines.append(("visibility", _list(_visibility("base"))))
    labels = sorted(_short(label(modules[name], root), module, root) for name in dependencies(module, modules))
    if labels:
        lines.append(("deps", _list(labels)))
    rule = "py_test" if is_test else "py_binary" if module.is_main else "py_library"
    return f"{rule}(\n" + "".join(f"    {key} = {value},\n" for key, value in lines) + ")\n"


def _short(full: str, module: Module, root: Path) -> str:
    """A label as seen from the module's own package: `:cross`."""
    package = f"//{module.path.parent.relative_to(root).as_posix()}:"
    return full.removeprefix(package[:-1]) if full.startswith(package) else full


def _list(values: Sequence[str], indent: int = 4) -> str:
    if len(values) == 1:
        return f'["{values[0]}"]'
    pad = " " * indent
    return "[\n" + "".join(f'{pad}    "{value}",\n' for value in values) + f"{pad}]"


def _refuse_cycles(modules: dict[str, Module]) -> None:
    for name, module in modules.items():
        for imported in module.imports:
            if name in reachable(imported, modules):
                raise CvrError(
                    f"{name} and {imported} import each other, directly or through others; "
                    "move what both need into a module of its own"
                )


def main(argv: Sequence[str]) -> int:
    """Writes or checks the BUILD files; returns the exit code."""
    del argv
    texts = build_files()
    stale = [path for path, text in texts.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    stale += [path for top in PACKAGES for path in (ROOT / top).rglob("BUILD") if path not in texts]
    names = ", ".join(str(path.relative_to(ROOT)) for path in sorted(stale))
    if FLAGS.check and stale:
        raise CvrError(f"out of date: {names}; run: python -m tools.gen_build")
    for path in stale:
        if path in texts:
            path.write_text(texts[path], encoding="utf-8")
        else:
            path.unlink()
    print(f"{len(texts)} BUILD files are up to date" + (f" (written: {names})" if stale else ""))
    return 0


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()

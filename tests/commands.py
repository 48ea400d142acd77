"""Runs a command's `main` in this process, with flags that are gone afterwards."""

from __future__ import annotations

from types import ModuleType

from absl import flags


def run_main(module: ModuleType, *arguments: str) -> int:
    """`python -m <module> <arguments>`; gives its exit code; errors for users are raised as CvrError."""
    before = set(flags.FLAGS)
    try:
        module.define_flags()
        flags.FLAGS([module.__name__, *arguments])
        return module.main([module.__name__]) or 0
    finally:
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()

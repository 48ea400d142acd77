"""Runs pytest on the files it is given: the `main` of every `py_test` target."""

from __future__ import annotations

import sys

import pytest

if __name__ == "__main__":
    sys.exit(pytest.main(sys.argv[1:]))

"""What all tests share: a quiet TensorFlow on few threads, fixed seeds, and the real logs where they are present."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported anywhere

import numpy as np  # noqa: E402
import pytest  # noqa: E402

import cvr  # noqa: E402, F401  selects legacy Keras before TensorFlow is imported

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"
SEED = 20260101


def pytest_configure(config: pytest.Config) -> None:
    """Ctrl-C works; few threads for TensorFlow, set before its first operation: parallel test processes must not fight for cores."""
    # Started in the background, a shell makes its jobs ignore Ctrl-C; commands that tests start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    runs_no_tests = bool(config.getoption("numprocesses", None)) and not hasattr(config, "workerinput")
    if not runs_no_tests:
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(2)


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """Every test starts from the same seeds of Python, NumPy and TensorFlow."""
    import tensorflow as tf

    random.seed(SEED)
    np.random.seed(SEED)
    tf.random.set_seed(SEED)


@pytest.fixture(scope="session")
def both_formats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small log built in both record formats: folders `log`, `lists` and `elwc` (tests/builds.py)."""
    from tests.builds import build_both_formats

    folder = tmp_path_factory.mktemp("both_formats")
    build_both_formats(folder)
    return folder


def _shared(name: str) -> Path:
    path = SHARED_DATA / name
    if not path.exists():
        pytest.skip(f"real logs are not part of the project and {path} is absent")
    return path


@pytest.fixture
def trivago_file() -> Path:
    """RecSys Challenge 2019 sessions (Parquet); skips where the file is absent."""
    return _shared("trivago2019/sessions_100k.parquet")


@pytest.fixture
def expedia_file() -> Path:
    """Expedia 2013 searches (csv.gz); skips where the file is absent."""
    return _shared("expedia2013/train_10k.csv.gz")


@pytest.fixture
def project_root() -> Path:
    """The checkout's top folder; skips where the tests run from an installed copy."""
    if not (ROOT / "setup.py").exists():
        pytest.skip(f"needs the whole checkout, and {ROOT} has no setup.py")
    return ROOT

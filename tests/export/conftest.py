"""One exported model, its lists and a server of it, made once per test process."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from cvr import records
from cvr.ranker import Ranker
from cvr.runs import Run
from export.batching import Batching
from export.checks import Subject
from export.client import Client
from export.saved_model import save_version
from export.servable import Servable
from export.server import Server
from export.services import Models
from tests.conftest import SEED
from tests.export.tiny import SPEC, make_run
from tests.support import random_columns, tiny_spec, write_lists


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """In place of the shared one: tf.random.set_seed drops every compiled function, and nothing here draws from TensorFlow."""
    random.seed(SEED)
    np.random.seed(SEED)


class Exported(NamedTuple):
    """A run, its version 3 under `base`, and lists of its spec: a folder with a test split, and the same records."""

    ranker: Ranker
    run: Run
    base: Path
    version: Path
    lists: Path
    records: list[bytes]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("run")
    ranker, run = make_run(folder / "model")
    columns = random_columns(run.spec, 12)
    write_lists(folder / "lists", {"test": [columns]}, SPEC)
    batching = Batching(allowed_sizes=(4, 16), timeout_ms=2.0)
    version = save_version(run, ranker, folder / "export", 3, batching)
    return Exported(ranker, run, folder / "export", version, folder / "lists", records.encode(tiny_spec(SPEC), columns))


@pytest.fixture(scope="session")
def servable(exported: Exported) -> Servable:
    return Servable(exported.version)


@pytest.fixture(scope="session")
def target(servable: Servable) -> Iterator[str]:
    server = Server(Models("cvr", {servable.version: servable}))
    server.start()
    yield f"127.0.0.1:{server.port}"
    server.stop(grace=0.0)


@pytest.fixture
def client(target: str) -> Iterator[Client]:
    with Client(target, timeout=60.0) as opened:
        yield opened


@pytest.fixture
def subject(exported: Exported, servable: Servable, client: Client) -> Subject:
    return Subject(exported.run.spec, exported.ranker, servable, client)

"""What stands in for a loaded version where a test needs none: it answers at once, or when it is told to."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from export.servable import TensorInfo


class StandIn:
    """Has the interface of `export.servable.Servable`; `gate` holds its answers back while it is clear."""

    def __init__(self, folder: Path | str = "1") -> None:
        self.folder = Path(folder)
        self.version = int(self.folder.name)
        self.signature_defs: dict[str, Any] = {"serving_default": None}
        self.gate, self.entered = threading.Event(), threading.Semaphore(0)
        self.gate.set()
        self.computed = 0
        self.closed = False

    def outputs(self, signature: str) -> dict[str, TensorInfo]:
        return {"score": TensorInfo(tf.float32, (None,))}

    def run_protos(self, signature: str, protos: Any) -> dict[str, np.ndarray]:
        assert not self.closed
        self.computed += 1
        self.entered.release()
        assert self.gate.wait(60)
        return {"score": np.float32([self.version])}

    def close(self) -> None:
        self.closed = True

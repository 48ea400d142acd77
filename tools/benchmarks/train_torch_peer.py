"""The peer that `tools.benchmarks.train_torch` takes turns with: MaskNet in PyTorch, in a process that holds no TensorFlow.

It reads requests, one JSON object a line, from standard input and answers each with a line; before, with its version or why there is none:

    {"check": FILE}                 loads weights and inputs of an npz file -> {"loss", "logits"}
    {"prepare": {sizes}}            makes the network, random weights and inputs -> {}
    {"turn": [mode, precision], "steps", "seconds"}   trains for a turn -> {"ms": mean of a step} or {"error": why it cannot}

Modes are `eager` and `compiled`, precisions `float32` and `mixed_bfloat16` (autocast).
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

LENGTH = 32


def network_of(torch: Any, sizes: dict[str, int]) -> Any:
    """The network: projection, parallel mask blocks, a wide layer and a logit; parameters are named as ours are."""
    nn, module = torch.nn, torch.nn.Module  # type: Any, Any
    width, deep, inner = sizes["width"], sizes["deep"], 2 * sizes["width"]

    class Block(module):
        def __init__(self) -> None:
            super().__init__()
            self.aggregate, self.mask, self.output = nn.Linear(width, inner), nn.Linear(inner, width), nn.Linear(width, deep)
            self.norm = nn.LayerNorm(deep, eps=1e-3)

        def forward(self, first: Any) -> Any:
            return torch.relu(self.norm(self.output(self.mask(torch.relu(self.aggregate(first))) * first)))

    class Network(module):
        def __init__(self) -> None:
            super().__init__()
            self.projection = nn.Linear(sizes["features"], width)
            self.block_0_0, self.block_1_0 = Block(), Block()
            self.experts, self.logit = nn.Linear(2 * deep, sizes["head"]), nn.Linear(sizes["head"], 1)

        def forward(self, inputs: Any) -> Any:
            first = torch.relu(self.projection(inputs))
            hidden = torch.cat([self.block_0_0(first), self.block_1_0(first)], dim=1)
            return self.logit(torch.relu(self.experts(hidden)))

    return Network()


class Peer:
    """The network with its optimizer, and its inputs."""

    def __init__(self, torch: Any, sizes: dict[str, int], arrays: dict[str, Any] | None = None) -> None:
        self.torch, self.network = torch, network_of(torch, sizes)
        if arrays is None:
            self.inputs = torch.randn(sizes["items"], sizes["features"])
            self.labels = torch.zeros(sizes["items"] // LENGTH, dtype=torch.int64)
        else:
            self.inputs, self.labels = torch.from_numpy(arrays["inputs"]), torch.from_numpy(arrays["labels"])
            weights = {name: torch.from_numpy(arrays[name]) for name in self.network.state_dict()}
            self.network.load_state_dict(weights)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-4, eps=1e-7, fused=True)
        self.losses = {"eager": self.loss, "compiled": torch.compile(self.loss)}
        self.warm: set[tuple[str, str]] = set()

    def loss(self, inputs: Any) -> Any:
        """Softmax over lists of 32 items, per list."""
        scores = self.network(inputs).float().reshape(-1, LENGTH)
        return self.torch.nn.functional.cross_entropy(scores, self.labels)

    def step(self, kind: tuple[str, str]) -> float:
        """Seconds of one training step of a (mode, precision)."""
        mode, precision = kind
        started = time.perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        with self.torch.autocast("cpu", dtype=self.torch.bfloat16, enabled=precision == "mixed_bfloat16"):
            loss = self.losses[mode](self.inputs)
        loss.backward()
        self.optimizer.step()
        return time.perf_counter() - started

    def turn(self, kind: tuple[str, str], steps: int, seconds: float) -> float:
        """Milliseconds of a step: the mean of the turn's steps after one that is not timed, and after the one that compiles."""
        if kind not in self.warm:
            self.step(kind)
            self.warm.add(kind)
        count = max(1, min(steps, int(seconds / self.step(kind))))
        return sum(self.step(kind) for _ in range(count)) / count * 1e3


def check(torch: Any, path: str) -> dict[str, Any]:
    """Loss and logits of the weights and inputs in a file."""
    import numpy as np

    with np.load(path) as file:
        arrays = dict(file)
    sizes = dict(zip(("features", "width", "deep", "head", "items"), arrays.pop("sizes").tolist(), strict=True))
    peer = Peer(torch, sizes, arrays)
    with torch.no_grad():
        return {"loss": float(peer.loss(peer.inputs)), "logits": peer.network(peer.inputs)[:, 0].tolist()}


def serve(torch: Any, answer: Callable[[dict[str, Any]], None]) -> None:
    """Answers requests until there are none."""
    peer: Peer | None = None
    for line in sys.stdin:
        request = json.loads(line)
        if "check" in request:
            answer(check(torch, request["check"]))
        elif "prepare" in request:
            peer = Peer(torch, request["prepare"])
            answer({})
        else:
            assert peer is not None
            try:
                answer({"ms": peer.turn(tuple(request["turn"]), request["steps"], request["seconds"])})
            except Exception as error:  # noqa: BLE001 - compiling may fail in any way: no compiler, no headers
                answer({"error": f"{type(error).__name__}: {error}".splitlines()[0]})


def main() -> None:
    """Serves on standard input and output, whatever libraries print goes to standard error; arguments: threads, folder of PyTorch."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(found: dict[str, Any]) -> None:
        print(json.dumps(found), file=out, flush=True)

    threads, folder = sys.argv[1:]
    if folder:
        sys.path.insert(0, folder)
    try:
        import torch
    except ImportError as error:
        answer({"absent": str(error)})
        return
    torch.set_num_threads(int(threads))
    answer({"version": torch.__version__})
    serve(torch, answer)


if __name__ == "__main__":
    main()

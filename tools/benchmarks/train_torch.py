"""MaskNet on random dense inputs, ours beside PyTorch's: the same layers, weights, loss and Adam, without embeddings.

    [N, 3590] -> ReLU projection w -> two parallel mask blocks (2 w inside, 1,024 out) -> ReLU 4,096 -> logit -> softmax over lists of 32

PyTorch runs in a process of its own and takes turns with ours. Before, both compute a forward pass of the same weights at a small width,
and the benchmark fails where they differ.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from cvr.backbones.masknet import Backbone, Config
from cvr.errors import CvrError
from cvr.optimizers import make_optimizer
from cvr.precision import precision as computing_in
from cvr.schedules import WarmupCosine
from tools.benchmarks.reference_batch import LENGTH
from tools.benchmarks.summary import Spread
from tools.benchmarks.train_steps import HEAD_WIDTH, Plan, Step, turn
from tools.source_tree import ROOT

FEATURES, DEEP = 3590, 1024
MODES = ("ours", "eager", "compiled")
_PEER = "tools.benchmarks.train_torch_peer"
_SMALL = {"features": 24, "width": 16, "deep": 8, "head": 12, "items": 2 * LENGTH}


@dataclasses.dataclass(frozen=True)
class DenseTiming:
    """Milliseconds of a step, a value per turn; `missing` says why there are none."""

    mode: str
    precision: str
    items: int
    flops: int
    ms: list[float]
    missing: str = ""

    @property
    def spread(self) -> Spread:
        """Of the milliseconds."""
        return Spread.of(self.ms)


class Network(tf.keras.Model):
    """The network of our layers: inputs `[N, features]` -> logits float32 `[N]`."""

    def __init__(self, width: int, deep: int, head: int) -> None:
        super().__init__()
        self._projection = tf.keras.layers.Dense(width, "relu", kernel_initializer="he_normal", name="projection")
        self._backbone = Backbone(Config(width, deep), name="backbone")
        self._experts = tf.keras.layers.Dense(head, "relu", kernel_initializer="he_normal", name="experts")
        self._logit = tf.keras.layers.Dense(1, name="logit")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Logits."""
        hidden = self._backbone({"cross": self._projection(inputs)})
        return tf.cast(self._logit(self._experts(hidden))[:, 0], tf.float32)


def loss_of(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Softmax over lists of 32 items, per list; labels are the places of the positives `[N / 32]`."""
    scores = tf.reshape(logits, [-1, LENGTH])
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores))


def training_step(network: Network, inputs: tf.Tensor, labels: tf.Tensor) -> Step:
    """One update of all weights on the same inputs, by the Adam of `cvr.train`."""
    schedule = WarmupCosine(1e-4, 100, 100_000)
    variables = network.trainable_variables
    optimizer = make_optimizer(list, lambda: variables, schedule, schedule)

    def step(given: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = loss_of(network(given), labels)
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    return functools.partial(tf.function(step, autograph=False).get_concrete_function(inputs), inputs)


class Peer:
    """PyTorch's process. `version` is None where PyTorch cannot be imported; then `absent` says why."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        found = self._answer()
        self.version: str | None = found.get("version")
        self.absent: str = found.get("absent", "")

    def ask(self, **request: Any) -> dict[str, Any]:
        """The answer to a request. Raises CvrError where the process ends instead."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise CvrError(f"the PyTorch process ended with code {self._process.wait()}; its messages stand above")
        found: dict[str, Any] = json.loads(line)
        return found


@contextlib.contextmanager
def open_peer(threads: int, torch_path: str = "") -> Iterator[Peer]:
    """PyTorch's process; `torch_path` is a folder that it is installed in, if it is not where this Python looks."""
    command = [sys.executable, "-m", _PEER, str(threads), str(Path(torch_path).resolve()) if torch_path else ""]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield Peer(process)
        finally:
            process.kill()


def torch_weights(network: Network) -> dict[str, np.ndarray]:
    """Our weights under PyTorch's names: kernels transposed, gamma and beta as weight and bias."""
    found = {}
    for variable in network.trainable_variables:
        *path, kind = variable.name.partition(":")[0].split("/")
        layers = [part for part in path if part not in (network.name, "backbone")]
        value = variable.numpy().T if kind == "kernel" else variable.numpy()
        found[".".join([*layers, "weight" if kind in ("kernel", "gamma") else "bias"])] = value
    return found


def check(peer: Peer) -> None:
    """Raises CvrError where PyTorch's network is not ours: loss and logits of copied weights, at a small width in float32."""
    source = np.random.default_rng(0)
    network = Network(_SMALL["width"], _SMALL["deep"], _SMALL["head"])
    inputs = source.normal(size=(_SMALL["items"], _SMALL["features"])).astype(np.float32)
    labels = source.integers(0, LENGTH, _SMALL["items"] // LENGTH)
    network(tf.constant(inputs))
    for variable in network.trainable_variables:  # biases, too, so that a lost one is seen
        variable.assign_add(tf.constant(source.normal(0, 0.1, variable.shape), tf.float32))
    logits = network(tf.constant(inputs))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.npz"
        arrays: dict[str, Any] = {"sizes": list(_SMALL.values()), "inputs": inputs, "labels": labels, **torch_weights(network)}
        np.savez(path, **arrays)
        found = peer.ask(check=str(path))
    ours = [float(loss_of(logits, tf.constant(labels))), *logits.numpy().tolist()]
    if not np.allclose([found["loss"], *found["logits"]], ours, rtol=1e-4, atol=1e-5):
        raise CvrError(f"PyTorch's network computes another function than ours: loss {found['loss']:.6f} for {ours[0]:.6f}")


def flops_of(width: int, items: int) -> int:
    """Training FLOPs of a step: 3 times 2 per multiply-add."""
    backbone = Backbone(Config(width, DEEP))
    return 6 * items * (FEATURES * width + backbone.multiply_adds() + backbone.width * HEAD_WIDTH + HEAD_WIDTH)


def our_steps(width: int, items: int, precisions: Sequence[str]) -> dict[str, Step]:
    """Our step in each precision."""
    inputs, labels = tf.random.stateless_normal([items, FEATURES], [1, 2]), tf.zeros([items // LENGTH], tf.int64)
    steps = {}
    for name in precisions:
        with computing_in(name):
            network = Network(width, DEEP, HEAD_WIDTH)
            network(inputs[:1])
            steps[name] = training_step(network, inputs, labels)
    return steps


def measure(width: int, precisions: Sequence[str], plan: Plan, peer: Peer, say: Callable[[str], None]) -> list[DenseTiming]:
    """Times ours and both of PyTorch's modes in turns."""
    check(peer)
    items = plan.lists * LENGTH
    steps = our_steps(width, items, precisions)
    peer.ask(prepare={"features": FEATURES, "width": width, "deep": DEEP, "head": HEAD_WIDTH, "items": items})
    ms: dict[tuple[str, str], list[float]] = {(mode, name): [] for name in precisions for mode in MODES}
    missing: dict[tuple[str, str], str] = {}
    for repeat in range(plan.repeats):
        for name, mode in itertools.product(precisions, MODES):
            if mode == "ours":
                ms[mode, name].append(turn(steps[name], plan)[0])
            elif (mode, name) not in missing:
                found = peer.ask(turn=[mode, name], steps=plan.steps, seconds=plan.seconds)
                if "error" in found:
                    missing[mode, name] = found["error"]
                else:
                    ms[mode, name].append(found["ms"])
        say(f"PyTorch: turn {repeat + 1} of {plan.repeats}")
    flops = flops_of(width, items)
    return [DenseTiming(mode, name, items, flops, found, missing.get((mode, name), "")) for (mode, name), found in ms.items()]

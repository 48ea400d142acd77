"""Runs a command's `main` in this process, as its console entry point would."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from absl import flags

from cvr import calibrate, evaluate, pretrain, pretrain_flags, train, train_flags
from cvr.errors import CvrError

FLAGS = flags.FLAGS


@contextmanager
def _defined() -> Iterator[set[str]]:
    """Flags defined inside are gone afterwards, so that the next command can define its own."""
    before, found = set(FLAGS), set()
    try:
        yield found
    finally:
        for name in set(FLAGS) - before:
            delattr(FLAGS, name)
        FLAGS.unparse_flags()


@contextmanager
def train_flags_of(*arguments: str) -> Iterator[list[str]]:
    """The flags of `python -m cvr.train <arguments>`, whose names it gives, while the block runs."""
    with _defined():
        names = train_flags.define_flags()
        FLAGS(["train", *arguments])
        yield names


def train_job(*arguments: str) -> int:
    """`python -m cvr.train <arguments>`; errors for users are raised as CvrError."""
    with train_flags_of(*arguments) as names:
        return train.main(["train"], names)


def pretrain_job(*arguments: str) -> int:
    """`python -m cvr.pretrain <arguments>`; errors for users are raised as CvrError."""
    with _defined():
        names = pretrain_flags.define_flags()
        FLAGS(["pretrain", *arguments])
        return pretrain.main(["pretrain"], names)


def evaluate_job(*arguments: str) -> int:
    """`python -m cvr.evaluate <arguments>`; errors for users are raised as CvrError."""
    with _defined():
        evaluate.define_flags()
        FLAGS(["evaluate", *arguments])
        return evaluate.main(["evaluate"])


def calibrate_job(*arguments: str) -> int:
    """`python -m cvr.calibrate <arguments>`; errors for users are raised as CvrError."""
    with _defined():
        calibrate.define_flags()
        FLAGS(["calibrate", *arguments])
        return calibrate.main(["calibrate"])


def message(job: object, *arguments: str) -> str:
    """The text of the CvrError that a job must end with."""
    with pytest.raises(CvrError) as caught:
        job(*arguments)  # type: ignore[operator]
    return str(caught.value)


def small_model(*extra: str) -> Sequence[str]:
    """Flags of a model that trains in a second."""
    return (
        "--backbone=dcnv2",
        "--cross_width=8",
        "--deep_width=8",
        "--cross_layers=1",
        "--deep_layers=2",
        "--experts=2",
        "--expert_width=8",
        "--tower_width=4",
        "--batch_items=24",
        "--epochs=2",
        "--learning_rate=0.01",
        "--seed=3",
        *extra,
    )

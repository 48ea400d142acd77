"""The readers that `tools.benchmarks.input` times: `cvr.data.batches`, and TF-Ranking's ELWC builder with one key per feature.

Both read the same lists from files in the page cache, in order, and end in the tensors that a model takes: ours flat batches of static
size, theirs lists padded to the longest of a batch, n-grams and histories ragged. A batch of theirs has as many lists as ours on average.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from cvr import compat
from cvr.data import Budget, batches
from cvr.elwc import elwc_specs
from cvr.errors import CvrError
from tools.benchmarks.input_content import FORMATS, file_of, spec
from tools.benchmarks.summary import Spread

WARM = 5
"""Batches of a turn before the timed ones: more than are prefetched."""
_SIZE = "list/size"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is read: `lists` lists a file, `passes` times a turn, batches of `batch_items` items; `repeats` turns of each cell."""

    lists: int = 4000
    batch_items: int = 2048
    passes: int = 3
    repeats: int = 7
    seed: int = 1


@dataclasses.dataclass(frozen=True)
class Cell:
    """One reader (`lists` is ours, `elwc` theirs), draw of list lengths and compression."""

    reader: str
    draw: str
    zipped: bool


@dataclasses.dataclass(frozen=True)
class Reading:
    """Items a second by the clock, CPU nanoseconds of the process and bytes of file per item; over the turns."""

    reader: str
    draw: str
    zipped: bool
    rate: Spread
    cpu_ns: Spread
    bytes_per_item: float


def lists_a_batch(plan: Plan, mean: float) -> int:
    """Lists of a batch of theirs: those that have as many items as our batch."""
    return max(1, round(plan.batch_items / mean))


def ours(files: list[str], plan: Plan, mean: float, cpus: int) -> tf.data.Dataset:
    """Our batches; decoding has as many threads as there are CPUs."""
    return batches(spec(), files, Budget.for_mean(plan.batch_items, mean), parallel=cpus)


def theirs(files: list[str], plan: Plan, mean: float) -> tf.data.Dataset:
    """TF-Ranking's batches, unshuffled, everything else as its builder has it; `_SIZE` holds items per list."""
    compat.install()
    import tensorflow_ranking as tfr

    context, items = elwc_specs(spec())
    return tfr.data.build_ranking_dataset(
        files,
        tfr.data.ELWC,
        lists_a_batch(plan, mean),
        context,
        items,
        size_feature_name=_SIZE,
        shuffle=False,
        num_epochs=1,
        from_file_list=True,
        reader_args=["GZIP" if files[0].endswith(".gz") else ""],
    )


def dataset_of(cell: Cell, folder: Path, plan: Plan, mean: float, passes: int, cpus: int) -> tf.data.Dataset:
    """A cell's batches of `passes` passes over its file."""
    files = [str(file_of(folder, cell.draw, cell.reader, cell.zipped))] * passes
    return ours(files, plan, mean, cpus) if cell.reader == "lists" else theirs(files, plan, mean)


def items_of(batch: Mapping[str, tf.Tensor]) -> int:
    """Real items of a batch of either reader."""
    return int(batch["list_size" if "list_size" in batch else _SIZE].numpy().sum())


def timed(dataset: tf.data.Dataset, clock: Callable[[], float] = time.perf_counter) -> tuple[float, float]:
    """(items a second, CPU ns per item) of the batches after the first `WARM` ones. Raises CvrError where none are left."""
    iterator: Iterator[Mapping[str, tf.Tensor]] = iter(dataset)
    for _ in range(WARM):
        next(iterator, None)
    began, cpu, items = clock(), time.process_time(), 0
    for batch in iterator:
        items += items_of(batch)
    wall, used = clock() - began, time.process_time() - cpu
    if not items:
        raise CvrError(f"a turn has no more than {WARM} batches, which are not timed: raise --lists or --passes, or lower --batch_items")
    return items / wall, used / items * 1e9


def measure(cells: list[Cell], folder: Path, plan: Plan, totals: Mapping[str, int], cpus: int, say: Callable[[str], None]) -> list[Reading]:
    """Times all cells, each having one turn before any has two; `totals` are the items of the draws' files."""
    turns: dict[Cell, list[tuple[float, float]]] = {cell: [] for cell in cells}
    made = {cell: dataset_of(cell, folder, plan, totals[cell.draw] / plan.lists, plan.passes, cpus) for cell in cells}
    for repeat in range(plan.repeats):
        shift = repeat % len(cells)
        for cell in cells[shift:] + cells[:shift]:
            turns[cell].append(timed(made[cell]))
        say(f"repeat {repeat + 1} of {plan.repeats}")
    return [
        Reading(
            **dataclasses.asdict(cell),
            rate=Spread.of([rate for rate, _ in found]),
            cpu_ns=Spread.of([cost for _, cost in found]),
            bytes_per_item=file_of(folder, cell.draw, cell.reader, cell.zipped).stat().st_size / totals[cell.draw],
        )
        for cell, found in turns.items()
    ]


def check_equal(folder: Path, plan: Plan, draw: str, mean: float) -> int:
    """Holds the first batches of both readers against each other, list by list; gives the number of items that both hold.

    Compares item ids, labels, a numerical, two categoricals and, per item, n-grams as sets. Raises CvrError where they differ.
    """
    flat, padded = (next(iter(dataset_of(Cell(reader, draw, False), folder, plan, mean, 1, 1))) for reader in FORMATS)
    sizes = flat["list_size"].numpy()
    lists = min(int((sizes > 0).sum()), len(padded[_SIZE]))
    if not np.array_equal(sizes[:lists], padded[_SIZE].numpy()[:lists]):
        raise CvrError(f"draw {draw}: the readers' first {lists} lists differ in length: their files hold different lists")
    items = int(sizes[:lists].sum())
    shown = np.arange(int(padded[_SIZE].numpy().max())) < sizes[:lists, None]
    for key, (mine, yours) in _columns(flat, padded, items, lists, shown).items():
        if not np.array_equal(mine, yours):
            raise CvrError(f"draw {draw}: the readers give different values of {key!r}: one of them reads wrongly")
    _check_ngrams(draw, flat["ragged/title/values"], flat["ragged/title/rows"], padded["title"], shown)
    return items


def _columns(
    flat: Mapping[str, tf.Tensor], padded: Mapping[str, tf.Tensor], items: int, lists: int, shown: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Values of both readers by key: those of items flat, those of the context by list."""

    def of_items(key: str) -> np.ndarray:
        return padded[key].numpy()[:lists, :, 0][shown]

    found = {"item": (flat["item"].numpy()[:items], of_items("item/id"))}
    for task, name in enumerate(spec().task_names):
        found[name] = (flat["labels"].numpy()[:items, task], of_items(name))
    found["number0"] = (flat["item_num"].numpy()[:items, 0], of_items("number0"))
    found["category10"] = (flat["cat/category10"].numpy()[:items], of_items("category10"))
    found["category0"] = (flat["cat/category0"].numpy()[:lists], padded["category0"].numpy()[:lists, 0])
    return found


def _check_ngrams(draw: str, values: tf.Tensor, rows: tf.Tensor, ragged: tf.RaggedTensor, shown: np.ndarray) -> None:
    bags = tf.RaggedTensor.from_value_rowids(values, tf.cast(rows, tf.int64)).to_list()
    their_lists = ragged[: len(shown)].to_list()
    their_items = [ids for ids_of_list, real in zip(their_lists, shown, strict=True) for ids in ids_of_list[: int(real.sum())]]
    for place, (mine, yours) in enumerate(zip(bags, their_items, strict=False)):
        if set(mine) != set(yours) or not mine:
            raise CvrError(f"draw {draw}: the readers give different n-grams of 'title' of item {place}: one of them reads wrongly")

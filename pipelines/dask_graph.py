"""A Beam graph as Dask tasks: a PCollection is a list of tasks, one per partition, each giving a list of elements.

Side inputs and tagged outputs are tasks as well, and a shuffle of n partitions makes n x n of them. Global windows only.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import apache_beam as beam
from apache_beam import coders, pvalue
from apache_beam.internal import pickler
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor, PTransformOverride
from apache_beam.runners.common import DoFnRunner, DoFnSignature, Receiver
from apache_beam.transforms.core import Windowing
from apache_beam.transforms.sideinputs import SideInputMap
from apache_beam.transforms.window import GlobalWindows
from dask.delayed import Delayed, delayed

from cvr.errors import CvrError


class _Collector(Receiver):
    def __init__(self) -> None:
        self.values: list[Any] = []

    def receive(self, windowed_value: Any) -> None:
        self.values.append(windowed_value.value)


def _bundle(step: bytes, elements: list[Any], sides: list[list[Any]]) -> dict[str | None, list[Any]]:
    """Runs a DoFn over one partition; gives the elements by output tag."""
    fn, args, kwargs, views, tags, label, flags = pickler.loads(step)
    FileSystems.set_options(flags)
    outputs = {tag: _Collector() for tag in tags}
    maps = [
        SideInputMap(view, options, [GlobalWindows.windowed_value(value) for value in values])
        for (view, options), values in zip(views, sides, strict=True)
    ]
    runner = DoFnRunner(fn, args, kwargs, maps, Windowing(GlobalWindows()), outputs, step_name=label)
    runner.setup()
    runner.start()
    for element in elements:
        runner.process(GlobalWindows.windowed_value(element))
    runner.finish()
    runner.teardown()
    return {tag: output.values for tag, output in outputs.items()}


def _by_key(coder: bytes, elements: list[Any], pieces: int) -> list[list[Any]]:
    """(key, value) -> (encoded key, key, value), cut into pieces by the encoded key, which is the same in every process."""
    encode = pickler.loads(coder).encode
    cut: list[list[Any]] = [[] for _ in range(pieces)]
    for key, value in elements:
        code = encode(key)
        cut[zlib.crc32(code) % pieces].append((code, key, value))
    return cut


def _group(pieces: list[list[Any]]) -> list[tuple[Any, list[Any]]]:
    groups: dict[bytes, tuple[Any, list[Any]]] = {}
    for code, key, value in itertools.chain.from_iterable(pieces):
        groups.setdefault(code, (key, []))[1].append(value)
    return list(groups.values())


def _in_turn(first: int, elements: list[Any], pieces: int) -> list[list[Any]]:
    return [elements[(place - first) % pieces :: pieces] for place in range(pieces)]


def _joined(pieces: Iterable[list[Any]]) -> list[Any]:
    return list(itertools.chain.from_iterable(pieces))


def _nothing(elements: list[Any]) -> None:
    """The end of a step that nothing reads: its elements stay on the workers."""


class _Spread(beam.PTransform):
    """Stands for Reshuffle, whose random keys would differ when Dask computes a lost partition again."""

    def expand(self, pcoll: beam.PCollection) -> beam.PCollection:
        return beam.PCollection.from_(pcoll)


class SpreadReshuffle(PTransformOverride):
    """Puts a leaf that `Translator` knows in the place of Reshuffle."""

    def matches(self, applied_ptransform: AppliedPTransform) -> bool:
        """Whether a step is a Reshuffle."""
        return applied_ptransform.transform.__class__ == beam.Reshuffle

    def get_replacement_transform_for_applied_ptransform(
        self, applied_ptransform: AppliedPTransform
    ) -> beam.PTransform:
        """What stands in its place."""
        return _Spread()


class Translator(PipelineVisitor):
    """Visits the steps of a pipeline and makes Dask tasks of them; `partitions` is how many a shuffle gives."""

    def __init__(self, partitions: int, options: PipelineOptions) -> None:
        self._partitions, self._options = partitions, options
        self._found: dict[pvalue.PValue, list[Delayed]] = {}
        self._read: set[pvalue.PValue] = set()
        self._steps = itertools.count()

    def visit_transform(self, node: AppliedPTransform) -> None:
        """Adds the tasks of a step. Raises CvrError for one that cannot run here."""
        kinds: tuple[tuple[type, Callable[[AppliedPTransform], None]], ...] = (
            (beam.ParDo, self._par_do),
            (beam.GroupByKey, self._group_by_key),
            (beam.Flatten, self._flatten),
            (beam.Impulse, self._impulse),
            (_Spread, self._spread),
        )
        for pcoll in node.outputs.values():
            if not isinstance(pcoll.windowing.windowfn, GlobalWindows):
                raise CvrError(f"--runner=DaskRunner: step {node.full_label!r} uses windows; only global ones run there")
        self._read.update(value for value in node.inputs if not isinstance(value, pvalue.PBegin))
        self._read.update(side.pvalue for side in node.side_inputs)
        for kind, add in kinds:
            if isinstance(node.transform, kind):
                add(node)
                return
        raise CvrError(f"--runner=DaskRunner cannot run step {node.full_label!r} ({type(node.transform).__name__})")

    def sinks(self) -> list[Delayed]:
        """What must be computed for the whole pipeline to have run: every output that no step reads."""
        ends = [parts for pcoll, parts in self._found.items() if pcoll not in self._read]
        return [delayed(_nothing)(part) for parts in ends for part in parts]

    def _tasks(self, node: AppliedPTransform, calls: Sequence[tuple[Any, ...]], nout: int | None = None) -> list[Delayed]:
        """One task per call (function, arguments...), named after the step, as the dashboard shows it."""
        name = f"{node.full_label.replace('/', '.').replace('-', '_')}_{next(self._steps)}"
        return [
            delayed(function, nout=nout, pure=False)(*arguments, dask_key_name=f"{name}-{place}-{id(self):x}")
            for place, (function, *arguments) in enumerate(calls)
        ]

    def _input(self, node: AppliedPTransform) -> list[Delayed]:
        return self._found[next(iter(node.main_inputs.values()))]

    def _par_do(self, node: AppliedPTransform) -> None:
        fn, (args, kwargs) = node.transform.fn, node.transform.raw_side_inputs
        signature = DoFnSignature(fn)
        if signature.is_stateful_dofn() or signature.is_splittable_dofn():
            raise CvrError(f"--runner=DaskRunner: step {node.full_label!r} keeps state or splits its elements; not there")
        views = [(type(side), side._view_options()) for side in node.side_inputs]
        tags = [None, *sorted(tag for tag in node.outputs if tag is not None)]
        step = delayed(pickler.dumps((fn, args, kwargs, views, tags, node.full_label, self._options)))
        sides = [delayed(_joined)(self._found[side.pvalue]) for side in node.side_inputs]
        done = self._tasks(node, [(_bundle, step, part, sides) for part in self._input(node)])
        for tag, pcoll in node.outputs.items():
            self._found[pcoll] = [part[tag] for part in done]

    def _group_by_key(self, node: AppliedPTransform) -> None:
        kind = node.inputs[0].element_type
        coder = coders.registry.get_coder(kind).as_deterministic_coder(node.full_label) if kind else None
        key_coder = coder.key_coder() if coder is not None and coder.is_kv_coder() else coders.FastPrimitivesCoder()
        code = delayed(pickler.dumps(key_coder))
        self._shuffle(node, [(_by_key, code, part, self._partitions) for part in self._input(node)], _group)

    def _spread(self, node: AppliedPTransform) -> None:
        calls = [(_in_turn, first, part, self._partitions) for first, part in enumerate(self._input(node))]
        self._shuffle(node, calls, _joined)

    def _shuffle(self, node: AppliedPTransform, cuts: Sequence[tuple[Any, ...]], gather: Callable[..., Any]) -> None:
        pieces = self._tasks(node, cuts, nout=self._partitions)
        calls = [(gather, [piece[place] for piece in pieces]) for place in range(self._partitions)]
        self._found[node.outputs[None]] = self._tasks(node, calls)

    def _flatten(self, node: AppliedPTransform) -> None:
        self._found[node.outputs[None]] = _joined(self._found[pcoll] for pcoll in node.inputs)

    def _impulse(self, node: AppliedPTransform) -> None:
        self._found[node.outputs[None]] = [delayed([b""])]

"""Bytes of activations, read off the graph of a ranker (`cvr.tracing`).

A tensor counts where an operation makes it; `Reshape` and its like only rename one, weights and the batch itself are no activations. An
axis whose length the graph does not know is that of the longest list. Loops keep lists of tensors, as long as the sequence that they read.
"""

from __future__ import annotations

import math

import tensorflow as tf

from cvr.tracing import Trace

_RENAMES = {"Reshape", "Identity", "IdentityN", "ExpandDims", "Squeeze", "StopGradient"}
_NO_ACTIVATIONS = {"Placeholder", "Const", "ReadVariableOp", "VarHandleOp", "NoOp"}
_SHAPES_ONLY = {"Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike"}
"""Operations that look at a tensor's shape, which is known beforehand."""


def kept_bytes(trace: Trace, longest: int) -> int:
    """What a training step holds from the forward to the backward pass: values made by the one and read by the other."""
    operations = trace.graph.get_operations()
    forward = set(operations[: trace.forward])
    kept = {
        _made(tensor).ref()
        for operation in _needed(trace)
        if operation not in forward and operation.type not in _SHAPES_ONLY
        for tensor in operation.inputs
        if tensor.op in forward
    }
    return sum(_size(tensor.deref(), longest) for tensor in kept)


def peak_bytes(trace: Trace, longest: int) -> int:
    """The most that is alive at one time when the operations run one by one in the graph's order and nothing is overwritten in place."""
    needed = _needed(trace)
    order = [operation for operation in trace.graph.get_operations() if operation in needed]
    last = {_made(tensor).ref(): place for place, operation in enumerate(order) for tensor in operation.inputs}
    last.update(dict.fromkeys((_made(tensor).ref() for tensor in trace.outputs), len(order)))
    dying: dict[int, int] = {}
    alive = peak = 0
    for place, operation in enumerate(order):
        for tensor in operation.outputs:
            if tensor.ref() in last and operation.type not in _RENAMES:
                size = _size(tensor, longest)
                alive += size
                dying[last[tensor.ref()]] = dying.get(last[tensor.ref()], 0) + size
        peak = max(peak, alive)
        alive -= dying.get(place, 0)
    return peak


def _needed(trace: Trace) -> set[tf.Operation]:
    """The operations that the outputs depend on."""
    found: set[tf.Operation] = set()
    waiting = [tensor.op for tensor in trace.outputs]
    while waiting:
        operation = waiting.pop()
        if operation not in found:
            found.add(operation)
            waiting.extend(tensor.op for tensor in operation.inputs)
    return found


def _made(tensor: tf.Tensor) -> tf.Tensor:
    """The tensor whose memory this one is: itself, or what it renames."""
    while tensor.op.type in _RENAMES:
        tensor = tensor.op.inputs[tensor.value_index]
    return tensor


def _size(tensor: tf.Tensor, longest: int) -> int:
    """Bytes of an activation; 0 of a weight, a constant, the batch or the scratch space of a norm, which is empty on a CPU."""
    if tensor.op.type in _NO_ACTIVATIONS or tensor.dtype == tf.resource:
        return 0
    if tensor.dtype == tf.variant:
        return _list_size(tensor, longest)
    if tensor.shape.rank is None and tensor.op.type == "FusedBatchNormV3":
        return 0
    return math.prod(longest if size is None else size for size in tensor.shape) * tensor.dtype.size


def _list_size(tensor: tf.Tensor, longest: int) -> int:
    """Bytes of a list of tensors: one cut out of a sequence, or one that a loop over such a sequence adds an element to at each step."""
    made = tensor.op
    if made.type == "TensorListFromTensor":
        return _size(made.inputs[0], longest)
    if made.type not in ("While", "StatelessWhile"):
        return 0
    (steps,) = {source.op.inputs[0].shape[0] for source in made.inputs if source.op.type == "TensorListFromTensor"}
    body = made.graph._get_function(made.get_attr("body").name).graph
    added = _made(body.outputs[tensor.value_index]).op
    return steps * _size(_made(added.inputs[-1]), longest) if added.type in ("TensorListPushBack", "TensorListSetItem") else 0

"""Puts every variable of a written SavedModel where what reads it runs.

TensorFlow writes variables without a device. A runtime with a GPU then takes that, and drags the look-ups in a variable along, whatever
device they ask for: tables that were meant for the CPU's memory would fill the GPU's. So variables that are read on the CPU are pinned to
it. Those that are read on the GPU need no pin to go there, and with one a host without a GPU would warn of each.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.saved_model import fingerprinting_utils

from export.versions import MODEL_FILE

_READS = {"ReadVariableOp", "ResourceGather", "ResourceGatherNd"}
_ENDS = {"Identity", "NoOp"}
CPU, GPU = "/device:CPU:0", "/device:GPU:0"


def pin_variables(folder: Path) -> dict[str, str]:
    """Pins variables and writes the fingerprint anew; gives where each is read, by node: the CPU where any signature reads it there."""
    path = folder / MODEL_FILE
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    graph, saver = model.meta_graphs[0].graph_def, model.meta_graphs[0].saver_def
    used = [node for node in graph.node if node.name not in (saver.save_tensor_name.partition(":")[0], saver.restore_op_name)]
    functions = {function.signature.name: function for function in graph.library.function}
    devices = {node.name: "" for node in graph.node if node.op == "VarHandleOp"}
    for name in devices:
        reads = [read for node, place in _users(used, name) for read in _reads(functions, node, place)]
        found = {device for _, device in reads}
        devices[name] = CPU if not found or CPU in found else GPU
        for node, _ in reads:
            node.device = devices[name]
    for node in graph.node:
        if devices.get(node.name) == CPU:
            node.device = CPU
    path.write_bytes(model.SerializeToString(deterministic=True))
    fingerprinting_utils.write_fingerprint(str(folder))
    return devices


def _users(nodes: Iterable[Any], source: str) -> list[tuple[Any, int]]:
    """(node, place among its inputs) for each use of a node's first output or of a function's argument."""
    return [
        (node, place)
        for node in nodes
        for place, name in enumerate(node.input)
        if not name.startswith("^") and name.partition(":")[0] == source
    ]


def _reads(functions: dict[str, Any], node: Any, place: int) -> list[tuple[Any, str]]:
    """The operations that read the variable which `node` takes, here or in the functions that it calls, with the device of the reading."""
    if node.op in _READS:
        return []  # of the graph outside of all functions: it only saves
    offset = 1 if node.op in ("If", "StatelessIf") else 0
    found = []
    for attribute in node.attr.values():
        if attribute.WhichOneof("value") == "func" and attribute.func.name in functions:
            function = functions[attribute.func.name]
            argument = function.signature.input_arg[place - offset].name
            for user, at in _users(function.node_def, argument):
                if user.op in _READS:
                    found.append((user, user.device or _device_of_use(function, user)))
                else:
                    found += _reads(functions, user, at)
    return found


def _device_of_use(function: Any, read: Any) -> str:
    """Where a value that was read goes: the device of what takes it."""
    taken = {node.device for node, _ in _users(function.node_def, read.name) if node.op not in _ENDS and node.device}
    return CPU if CPU in taken or not taken else GPU

"""Training steps and backbones as XLA programs: HLO with what a machine without TensorFlow needs to run it.

A program's folder holds `program.hlo` (HloModuleProto), `arguments.npz` (the batch), and `program.json`: its parameters in order, each an
array of that file or a variable, described by shape, type, mean and spread; which output is which variable's next value; how many loops
it has. With values, `variables.npz` and `expected.npz` hold the variables before and all outputs after one run on this machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.compiler.xla.service import hlo_pb2

FORMAT = 1
Batch = dict[str, tf.Tensor]
Program = Callable[[Batch], Any]


def write_program(
    folder: Path, function: Program, batch: Batch, about: Mapping[str, Any], values: bool = False, states: Sequence[tf.Variable] = ()
) -> dict[str, Any]:
    """Compiles `function(batch)` for XLA and writes its folder; returns the content of `program.json`.

    Shapes are those of the batch; strings are not allowed. The function may assign variables that exist; `states` are those that it
    touches by their handles alone, of which TensorFlow keeps no list.
    """
    graph = tf.function(function, autograph=False, jit_compile=True)
    concrete = graph.get_concrete_function(batch)
    variables = _captured_variables(concrete, states)
    module = hlo_pb2.HloModuleProto.FromString(graph.experimental_get_compiler_ir(batch)(stage="hlo_serialized"))
    loops = rewrite(module)
    names = [name for name in sorted(batch) if tf.size(batch[name])]  # as tf.nest flattens; empty ones become constants
    _check_parameters(module, [batch[name] for name in names], variables)
    found = {
        "format": FORMAT,
        **about,
        "loops": loops,
        "parameters": [{"argument": name} for name in names] + [_described(variable) for variable in variables],
        "outputs": int(_results(module)),
        "next": _next_values(module, len(names)),
    }
    folder.mkdir(parents=True)
    (folder / "program.hlo").write_bytes(module.SerializeToString())
    np.savez(folder / "arguments.npz", **{name: batch[name].numpy() for name in names})
    if values:
        _write_values(folder, graph, batch, variables, found)
    (folder / "program.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def _captured_variables(concrete: Any, states: Sequence[tf.Variable]) -> list[tf.Variable]:
    """The variables that a function reads or assigns, in the order of its parameters."""
    by_handle = {id(variable.handle): variable for variable in [*concrete.graph.variables, *states]}
    return [by_handle[id(captured)] for captured in concrete.captured_inputs]


def rewrite(module: hlo_pb2.HloModuleProto) -> int:
    """Turns each `copy`, which assigned variables give and the CUDA compiler refuses, into a `reshape`; returns the number of loops."""
    loops = 0
    for computation in module.computations:
        for instruction in computation.instructions:
            loops += instruction.opcode == "while"
            if instruction.opcode == "copy":
                instruction.opcode = "reshape"
    return loops


def _check_parameters(module: hlo_pb2.HloModuleProto, arguments: Sequence[tf.Tensor], variables: Sequence[tf.Variable]) -> None:
    """Raises ValueError where the program's parameters are not the arguments and then the variables."""
    found = [tuple(shape.dimensions) for shape in module.host_program_shape.parameters]
    wanted = [tuple(value.shape) for value in (*arguments, *variables)]
    if found != wanted:
        raise ValueError(f"the program's parameters {found} are not the arguments and variables {wanted}")


def _results(module: hlo_pb2.HloModuleProto) -> int:
    result = module.host_program_shape.result
    return len(result.tuple_shapes) if result.tuple_shapes else 1


def _next_values(module: hlo_pb2.HloModuleProto, arguments: int) -> list[list[int]]:
    """[output, parameter] of each assigned variable: XLA is told that they share their memory."""
    pairs = [[entry.output_shape_index[0], entry.parameter_number] for entry in module.input_output_alias.entries]
    return sorted(pair for pair in pairs if pair[1] >= arguments)


def _described(variable: tf.Variable) -> dict[str, Any]:
    values = variable.numpy()
    constant = values.min() == values.max()  # as moments and counters are; of infinity there is no spread
    mean, std = float(values.flat[0] if constant else values.mean()), 0.0 if constant else float(values.std())
    return {"variable": variable.name, "shape": list(values.shape), "dtype": values.dtype.name, "mean": mean, "std": std}


def _write_values(folder: Path, graph: Any, batch: Batch, variables: Sequence[tf.Variable], found: Mapping[str, Any]) -> None:
    """The variables' values, and all outputs of one run: results first, then the assigned variables."""
    np.savez(folder / "variables.npz", **{str(place): variable.numpy() for place, variable in enumerate(variables)})
    arguments = len(found["parameters"]) - len(variables)
    results = [np.asarray(value) for value in tf.nest.flatten(graph(batch))]
    outputs = dict(enumerate(results))
    for output, parameter in found["next"]:
        outputs[output] = variables[parameter - arguments].numpy()
    arrays: dict[str, Any] = {str(place): value.astype(_exact(value.dtype)) for place, value in outputs.items()}
    np.savez(folder / "expected.npz", **arrays)


def _exact(dtype: np.dtype) -> np.dtype:
    """npz has no bfloat16."""
    return np.dtype(np.float32) if dtype.name == "bfloat16" else dtype

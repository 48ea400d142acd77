"""Checks of Predict with malformed tensors: each is refused with INVALID_ARGUMENT, and the server answers the next right request.

tensorflow_model_server looks at names, numbers of values and types before it runs a graph, and leaves shapes to the graph; both refuse with
INVALID_ARGUMENT. Strings are bytes to both, whatever they hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
from tensorflow.core.framework import types_pb2

from export import tensors
from export.conformance.check import Check, SkippedError, require
from export.conformance.compare import OK, refused, scores_of
from export.conformance.target import Arrays, Target
from export.inputs import ITEM_ID, ITEM_OFFSET
from export.signatures import EXAMPLES

INVALID = grpc.StatusCode.INVALID_ARGUMENT
Spoil = Callable[[Target, Any], None]
_ITEMS = 5


def _first(target: Target, kind: str, fits: Callable[[str, tuple[int | None, ...]], bool]) -> str:
    """The first input of a type that fits. Raises SkippedError where the model has none."""
    for name, info in sorted(target.inputs.items()):
        if info.dtype.name == kind and name != ITEM_ID and fits(name, info.shape):
            return name
    raise SkippedError(f"the model has no such {kind} input")


def _number(target: Target) -> str:
    """A numerical input per item; the display order where the model has no other."""
    try:
        return _first(target, "float32", lambda name, shape: shape == (None,) and "." not in name)
    except SkippedError:
        return ITEM_OFFSET


def _put(request: Any, name: str, values: np.ndarray) -> None:
    request.inputs[name].CopyFrom(tensors.encode(values))


def _rename(target: Target, request: Any) -> None:
    request.inputs["no_input"].CopyFrom(request.inputs[ITEM_OFFSET])
    del request.inputs[ITEM_OFFSET]


def _wrong_type(target: Target, request: Any) -> None:
    _put(request, _number(target), np.array(["a"] * _ITEMS, object))


def _doubles(target: Target, request: Any) -> None:
    _put(request, _number(target), np.ones(_ITEMS, np.float64))


def _two_dimensions(target: Target, request: Any) -> None:
    name = _number(target)
    _put(request, name, target.example(_ITEMS)[name][:, None])


def _scalar(target: Target, request: Any) -> None:
    name = _number(target)
    _put(request, name, target.example(_ITEMS)[name][0])


def _one_short(target: Target, request: Any) -> None:
    name = _number(target)
    _put(request, name, target.example(_ITEMS)[name][1:])


def _two_contexts(target: Target, request: Any) -> None:
    try:
        name = _first(target, "float32", lambda _, shape: shape == (1,))
    except SkippedError:
        name = _first(target, "string", lambda _, shape: shape == (1,))
    _put(request, name, np.repeat(target.example(_ITEMS)[name], 2))


def _history_short(target: Target, request: Any) -> None:
    _put(request, _first(target, "float32", lambda name, _: name.endswith(".age")), np.ones(17, np.float32))


def _cut_content(target: Target, request: Any) -> None:
    proto = request.inputs[_number(target)]
    proto.tensor_content = proto.tensor_content[:-3]


def _long_content(target: Target, request: Any) -> None:
    request.inputs[_number(target)].tensor_content += b"\x00" * 4


def _negative(target: Target, request: Any) -> None:
    request.inputs[_number(target)].tensor_shape.dim[0].size = -2


def _no_type(target: Target, request: Any) -> None:
    request.inputs[_number(target)].dtype = types_pb2.DT_INVALID


def _no_items(target: Target, request: Any) -> None:
    for name in target.item_inputs():
        _put(request, name, target.example(_ITEMS)[name][:0])


def _check(spoil: Spoil) -> Callable[[Target], str]:
    def run(target: Target) -> str:
        request = target.request(target.example(_ITEMS))
        spoil(target, request)
        seen = refused(target.ask("Predict", request), INVALID)
        scores_of(target.predict(target.example(2)), 2)
        return seen

    return run


def _garbage_record(target: Target) -> str:
    return refused(target.ask("Predict", target.request({EXAMPLES: np.array([b"no record"], object)}, "score_lists")), INVALID)


def _answered(change: Callable[[Target, Arrays], Arrays]) -> Callable[[Target], str]:
    def run(target: Target) -> str:
        answer = target.ask("Predict", target.request(change(target, target.example(_ITEMS))))
        require(answer.code == OK, f"{answer.code.name}: {answer.details}")
        return scores_of(answer.arrays(), _ITEMS)

    return run


def _odd_bytes(target: Target, arrays: Arrays) -> Arrays:
    odd = [b"\xff\xfe\x80", b"", b"\x00", b"x" * 5000, "Ä ß".encode()]
    texts = [name for name in target.item_inputs() if arrays[name].dtype == object]
    return {**arrays, **{name: np.array(odd, object) for name in texts}}


def _odd_numbers(target: Target, arrays: Arrays) -> Arrays:
    odd = np.array([np.nan, -np.inf, 3e38, -3e38, 0.0], np.float32)
    return {**arrays, **{name: odd for name in target.item_inputs() if arrays[name].dtype == np.float32}}


_REFUSED: tuple[tuple[str, str, Spoil], ...] = (
    ("no_inputs", "a request without inputs", lambda _, request: request.ClearField("inputs")),
    ("input_missing", "a missing input", lambda _, request: request.inputs.pop(ITEM_OFFSET)),
    ("input_extra", "an input too many", lambda _, request: _put(request, "no_input", np.ones(1, np.float32))),
    ("input_renamed", "an unknown input in place of one", _rename),
    ("type_text", "text where numbers belong", _wrong_type),
    ("type_double", "float64 where another number type belongs", _doubles),
    ("type_none", "a tensor without a type", _no_type),
    ("shape_matrix", "[n, 1] where [n] belongs", _two_dimensions),
    ("shape_scalar", "one number where [n] belongs", _scalar),
    ("shape_short", "an input with one row less than there are items", _one_short),
    ("shape_context", "two rows of context", _two_contexts),
    ("shape_history", "a history whose parts have different lengths", _history_short),
    ("shape_negative", "a negative dimension", _negative),
    ("content_cut", "tensor_content that ends within a number", _cut_content),
    ("content_long", "tensor_content with a number too many", _long_content),
    ("items_none", "a search without items", _no_items),
)
CHECKS = (
    *(Check(name, f"INVALID_ARGUMENT for {meaning}, and the next request is answered", _check(spoil)) for name, meaning, spoil in _REFUSED),
    Check("record_garbage", "INVALID_ARGUMENT for bytes that are no list record", _garbage_record),
    Check("text_bytes", "finite scores for texts that are no UTF-8, empty, unseen or very long", _answered(_odd_bytes)),
    Check("number_range", "finite scores for missing (NaN), unseen (-inf) and the largest numbers", _answered(_odd_numbers)),
)

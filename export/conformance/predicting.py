"""Checks of Predict with right requests: every signature, chosen outputs, versions and labels; and of names that are not there."""

from __future__ import annotations

import grpc
import numpy as np

from export.conformance.check import Check, SkippedError, require
from export.conformance.compare import OK, equal, refused, scores_of
from export.conformance.metadata import OTHER_VERSION
from export.conformance.target import Answer, Target
from export.servable import DEFAULT_SIGNATURE, tensor_infos
from export.signatures import CONTEXT, EXAMPLES, ITEMS, LIST_SIZE, SCORE

NOT_FOUND, INVALID = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT
FAILED = grpc.StatusCode.FAILED_PRECONDITION
_ITEMS = 7


def _default(target: Target) -> str:
    answer = target.ask("Predict", target.request(target.example(_ITEMS)))
    require(answer.code == OK, f"{answer.code.name}: {answer.details}")
    spec, outputs = answer.response.model_spec, answer.arrays()
    described = tensor_infos(target.signatures[DEFAULT_SIGNATURE].outputs)
    require(set(outputs) == set(described) and SCORE in outputs, f"outputs {sorted(outputs)}, the metadata say {sorted(described)}")
    wrong = [name for name, values in outputs.items() if values.dtype != described[name].dtype.as_numpy_dtype]
    require(not wrong, f"outputs {wrong} have another type than the metadata say")
    named = (spec.name, spec.signature_name, spec.HasField("version"))
    require(named == (target.name, DEFAULT_SIGNATURE, True), f"the answer's model_spec has (name, signature, version) {named}")
    return scores_of(outputs, _ITEMS)


def _unnamed(target: Target) -> str:
    arrays = target.example(_ITEMS)
    return equal(target, target.predict(arrays, ""), target.predict(arrays))


def _two_phases(target: Target) -> str:
    arrays = target.example(_ITEMS, seed=1)
    halves = target.predict(arrays, "preprocess")
    require(halves[CONTEXT].shape[0] == 1 and halves[ITEMS].shape[0] == _ITEMS, "preprocess gives other rows than 1 context and n items")
    return equal(target, target.predict(halves, "score"), target.predict(arrays))


def _context_repeated(target: Target) -> str:
    halves = target.predict(target.example(_ITEMS, seed=2), "preprocess")
    repeated = {**halves, CONTEXT: np.repeat(halves[CONTEXT], _ITEMS, axis=0)}
    return equal(target, target.predict(repeated, "score"), target.predict(halves, "score"))


def _one_item_each(target: Target) -> str:
    if target.limits is None:
        raise SkippedError("the model has no signature limits, which says whether items may be scored apart")
    if target.limits[1]:
        raise SkippedError(f"items score otherwise alone: {', '.join(target.limits[1])} depend on the whole list")
    arrays = target.example(_ITEMS, seed=3)
    by_item = target.item_inputs()
    alone = [target.predict({**arrays, **{name: arrays[name][row : row + 1] for name in by_item}}) for row in range(_ITEMS)]
    joined = {name: np.concatenate([outputs[name] for outputs in alone]) for name in alone[0]}
    return equal(target, joined, target.predict(arrays))


def _permuted(target: Target) -> str:
    arrays = target.example(_ITEMS, seed=4)
    order = np.array([3, 0, 6, 1, 5, 2, 4])
    moved = target.predict({**arrays, **{name: arrays[name][order] for name in target.item_inputs()}})
    expected = {name: values[order] for name, values in target.predict(arrays).items()}
    require(np.ptp(expected[SCORE]) > 0, "all items of a made-up search have one score")
    return equal(target, moved, expected)


def _lists(target: Target) -> str:
    if not target.reference.records:
        raise SkippedError("no list records; give --lists")
    some = list(target.reference.records[:3])
    together = target.predict({EXAMPLES: np.array(some, object)}, "score_lists")
    sizes = together.pop(LIST_SIZE)
    alone = [target.predict({EXAMPLES: np.array([record], object)}, "score_lists") for record in some]
    require(sizes.tolist() == [int(outputs[LIST_SIZE][0]) for outputs in alone], "list_size is not that of the lists sent alone")
    return equal(target, together, {name: np.concatenate([outputs[name] for outputs in alone]) for name in together})


def _filtered(target: Target) -> str:
    arrays = target.example(_ITEMS)
    request = target.request(arrays)
    request.output_filter.append(SCORE)
    answer = target.ask("Predict", request)
    require(answer.code == OK, f"{answer.code.name}: {answer.details}")
    return equal(target, answer.arrays(), {SCORE: target.predict(arrays)[SCORE]})


def _asked(target: Target, **spec: object) -> Answer:
    """A right request whose address is changed."""
    request = target.request(target.example(2))
    for field, value in spec.items():
        if field == "version":
            request.model_spec.version.value = int(str(value))
        elif field == "output_filter":
            request.output_filter.append(str(value))
        else:
            setattr(request.model_spec, field, value)
    return target.ask("Predict", request)


def _pinned(target: Target) -> str:
    newest = _asked(target)
    require(newest.code == OK, f"{newest.code.name}: {newest.details}")
    version = newest.response.model_spec.version.value
    answer = _asked(target, version=version)
    require(answer.code == OK, f"version {version} answers, and pinned it answers {answer.code.name}: {answer.details}")
    found = answer.response.model_spec.version.value
    require(found == version, f"pinned to {version}, answered by {found}")
    return equal(target, answer.arrays(), newest.arrays()) + f", version {version}"


def _labelled(target: Target) -> str:
    if not target.labels:
        raise SkippedError("no labels; give --version_labels=stable:3 where the server's config has some")
    for label, version in target.labels.items():
        answer = _asked(target, version_label=label)
        require(answer.code == OK, f"label {label!r}: {answer.code.name}: {answer.details}")
        found = answer.response.model_spec.version.value
        require(found == version, f"label {label!r} was answered by version {found}, expected {version}")
    return ", ".join(f"{label} = {version}" for label, version in target.labels.items())


CHECKS = (
    Check("serving_default", "a finite number per item and output, types as in the metadata, the version that answered", _default),
    Check("unnamed_signature", "no signature name means serving_default", _unnamed),
    Check("two_phases", "preprocess, then score = serving_default", _two_phases),
    Check("context_repeated", "score: one row of context = the row once per item", _context_repeated),
    Check("one_item_each", "a request per item = one request", _one_item_each),
    Check("permutation", "rows in another order get the same scores, in that order", _permuted),
    Check("score_lists", "lists in one request = lists alone", _lists),
    Check("output_filter", "the chosen output alone, unchanged", _filtered),
    Check("output_unknown", "INVALID_ARGUMENT for an unknown output", lambda t: refused(_asked(t, output_filter="no_output"), INVALID)),
    Check(
        "signature_unknown",
        "FAILED_PRECONDITION (tensorflow_model_server), INVALID_ARGUMENT (its TFRT runtime) or NOT_FOUND (export.serve)",
        lambda t: refused(_asked(t, signature_name="no_signature"), FAILED, INVALID, NOT_FOUND),
    ),
    Check("model_unknown", "NOT_FOUND for an unknown model", lambda t: refused(_asked(t, name=f"{t.name}-unknown"), NOT_FOUND)),
    Check(
        "model_unnamed",
        "NOT_FOUND, or INVALID_ARGUMENT (tensorflow_model_server where the whole model_spec is missing)",
        lambda t: refused(_asked(t, name=""), NOT_FOUND, INVALID),
    ),
    Check("version_pinned", "the version that answers unpinned gives the same pinned", _pinned),
    Check("version_unknown", "NOT_FOUND for an unknown version", lambda t: refused(_asked(t, version=OTHER_VERSION), NOT_FOUND)),
    Check("version_labels", "each configured label is answered by its version", _labelled),
    Check(
        "label_unknown",
        "INVALID_ARGUMENT (tensorflow_model_server), NOT_FOUND (export.serve) or FAILED_PRECONDITION (labels are not set up yet)",
        lambda t: refused(_asked(t, version_label="no-such-label"), INVALID, NOT_FOUND, FAILED),
    ),
)

"""The suite passes on our server and on a stand-in of TF Serving, and every kind of broken server fails it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import predict_pb2

from cvr.errors import CvrError
from export import conformance, tensors
from export.conformance import __main__ as command
from export.conformance.check import Check, Result, run_all
from export.conformance.report import content, table
from export.conformance.target import Reference, Target
from export.extras import EXTRA, PARITY_FILE, about
from export.prediction_log import read_log
from export.servable import Servable
from tests.commands import run_main
from tests.export.conftest import Exported
from tests.export.proxies import Proxy
from tests.export.tf_serving import TfServing

LISTWISE = "items score otherwise alone: to_last, above, price_rank depend on the whole list"


@pytest.fixture(scope="module")
def reference(exported: Exported) -> Reference:
    recorded = list(read_log(exported.version / EXTRA / PARITY_FILE))
    tolerance = about(exported.version)["parity"]["selfcheck_tolerance"]
    return Reference(exported.run.spec, exported.ranker, exported.records, recorded, 3, tolerance)


def _results(at: str, reference: Reference, *names: str, labels: dict[str, int] | None = None) -> dict[str, Result]:
    chosen = [check for check in command.CHECKS if not names or check.name in names]
    target = Target(at, labels=labels, reference=reference)
    try:
        return {result.name: result for result in run_all(chosen, target, 600.0)}
    finally:
        target.close()


def _of(results: dict[str, Result], verdict: str) -> dict[str, str]:
    return {name: result.seen for name, result in results.items() if result.verdict == verdict}


def test_names_are_distinct() -> None:
    names = [check.name for check in command.CHECKS]
    assert len(set(names)) == len(names) and conformance.__doc__


def test_our_server(target: str, reference: Reference) -> None:
    results = _results(target, reference)
    assert _of(results, "fail") == {}
    assert set(_of(results, "skip")) == {"one_item_each", "version_labels"}
    assert results["one_item_each"].seen == LISTWISE


def test_a_stand_in_of_tf_serving(servable: Servable, reference: Reference) -> None:
    with TfServing(servable, {"stable": 3}).serving() as server:
        results = _results(server.target, reference, labels={"stable": 3})
    assert _of(results, "fail") == {}
    assert set(_of(results, "skip")) == {"one_item_each", "health", "reflection"}
    assert "--enable_grpc_healthcheck_service" in results["health"].seen
    assert results["signature_unknown"].seen.startswith("FAILED_PRECONDITION")


def _change(answer: Any, change: Callable[[np.ndarray], np.ndarray]) -> Any:
    for name, proto in list(answer.outputs.items()):
        values = tensors.decode_any(proto)
        if values.dtype == np.float32 and values.ndim == 1:
            answer.outputs[name].CopyFrom(tensors.encode(np.ascontiguousarray(change(values))))
    return answer


def _wrong_scores(method: str, request: Any, answer: Any) -> Any:
    return _change(answer, lambda values: values + np.float32(0.01)) if method == "Predict" else answer


def _wrong_order(method: str, request: Any, answer: Any) -> Any:
    return _change(answer, lambda values: values[::-1]) if method == "Predict" else answer


def _not_finite(method: str, request: Any, answer: Any) -> Any:
    first = np.float32("nan")
    return _change(answer, lambda values: np.append(first, values[1:])) if method == "Predict" else answer


def _wrong_version(method: str, request: Any, answer: Any) -> Any:
    if method == "Predict":
        answer.model_spec.version.value = 2
    return answer


def _dropped_output(method: str, request: Any, answer: Any) -> Any:
    if method == "Predict":
        answer.outputs.pop("click", None)
    return answer


@pytest.mark.parametrize(
    ("after", "failing", "passing"),
    [
        (_wrong_scores, {"recorded_answers", "checkpoint"}, {"two_phases", "permutation", "serving_default"}),
        (_wrong_order, {"recorded_answers", "checkpoint", "permutation"}, {"two_phases", "serving_default"}),
        (_not_finite, {"serving_default", "recorded_answers", "text_bytes"}, {"version_pinned"}),
        (_wrong_version, {"version_pinned"}, {"serving_default", "two_phases"}),
        (_dropped_output, {"serving_default", "recorded_answers", "checkpoint"}, {"output_filter"}),
    ],
)
def test_wrong_answers_fail(target: str, reference: Reference, after: Any, failing: set[str], passing: set[str]) -> None:
    with Proxy(target, after=after).serving() as proxy:
        results = _results(proxy.target, reference, *failing, *passing)
    assert set(_of(results, "fail")) == failing and set(_of(results, "pass")) == passing


class _Noise:
    """Answers that depend on how many calls were made before."""

    def __init__(self) -> None:
        self._source = np.random.default_rng(0)

    def __call__(self, method: str, request: Any, answer: Any) -> Any:
        noise = np.float32(self._source.normal(0, 0.01))
        return _change(answer, lambda values: values + noise) if method == "Predict" else answer


def test_answers_that_depend_on_other_requests_fail(target: str, reference: Reference) -> None:
    with Proxy(target, after=_Noise()).serving() as proxy:
        results = _results(proxy.target, reference, "repeated", "concurrent", "two_phases", "context_repeated", "unnamed_signature")
    assert len(_of(results, "fail")) == len(results) == 5 and "differs by" in results["concurrent"].seen


def _swallow(method: str, request: Any, error: Any) -> Any:
    """An empty answer in place of an error."""
    return predict_pb2.PredictResponse() if method == "Predict" else None


def test_swallowed_errors_fail(target: str, reference: Reference) -> None:
    refusals = [check.name for check in command.malformed.CHECKS if check.expects.startswith("INVALID")]
    names = [*refusals, "items_too_many", "signature_unknown", "model_unknown", "version_unknown", "label_unknown", "output_unknown"]
    with Proxy(target, caught=_swallow).serving() as proxy:
        results = _results(proxy.target, reference, *names)
    assert set(_of(results, "fail")) == set(names) and all("answered OK" in seen for seen in _of(results, "fail").values())


class _AsInternal(Proxy):
    def _forward(self, method: str, request: Any, context: Any) -> Any:
        try:
            return self._stubs[method](request, timeout=60)
        except grpc.RpcError:
            context.abort(grpc.StatusCode.INTERNAL, "oops")


def test_wrong_codes_fail(target: str, reference: Reference) -> None:
    names = ("status_model", "metadata_field", "type_text", "items_none", "version_unknown")
    with _AsInternal(target).serving() as proxy:
        results = _results(proxy.target, reference, *names)
    assert set(_of(results, "fail")) == set(names) and "INTERNAL (oops), expected NOT_FOUND" in results["status_model"].seen


def _careless(method: str, request: Any, number: int) -> None:
    """Forgets what a request asks for beyond its inputs."""
    if method == "Predict":
        request.ClearField("output_filter")
        request.model_spec.ClearField("version")
        request.model_spec.ClearField("version_label")


def test_ignored_fields_fail(target: str, reference: Reference) -> None:
    with Proxy(target, before=_careless).serving() as proxy:
        results = _results(proxy.target, reference, "output_filter", "output_unknown", "version_unknown", "label_unknown", "version_pinned")
    assert set(_of(results, "fail")) == {"output_filter", "output_unknown", "version_unknown", "label_unknown"}


def test_labels_are_held_to_their_versions(servable: Servable, reference: Reference) -> None:
    with TfServing(servable, {"stable": 3}).serving() as server:
        results = _results(server.target, reference, "version_labels", labels={"stable": 2})
        unknown = _results(server.target, reference, "version_labels", labels={"canary": 3})
    assert results["version_labels"].seen == "label 'stable' was answered by version 3, expected 2"
    assert unknown["version_labels"].verdict == "fail" and "INVALID_ARGUMENT" in unknown["version_labels"].seen


def test_no_server_fails_every_check_that_could_be_made(reference: Reference) -> None:
    names = ("metadata", "serving_default", "items_none", "concurrent", "health")
    results = _results("127.0.0.1:1", dataclasses.replace(reference, recorded=()), *names)
    assert set(_of(results, "fail")) == set(names)


def test_time_that_is_over_fails() -> None:
    results = run_all([Check("a", "nothing", lambda target: "ran")], Target("127.0.0.1:1"), -1.0)
    assert results[0].verdict == "fail" and "not run" in results[0].seen


def test_table_and_json() -> None:
    results = [Result("a", "this", "fail", "that", 0.5), Result("bc", "x", "skip", "why", 0.0), Result("d", "x", "pass", "y", 0.25)]
    assert table(results).splitlines() == [
        "fail  a   that",
        "          expected: this",
        "skip  bc  why",
        "pass  d   y",
        "1 passed, 1 failed, 1 skipped in 0.8 s",
    ]
    found = content("host:1", "cvr", results)
    assert not found["passed"] and found["counts"] == {"pass": 1, "fail": 1, "skip": 1} and found["checks"][0]["seconds"] == 0.5


def test_the_command(target: str, exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "new" / "report.json"
    where = (f"--target={target}", f"--json={report}", f"--export={exported.base}")
    data = (f"--run={exported.run.folder}", f"--lists={exported.lists}", "--num_lists=2")
    assert run_main(command, *where, *data) == 0
    found = json.loads(report.read_text(encoding="utf-8"))
    assert found["passed"] and found["counts"]["pass"] == len(command.CHECKS) - 2 and found["target"] == target
    assert "0 failed, 2 skipped" in capsys.readouterr().out
    assert run_main(command, f"--target={target}", "--model_name=other", f"--json={report}", "--max_seconds=1") == 1
    assert not json.loads(report.read_text(encoding="utf-8"))["passed"]


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--version_labels=stable", "must be label:version"),
        ("--export=nowhere", "no model version under nowhere"),
        ("--tls_cert=me.pem", "needs its key"),
        ("--target=127.0.0.1:1", "no server answers at 127.0.0.1:1"),
    ],
)
def test_wrong_flags(flag: str, message: str) -> None:
    with pytest.raises(CvrError, match=message):
        run_main(command, flag)

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from export import retries
from export.client import Client, Options, RequestFailedError
from export.retries import Attempts, Budget, Retry
from tests.export.proxies import Proxy

Code = grpc.StatusCode
FAST = Retry(first_delay=0.001, longest_delay=0.004)
ITEMS = [{"item_id": "a"}, {"item_id": "b"}]


class _Error(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode, details: str = "") -> None:
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details


def _refusing(method: str, code: grpc.StatusCode, times: int) -> Callable[[str, Any, int], tuple[grpc.StatusCode, str] | None]:
    return lambda called, request, number: (code, "by the test") if called == method and number <= times else None


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED])
def test_safe_failures_are_sent_again(target: str, code: grpc.StatusCode) -> None:
    # The first Predict asks for the limits and is refused twice; the search is the fourth.
    with Proxy(target, _refusing("Predict", code, 2)).serving() as proxy, Client(proxy.target, options=Options(retry=FAST)) as client:
        assert len(client.rank({}, ITEMS)) == 2 and proxy.counts["Predict"] == 4


@pytest.mark.parametrize("code", [c for c in Code if c not in (Code.OK, Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED)])
def test_other_failures_are_not(code: grpc.StatusCode) -> None:
    retry = Retry()
    assert Attempts(retry, Budget(retry)).pause(_Error(code), 1e9) is None


def test_a_refused_call_is_made_once(target: str) -> None:
    for code in (Code.INTERNAL, Code.DEADLINE_EXCEEDED):
        with Proxy(target, _refusing("GetModelMetadata", code, 9)).serving() as proxy, Client(proxy.target) as client:
            with pytest.raises(RequestFailedError, match="by the test") as refused:
                client.rank({}, ITEMS)
            assert proxy.counts == {"GetModelMetadata": 1} and refused.value.code == code and refused.value.attempts == 1


def test_attempts_end(target: str) -> None:
    with Proxy(target, _refusing("GetModelMetadata", Code.UNAVAILABLE, 99)).serving() as proxy:
        with Client(proxy.target, options=Options(retry=FAST)) as client, pytest.raises(RequestFailedError, match="sent 4 times"):
            client.rank({}, ITEMS)
        assert proxy.counts["GetModelMetadata"] == 4


def test_too_large_messages_are_not_sent_again() -> None:
    retry = Retry()
    error = _Error(Code.RESOURCE_EXHAUSTED, "CLIENT: Sent message larger than max (99 vs. 9)")
    assert Attempts(retry, Budget(retry)).pause(error, 1e9) is None


def test_pauses_grow_to_the_longest_and_are_drawn_from_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[float, float]] = []
    monkeypatch.setattr(retries.random, "uniform", lambda low, high: drawn.append((low, high)) or high)
    retry = Retry(attempts=7)
    attempts = Attempts(retry, Budget(retry))
    pauses = [attempts.pause(_Error(Code.UNAVAILABLE), 1e9) for _ in range(7)]
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, None] and all(low == 0.0 for low, _ in drawn) and attempts.made == 7


def test_no_pause_goes_beyond_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries.random, "uniform", lambda low, high: high)
    attempts = Attempts(Retry(), Budget(Retry()))
    assert attempts.pause(_Error(Code.UNAVAILABLE), 0.05) is None and attempts.made == 1
    assert attempts.pause(_Error(Code.UNAVAILABLE), 0.06) == 0.05


def test_the_budget_is_shared_and_earned_back() -> None:
    retry = Retry(budget=2.0, earned=0.5)
    budget = Budget(retry)
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    budget.earn()
    assert not budget.spend()
    budget.earn()
    assert budget.spend() and not budget.spend()
    for _ in range(9):
        budget.earn()
    assert [budget.spend() for _ in range(3)] == [True, True, False]


def test_without_budget_an_error_stands() -> None:
    retry = Retry(budget=0.0)
    assert Attempts(retry, Budget(retry)).pause(_Error(Code.UNAVAILABLE), 1e9) is None

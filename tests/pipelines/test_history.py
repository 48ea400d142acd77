"""Behaviour sequences: strictly before the search, the latest first, against a reference in plain Python."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cvr.records import Histories
from cvr.schema import History
from cvr.transforms import PAD, UNSEEN, hash_strings
from pipelines.history import histories, with_unseen
from tests.pipelines.logs import T0, done, engagements, plan

PLAN = plan()
HISTORY = History(events=("click", "purchase"), length=3)


def _hash(text: str | None) -> int:
    return PAD if text is None else int(hash_strings([text]).numpy()[0])


def _of(
    events: list[dict[str, Any]], customers: list[str | None], times: list[int]
) -> list[list[tuple[int, int, float]]]:
    hashed = np.array([_hash(c) for c in customers], np.int64)
    found = histories(engagements(events, PLAN), hashed, T0 + np.array(times, np.int64), HISTORY, PLAN)
    rows = list(zip(found.item.tolist(), found.action.tolist(), found.age.tolist(), strict=True))
    ends = np.cumsum(found.lengths)
    return [rows[end - length : end] for end, length in zip(ends, found.lengths, strict=True)]


def test_latest_first_strictly_before_and_cut_to_the_length() -> None:
    events = [done("click", t, item) for t, item in ((1000, "a"), (2000, "b"), (3000, "c"), (4000, "d"), (5000, "e"))]
    events.append(done("purchase", 3500, "c"))
    one, two, other = _of(events, ["u", "u", "v"], [5000, 1000, 9000])
    assert one == [(_hash("d"), 4, 1.0), (_hash("c"), 5, 1.5), (_hash("c"), 4, 2.0)]
    assert two == [] and other == []


def test_an_event_at_or_after_the_search_changes_nothing() -> None:
    events = [done("click", 1000, "a")]
    later = [*events, done("click", 2000, "b"), done("purchase", 2001, "c")]
    assert _of(events, ["u"], [2000]) == _of(later, ["u"], [2000])


def test_a_list_without_a_customer_has_no_history() -> None:
    assert _of([done("click", 1, "a", customer=None)], [None], [500]) == [[]]


def test_no_lists() -> None:
    assert _of([done("click", 1, "a")], [], []) == []


EVENTS = st.lists(
    st.tuples(st.sampled_from(["click", "purchase"]), st.integers(0, 6), st.sampled_from("ab"), st.sampled_from("uv")),
    max_size=12,
)
LISTS = st.lists(st.tuples(st.sampled_from("uvw"), st.integers(0, 7)), max_size=4)


@settings(max_examples=80, deadline=None)
@given(EVENTS, LISTS)
def test_equals_the_reference(drawn: list[Any], lists: list[Any]) -> None:
    events = [done(event, time, item, customer) for event, time, item, customer in drawn]
    found = _of(events, [customer for customer, _ in lists], [time for _, time in lists])
    for (customer, time), rows in zip(lists, found, strict=True):
        before = [(t, ("click", "purchase").index(e), _hash(i)) for e, t, i, c in drawn if c == customer and t < time]
        expected = sorted(before, key=lambda r: (-r[0], r[1], -r[2]))[:3]
        assert [(i, a) for i, a, _ in rows] == [(i, 4 + a) for _, a, i in expected]
        np.testing.assert_allclose([age for _, _, age in rows], [(time - t) / 1000 for t, _, _ in expected], rtol=1e-6)


def test_unseen_lists_get_one_placeholder_event() -> None:
    found = Histories(np.array([7, 8, 9]), np.array([4, 4, 5]), np.array([1, 2, 3], np.float32), np.array([2, 0, 1]))
    changed = with_unseen(found, np.array([True, True, False]))
    assert changed.item.tolist() == [UNSEEN, UNSEEN, 9]
    assert changed.action.tolist() == [UNSEEN, UNSEEN, 5]
    assert changed.age.tolist() == [0.0, 0.0, 3.0]
    assert changed.lengths.tolist() == [1, 1, 1]
    assert with_unseen(found, np.zeros(3, bool)) is found

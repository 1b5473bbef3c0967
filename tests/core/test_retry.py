"""When a call is tried again: statuses, pauses, the budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openaiasync.core.policy.retry import (
    LONGEST_PAUSE,
    Budget,
    backoff,
    retryable_status,
    server_pause,
)

NOW = 1_700_000_000.0


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 507, 529])
def test_passing_troubles_are_retried(status: int) -> None:
    """Statuses that may go away by themselves are worth another try."""
    assert retryable_status(status, {}, None, None)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 501, 505])
def test_lasting_troubles_are_not(status: int) -> None:
    """The same request would fail again: a mistake of the caller, or what the server does not implement."""
    assert not retryable_status(status, {}, None, None)


def test_an_empty_quota_is_final() -> None:
    """429 with `insufficient_quota`, as code or as type, does not go away by waiting."""
    assert not retryable_status(429, {}, "insufficient_quota", None)
    assert not retryable_status(429, {}, None, "insufficient_quota")


def test_the_server_has_the_last_word() -> None:
    """`x-should-retry` wins over the status, both ways; nonsense in it is as if it were absent."""
    assert retryable_status(400, {"x-should-retry": "true"}, None, None)
    assert not retryable_status(503, {"x-should-retry": " False "}, None, None)
    assert retryable_status(503, {"x-should-retry": "perhaps"}, None, None)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:30 GMT"}, 10.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:00 GMT"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Tuesday, 14-Nov-23 22:13:30 GMT"}, 10.0),
        ({"retry-after": "Tue Nov 14 22:13:30 2023"}, 10.0),
        ({"retry-after": "Tue, 14 Nov 2023 23:13:30 +0100"}, 10.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:30"}, 10.0),
        ({"retry-after": "Thu, 31 Feb 2026 22:13:30 GMT"}, None),
        ({"retry-after": "Tue, 14 Nov 99999 22:13:30 GMT"}, None),
        ({"retry-after": "22:13:30"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "-inf"}, None),
        ({"retry-after": "Infinity"}, None),
        ({"retry-after": "1e999"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "1_0"}, None),
        ({"retry-after": "\u0663"}, None),
        ({"retry-after": "+5"}, None),
        ({"retry-after": "0x10"}, None),
        ({"retry-after": " 3 "}, 3.0),
        ({"retry-after": "3."}, 3.0),
        ({"retry-after-ms": "inf", "retry-after": "9"}, 9.0),
        ({"retry-after-ms": "-1", "retry-after": "9"}, 9.0),
        ({"retry-after-ms": "nan"}, None),
        ({"retry-after": "1e9"}, 1e9),
        ({"retry-after": "later"}, None),
        ({"retry-after": ""}, None),
    ],
)
def test_what_the_server_asks_for(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds, milliseconds and dates are understood; nonsense and the past are as if absent."""
    assert server_pause(headers, NOW) == seconds


@given(st.text(max_size=40))
def test_no_text_breaks_it(text: str) -> None:
    """Whatever a server writes, the answer is a pause or none."""
    pause = server_pause({"retry-after": text}, NOW)
    assert pause is None or pause >= 0


@given(st.integers(0, 1000))
def test_backoff_stays_in_bounds(retries: int) -> None:
    """Half a second doubled, up to 8 s, never less than half of that."""
    ceiling = min(LONGEST_PAUSE, 0.5 * 2 ** min(retries, 10))
    assert ceiling / 2 <= backoff(retries) <= ceiling


def test_a_dead_backend_sees_little_more_than_its_load() -> None:
    """Over 1,000 failing calls with any number of retries allowed each, the budget lets 100 through."""
    budget = Budget()
    retries = sum(budget.spend(timed_out=False) for _ in range(1000) for _ in range(5))
    assert retries == 100
    budget = Budget()
    assert sum(budget.spend(timed_out=True) for _ in range(1000)) == 50


def test_success_refills_up_to_the_brim() -> None:
    """Each success brings one token back, and never more than there were."""
    budget = Budget()
    budget.refill()
    assert budget.tokens == 500
    while budget.spend(timed_out=False):
        pass
    for _ in range(5):
        budget.refill()
    assert budget.spend(timed_out=False)
    assert not budget.spend(timed_out=False)

"""When a call is sent again: the whole policy as a table, statuses, pauses, the budget."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from openaiasync.core.policy.retry import (
    LONGEST_PAUSE,
    RETRY_COST,
    TIMEOUT_COST,
    Failure,
    GiveUp,
    Resend,
    Retry,
    RetryBudget,
    RetryFacts,
    backoff,
    decide,
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


def status(number: int, code: str | None = None, **fields: str) -> Failure:
    """An error status with these header fields."""
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    return Failure("status", number, headers, code)


TIMED_OUT = Failure("timeout", clock="start", sent=True)
CUT = Failure("eof", sent=True, answered=True)
IDLE = Failure("reset", reused=True, sent=True)
AGAIN = Retry(0.375, RETRY_COST)  # 0.5 s, half of the jitter


@pytest.mark.parametrize(
    ("failure", "facts", "decision"),
    [
        # What a server asks to be sent again, and what it does not.
        (status(503), {}, AGAIN),
        (status(503), {"retries": 1}, Retry(0.75, RETRY_COST)),
        (status(429, retry_after="7"), {}, Retry(7.0, RETRY_COST)),
        (status(429, retry_after="0"), {}, Retry(0.0, RETRY_COST)),
        (status(429, retry_after="120"), {}, Retry(120.0, RETRY_COST)),
        (status(429, retry_after="121"), {}, GiveUp()),
        (status(429, retry_after="-3"), {}, AGAIN),
        (status(429, "insufficient_quota", retry_after="1"), {}, GiveUp()),
        (status(400), {}, GiveUp()),
        (status(400, x_should_retry="true"), {}, AGAIN),
        (status(503, x_should_retry="false"), {}, GiveUp()),
        (status(500), {"hopeless": True}, GiveUp()),
        # Exchanges that broke.
        (Failure("refused"), {}, AGAIN),
        (Failure("dns"), {}, AGAIN),
        (CUT, {}, AGAIN),
        (Failure("proxy"), {}, AGAIN),
        *[(Failure(kind), {}, GiveUp()) for kind in ("closed", "protocol", "stuck", "tls", "upload", "answer")],
        # Timeouts: what was sent may be charged twice.
        (Failure("timeout", clock="connect"), {}, Retry(0.375, TIMEOUT_COST)),
        (TIMED_OUT, {}, GiveUp()),
        (TIMED_OUT, {"repeat_timed_out": True}, Retry(0.375, TIMEOUT_COST)),
        (Failure("timeout", clock="queue"), {}, GiveUp()),
        # An idle connection that the server had closed: once a call, and no retry.
        (IDLE, {}, Resend("connection")),
        (IDLE, {"max_retries": 0, "tokens": 0}, Resend("connection")),
        (IDLE, {"may_reconnect": False}, AGAIN),
        (replace(IDLE, answered=True), {}, AGAIN),
        (replace(IDLE, reused=False), {}, AGAIN),
        # What was changed is sent again at once, whatever the status and the limits are.
        (status(401), {"token_renewed": True, "max_retries": 0}, Resend("token")),
        (status(401), {}, GiveUp()),
        (status(500), {"default_removed": True, "max_retries": 0, "tokens": 0}, Resend("default")),
        (Failure("answer"), {"default_removed": True}, Resend("default")),
        # The limits.
        (status(503), {"max_retries": 0}, GiveUp()),
        (status(503), {"retries": 2}, GiveUp()),
        (status(503), {"left": 0.376}, AGAIN),
        (status(503), {"left": 0.375}, GiveUp()),
        (status(503), {"tokens": RETRY_COST}, AGAIN),
        (status(503), {"tokens": RETRY_COST - 1}, GiveUp()),
        (Failure("timeout", clock="connect"), {"tokens": RETRY_COST}, GiveUp()),
        *[(failure, {"rewindable": False}, GiveUp()) for failure in (status(503), CUT, IDLE, Failure("refused"))],
    ],
)
def test_the_policy(failure: Failure, facts: dict[str, Any], decision: object) -> None:
    """Each kind of failure under each circumstance that counts: what follows, after how long, at what cost."""
    assert decide(failure, RetryFacts(**{"now": NOW, "random": 0.5, **facts})) == decision


@given(st.integers(0, 1000), st.floats(0, 1))
def test_backoff_stays_in_bounds(retries: int, number: float) -> None:
    """Half a second doubled, up to 8 s, never less than half of that, more with a larger random number."""
    ceiling = min(LONGEST_PAUSE, 0.5 * 2 ** min(retries, 10))
    assert ceiling / 2 <= backoff(retries, number) <= backoff(retries, 1.0) == ceiling


def retries_of(failure: Failure, calls: int) -> int:
    """How many retries the budget of one server allows to so many calls that all fail, with any number each."""
    budget, count = RetryBudget(), 0
    for _ in range(calls):
        match decide(failure, RetryFacts(NOW, 0.5, tokens=budget.tokens)):
            case Retry(_, cost):
                budget.spend(cost)
                count += 1
            case _:
                pass
    return count


def test_a_dead_server_sees_little_more_than_its_load() -> None:
    """Over 1,000 failing calls the budget lets 100 retries through, after timeouts 50."""
    assert retries_of(status(503), 1000) == 100
    assert retries_of(Failure("timeout", clock="connect"), 1000) == 50


def test_success_refills_up_to_the_brim() -> None:
    """Each success brings one token back, and never more than there were; what is spent never goes below nothing."""
    budget = RetryBudget()
    budget.refill()
    assert budget.tokens == 500
    budget.spend(501)
    assert budget.tokens == 0
    for _ in range(5):
        budget.refill()
    assert budget.tokens == 5

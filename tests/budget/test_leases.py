"""The leases of a worker: over any backend, for plain calls and runs, with a budget that fails in every way."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from typing import Any

import pytest

from conftest import run
from openaiasync import Client, ClientClosedError, ConfigurationError, Limits, SharedLimitsError
from openaiasync.budget.leases import Leases, open_budget
from openaiasync.core.policy.shared_quota import Grant, LeaseRequest, Quota
from openaiasync.engine.paced import PacedCalls
from scripted import CHAT, json_answer, scripted


class FakeBudget:
    """A budget that keeps its quota here, and fails as told by `fault`: an error, or seconds that an answer takes."""

    patience = 5.0

    def __init__(self) -> None:
        self.quota = Quota()
        self.fault: Exception | float = 0.0
        self.requests: list[LeaseRequest] = []
        self.dropped = self.closed = 0

    async def lease(self, request: LeaseRequest) -> Grant:
        self.requests.append(request)
        if isinstance(self.fault, Exception):
            raise self.fault
        await asyncio.sleep(self.fault)
        return self.quota.lease(asyncio.get_running_loop().time() + 1e6, request)

    def drop(self) -> None:
        self.dropped += 1

    async def aclose(self) -> None:
        self.closed += 1


class Rows:
    """A lessee that sends whatever it may, at once."""

    def __init__(self, leases: Leases, wanted: float = 20.0, lasting: bool = True) -> None:
        self.leases, self.wanted, self.lasting = leases, wanted, lasting
        self.sent: list[float] = []

    def rows(self) -> float:
        return self.wanted

    def granted(self) -> None:
        share, loop = self.leases.share, self.leases.loop
        while self.wanted and share.due <= loop.time():
            share.requests.book(loop.time(), 1.0)
            share.tokens.book(loop.time(), 10.0)
            self.sent.append(loop.time())
        if self.wanted and share.due < math.inf:
            loop.call_at(share.due, self.granted)

    def rate(self, since: float, until: float) -> float:
        return sum(since <= at < until for at in self.sent) / (until - since)


@pytest.mark.parametrize("fault", [SharedLimitsError("gone"), ConfigurationError("no longer permitted"), 60.0])
def test_an_outage_never_stops_a_worker(fault: Exception | float, caplog: pytest.LogCaptureFixture) -> None:
    """With a budget that refuses, or never answers, a worker continues at 80 % of its share; it says so once, and comes
    back by itself."""
    caplog.set_level(logging.INFO, "openaiasync")

    async def main() -> None:
        budget = FakeBudget()
        leases = Leases(budget, 6000.0, None)
        await leases.join()
        rows = Rows(leases)
        leases.attach(rows)
        await asyncio.sleep(3.0)
        now = leases.loop.time()
        assert rows.rate(now - 2.0, now) == pytest.approx(100, rel=0.05)
        budget.fault = fault
        await asyncio.sleep(5.0)
        now = leases.loop.time()
        assert rows.rate(now - 4.0, now) == pytest.approx(80, rel=0.05)
        budget.fault = 0.0
        await asyncio.sleep(3.0)
        now = leases.loop.time()
        assert rows.rate(now - 2.0, now) == pytest.approx(100, rel=0.05)
        rows.wanted = 0.0
        await leases.release(rows)
        assert len(budget.requests) <= 10 * 11
        assert (budget.requests[-1].event, budget.closed) == ("leave", 1)

    run(main())
    said = [record.getMessage() for record in caplog.records]
    assert sum("not available" in text for text in said) == 1
    assert sum("available again" in text for text in said) == 1


def test_a_slow_store_costs_no_rate() -> None:
    """Leases that take 100 ms each are asked for ahead of need: at least 80 % of the rate is used."""

    async def main() -> None:
        budget = FakeBudget()
        leases = Leases(budget, 6000.0, None)
        await leases.join()
        budget.fault = 0.1
        rows = Rows(leases)
        leases.attach(rows)
        await asyncio.sleep(6.0)
        now = leases.loop.time()
        assert rows.rate(now - 4.0, now) >= 80
        rows.wanted = 0.0
        await leases.release(rows)

    run(main())


def test_a_worker_without_rows_leaves() -> None:
    """Plain calls that have ended give their share back within a second, and the connection is closed; later calls join
    again."""

    async def main() -> None:
        budget = FakeBudget()
        leases = Leases(budget, 6000.0, None)
        await leases.join()
        rows = Rows(leases, lasting=False)
        for count in (1, 2):
            rows.wanted = 20.0
            leases.attach(rows)
            await asyncio.sleep(1.0)
            rows.wanted = 0.0
            await asyncio.sleep(1.0)
            assert budget.requests[-1].event == "leave"
            assert budget.closed == count
            assert len(asyncio.all_tasks()) == 1
        assert len(rows.sent) == pytest.approx(200, rel=0.2)

    run(main())


def test_a_join_that_is_not_answered_is_an_error() -> None:
    """The first lease is given five seconds; then there is an error that says what happened."""

    async def main() -> None:
        budget = FakeBudget()
        budget.fault = 60.0
        leases = Leases(budget, 6000.0, None)
        with pytest.raises(SharedLimitsError, match="did not answer within 5 s") as caught:
            await leases.join()
        assert caught.value.retryable
        assert budget.dropped == 1

    run(main())


def calls(limits: Callable[[], Limits], count: int, clients: int, rows: int = 0) -> list[float]:
    """The times at which a server gets `count` plain calls of each client, and `rows` rows of a run beside them."""
    at: list[float] = []

    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        at.append(asyncio.get_running_loop().time())
        writer.write(json_answer(CHAT))

    async def main() -> None:
        async with scripted(script) as server:
            each = [Client(api_key="k", api_base=server.url, http_max_in_flight=None, limits=limits())
                    for _ in range(clients)]  # fmt: skip
            work: list[Any] = [one.chat("hi", model="m") for one in each for _ in range(count)]
            if rows:
                work.append(each[0].map([f"row {n}" for n in range(rows)], model="m"))
            await asyncio.gather(*work)
            for one in each:
                await one.aclose()

    run(main())
    return at


def test_plain_calls_share_a_budget() -> None:
    """Clients with separate `Limits` of one name send no more than the limit, together, and all of it."""
    at = calls(lambda: Limits(rpm=1200, shared="local:plain"), 40, 2)
    assert len(at) == 80
    assert 3.4 <= at[-1] - at[0] <= 4.4  # 80 at 20 a second, 0.3 s of them ahead


def test_plain_calls_and_a_run_share_one_limits() -> None:
    """Two clients and a run with one `Limits` object are one worker, and stay within the limit."""
    limits = Limits(rpm=1200, shared="local:both")
    at = calls(lambda: limits, 20, 2, rows=40)
    assert len(at) == 80
    assert 3.4 <= at[-1] - at[0] <= 4.6


def test_sequential_calls_reach_a_high_rate() -> None:
    """A caller that awaits one call after another is not held to one call a lease."""

    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer(CHAT))

    async def main() -> float:
        async with scripted(script) as server:
            limits = Limits(rpm=60_000, shared="local:sequential")
            async with Client(api_key="k", api_base=server.url, limits=limits) as client:
                for _ in range(50):
                    await client.chat("hi", model="m")
                began = asyncio.get_running_loop().time()
                for _ in range(200):
                    await client.chat("hi", model="m")
                return asyncio.get_running_loop().time() - began

    assert run(main()) <= 2.0


def test_calls_are_sent_in_order() -> None:
    """Calls that wait for a slice are sent first come, first served, also after one of them is cancelled."""
    order: list[str] = []

    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        order.append(seen.json()["messages"][-1]["content"])
        writer.write(json_answer(CHAT))

    async def main() -> None:
        async with scripted(script) as server:
            limits = Limits(rpm=600, shared="local:order")
            async with Client(api_key="k", api_base=server.url, limits=limits) as client:
                tasks = [asyncio.create_task(client.chat(str(n), model="m")) for n in range(20)]
                await asyncio.sleep(0.2)
                tasks[10].cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    run(main())
    assert order == [str(n) for n in range(20) if n != 10]


def test_a_closed_client_ends_its_calls_and_not_those_of_others() -> None:
    """Of two clients with one `Limits`, closing one ends its waiting calls at once; the other one's are sent."""

    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer(CHAT))

    async def main() -> None:
        async with scripted(script) as server:
            limits = Limits(rpm=120, shared="local:closed")
            one, other = (Client(api_key="k", api_base=server.url, limits=limits) for _ in range(2))
            ended = [asyncio.create_task(one.chat("hi", model="m")) for _ in range(5)]
            sent = [asyncio.create_task(other.chat("hi", model="m")) for _ in range(5)]
            await asyncio.sleep(0.3)
            await one.aclose()
            found = await asyncio.gather(*ended, return_exceptions=True)
            assert sum(isinstance(error, ClientClosedError) for error in found) >= 3
            await asyncio.gather(*sent)
            await other.aclose()

    run(main())


def test_each_event_loop_is_a_worker() -> None:
    """One `Limits` serves one event loop after another."""
    limits = Limits(rpm=6000, shared="local:loops")
    for _ in range(2):
        assert len(calls(lambda: limits, 5, 1)) == 5


def test_the_expected_wait_is_finite() -> None:
    """A front that refuses requests while calls wait gets a number, also before the first lease."""

    async def main() -> None:
        pace = PacedCalls(Limits(rpm=60, shared="local:wait"))
        assert pace.expected_wait(asyncio.get_running_loop()) < 1.0

    run(main())


@pytest.mark.parametrize(
    ("url", "sign"),
    [
        ("redis://localhost/0", "name"),
        ("redis://localhost/0?name=", "name"),
        ("redis://localhost:port/0?name=n", "cannot be used"),
        ("redis://u:hidden-word@localhost/0?name=n&no_such_option=1", "cannot be used"),
        ("http://localhost/?name=n", "redis://"),
        ("", "redis://"),
        ("ray://a/b", "ray://NAME"),
    ],
)
def test_a_bad_url_is_an_error_at_construction(url: str, sign: str) -> None:
    """It says what a URL looks like, and never shows a password."""
    for make in (lambda: Client(api_key="k", api_base="http://x", limits=Limits(shared=url)), lambda: open_budget(url)):
        with pytest.raises(ConfigurationError, match=sign) as caught:
            make()
        assert "hidden-word" not in f"{caught.value}{caught.value!r}{caught.value.__cause__!r}"


def test_limits_do_not_show_the_url() -> None:
    """Neither the repr of `Limits` nor that of anything with them shows the password."""
    limits = Limits(rpm=1, shared="redis://u:hidden-word@localhost/0?name=n")
    assert "hidden-word" not in f"{limits!r} {vars(limits)!r}"

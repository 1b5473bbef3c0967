"""Places in flight: first come, first served, none lost, no line that can never move."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from openaiasync.core.limits import Deadlock, Limits, Places
from openaiasync.errors import ConfigurationError


def test_first_come_first_served() -> None:
    """A place goes to who has waited longest, and nobody overtakes."""
    places: Places[str] = Places(1)
    assert places.take("a")
    assert not places.take("b")
    places.queue("b", "ticket b")
    places.queue("c", "ticket c")
    assert places.release("a") == ("ticket b", "b")
    assert not places.take("d"), "the place was passed on, it is not free"
    assert places.release("b") == ("ticket c", "c")
    assert places.release("c") is None
    assert places.take("d")


def test_unbounded_never_waits() -> None:
    """Without a limit every owner gets a place."""
    places: Places[int] = Places(None)
    assert all(places.take("one") for _ in range(10_000))
    assert places.used == 10_000
    for _ in range(10_000):
        assert places.release("one") is None
    assert places.used == 0


def test_withdrawing_leaves_the_line() -> None:
    """A cancelled waiter is skipped; one that was given its place already has to release it."""
    places: Places[str] = Places(1)
    places.take("a")
    places.queue("b", "b")
    places.queue("c", "c")
    assert places.withdraw("b")
    assert places.release("a") == ("c", "c")
    assert not places.withdraw("c")
    assert places.release("c") is None
    assert (places.used, places.waiting) == (0, 0)


def test_a_line_that_can_never_move_is_refused() -> None:
    """All places held by one owner that waits, or by several that all wait: `Deadlock`."""
    places: Places[str] = Places(2)
    places.take("a")
    places.take("a")
    with pytest.raises(Deadlock):
        places.queue("a", "nested")
    places.release("a")
    places.take("b")
    places.queue("a", "nested a")
    with pytest.raises(Deadlock):
        places.queue("b", "nested b")
    assert places.withdraw("nested a")
    places.queue("b", "nested b")


def test_strangers_may_wait() -> None:
    """As long as one holder does not wait, the line moves some day."""
    places: Places[str] = Places(2)
    places.take("a")
    places.take("b")
    places.queue("a", "nested")
    places.queue("c", "c")
    assert places.release("b") == ("nested", "a")


class Traffic(RuleBasedStateMachine):
    """Any order of arrivals, departures and cancellations keeps the books straight."""

    def __init__(self) -> None:
        super().__init__()
        self.places: Places[int] = Places(3)
        self.holding: list[str] = []
        self.waiting: list[tuple[int, str]] = []
        self.next = 0

    @rule(owner=st.sampled_from("abcde"))
    def arrive(self, owner: str) -> None:
        if self.places.take(owner):
            assert len(self.holding) < 3
            assert not self.waiting
            self.holding.append(owner)
            return
        self.next += 1
        stuck = {name for _, name in self.waiting} | {owner}
        if set(self.holding) <= stuck:
            with pytest.raises(Deadlock):
                self.places.queue(owner, self.next)
        else:
            self.places.queue(owner, self.next)
            self.waiting.append((self.next, owner))

    @precondition(lambda self: self.holding)
    @rule(data=st.data())
    def depart(self, data: st.DataObject) -> None:
        owner = self.holding.pop(data.draw(st.integers(0, len(self.holding) - 1)))
        turn = self.places.release(owner)
        if self.waiting:
            assert turn == self.waiting[0]
            self.holding.append(self.waiting.pop(0)[1])
        else:
            assert turn is None

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        ticket, _ = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
        assert self.places.withdraw(ticket)

    @invariant()
    def books(self) -> None:
        assert self.places.used == len(self.holding) <= 3
        assert self.places.waiting == len(self.waiting)


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_limits_say_what_they_cannot_do_yet() -> None:
    """Rates are refused clearly instead of being ignored."""
    assert Limits(max_in_flight=3).max_in_flight == 3
    for wrong in ({"rpm": 10}, {"tpm": 10}, {"max_in_flight": 0}, {"max_in_flight": True}):
        with pytest.raises(ConfigurationError):
            Limits(**wrong)

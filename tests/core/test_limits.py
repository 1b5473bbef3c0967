"""Slots in flight: first come, first served, none lost; who waits for ever is told."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from openaiasync.core.policy.limits import (
    Limits,
    Permit,
    SlotQueue,
    Waiter,
    stuck,
)
from openaiasync.errors import ConfigurationError


def test_first_come_first_served() -> None:
    """A slot goes to who has waited longest, and nobody overtakes."""
    slots: SlotQueue[str] = SlotQueue(1)
    a = slots.try_acquire("a")
    assert a is not None
    assert slots.try_acquire("b") is None
    b = slots.enqueue("b", "ticket b")
    c = slots.enqueue("c", "ticket c")
    assert slots.release(a) is b
    assert b.permit is not None
    assert slots.try_acquire("d") is None, "the slot was passed on, it is not free"
    assert slots.release(b.permit) is c
    assert c.permit is not None
    assert slots.release(c.permit) is None
    assert slots.try_acquire("d") is not None


def test_those_who_come_back_go_first_in_their_order() -> None:
    """A call whose retry is due goes before all that were never sent, and behind those whose retry was due before."""
    slots: SlotQueue[str] = SlotQueue(1)
    permit = slots.try_acquire("a")
    line = [slots.enqueue(name, name, returning=name.isupper()) for name in ("b", "C", "d", "E")]
    order: list[object] = []
    while permit is not None:
        waiter = slots.release(permit)
        permit = None if waiter is None else waiter.permit
        order += [] if waiter is None else [waiter.owner]
    assert order == ["C", "E", "b", "d"]
    assert [waiter.owner for waiter in line] == ["b", "C", "d", "E"]


def test_releasing_is_idempotent() -> None:
    """A permit that is released twice frees one slot; one from before a `reset` frees none."""
    slots: SlotQueue[str] = SlotQueue(2)
    one, two = slots.try_acquire("a"), slots.try_acquire("b")
    assert one is not None
    assert two is not None
    assert [slots.release(one), slots.release(one)] == [None, None]
    assert slots.used == 1
    slots.reset()
    assert [slots.try_acquire("c") is None, slots.try_acquire("c") is None] == [False, False]
    assert slots.release(two) is None
    assert slots.used == 2


def test_unbounded_never_waits() -> None:
    """Without a limit every owner gets a slot."""
    slots: SlotQueue[int] = SlotQueue(None)
    permits = [slots.try_acquire("one") for _ in range(10_000)]
    assert slots.used == slots.held_by("one") == 10_000
    for permit in permits:
        assert permit is not None
        assert slots.release(permit) is None
    assert slots.used == 0


def test_withdrawing_leaves_the_line() -> None:
    """A cancelled waiter is skipped; one that was given its slot already has to release it."""
    slots: SlotQueue[str] = SlotQueue(1)
    a = slots.try_acquire("a")
    assert a is not None
    b, c = slots.enqueue("b", "b"), slots.enqueue("c", "c")
    assert slots.withdraw(b)
    assert slots.release(a) is c
    assert not slots.withdraw(c)
    assert c.permit is not None
    assert slots.release(c.permit) is None
    assert (slots.used, slots.waiting) == (0, 0)


class Held:
    """Something that is held by these."""

    def __init__(self, *owners: object) -> None:
        self.owners = owners

    def holders(self) -> tuple[object, ...]:
        return self.owners


def nobody(_: AbstractSet[object]) -> AbstractSet[object]:
    return frozenset()


def test_stuck_is_who_waits_for_the_stuck_alone() -> None:
    """Cycles, also over two resources, and waiters behind them; not waiters for an owner that can continue."""
    one = Held("a", "b")
    assert stuck({"a": one, "b": one, "c": one}, nobody) == {"a", "b", "c"}
    assert stuck({"a": one, "c": one}, nobody) == set(), "b can go on"
    assert stuck({"a": Held("b"), "b": Held("a"), "c": Held("a", "d")}, nobody) == {"a", "b"}
    assert stuck({"a": Held("b"), "b": Held("c"), "c": Held("d")}, nobody) == set()
    assert stuck({"a": Held(None)}, nobody) == set(), "who holds it is not known"
    assert stuck({"a": Held()}, nobody) == set(), "nobody holds it"


def test_a_parent_is_blocked_by_its_child() -> None:
    """An owner that does not wait itself, and cannot go on before one who does, frees nothing."""

    def parent_of(tasks: AbstractSet[object]) -> AbstractSet[object]:
        return {"parent"} if "child" in tasks else frozenset()

    assert stuck({"child": Held("parent")}, parent_of) == {"child"}
    assert stuck({"other": Held("parent")}, parent_of) == set()


class Traffic(RuleBasedStateMachine):
    """Any order of arrivals, departures, pauses, transfers and cancellations keeps the books straight."""

    def __init__(self) -> None:
        super().__init__()
        self.slots: SlotQueue[int] = SlotQueue(3)
        self.holding: list[Permit] = []
        self.owners: dict[Permit, str] = {}
        self.waiting: list[Waiter[int]] = []
        self.returning: list[Waiter[int]] = []
        self.paused: list[str] = []
        self.gone: list[Permit] = []
        self.next = 0

    def hold(self, permit: Permit, owner: str) -> None:
        self.holding.append(permit)
        self.owners[permit] = owner

    def enqueue(self, owner: str, *, returning: bool) -> None:
        self.next += 1
        waiter = self.slots.enqueue(owner, self.next, returning=returning)
        (self.returning if returning else self.waiting).append(waiter)

    @rule(owner=st.sampled_from("abcde"))
    def arrive(self, owner: str) -> None:
        permit = self.slots.try_acquire(owner)
        if permit is None:
            self.enqueue(owner, returning=False)
        else:
            assert self.slots.waiting == 0
            self.hold(permit, owner)

    def release(self, permit: Permit) -> str:
        owner = self.owners.pop(permit)
        self.gone.append(permit)
        turn = self.slots.release(permit)
        line = self.returning or self.waiting
        if line:
            first = line.pop(0)
            assert turn is first
            assert first.permit is not None
            assert first.permit.owner == first.owner
            self.hold(first.permit, str(first.owner))
        else:
            assert turn is None
        return owner

    @precondition(lambda self: self.holding)
    @rule(data=st.data())
    def depart(self, data: st.DataObject) -> None:
        self.release(self.holding.pop(data.draw(st.integers(0, len(self.holding) - 1))))

    @precondition(lambda self: self.holding)
    @rule(data=st.data())
    def pause(self, data: st.DataObject) -> None:
        permit = self.holding.pop(data.draw(st.integers(0, len(self.holding) - 1)))
        self.paused.append(self.release(permit))

    @precondition(lambda self: self.paused)
    @rule()
    def resume(self) -> None:
        owner = self.paused.pop()
        permit = self.slots.try_acquire(owner)
        if permit is None:
            self.enqueue(owner, returning=True)
        else:
            self.hold(permit, owner)

    @precondition(lambda self: self.holding)
    @rule(data=st.data(), owner=st.sampled_from("abcde"))
    def transfer(self, data: st.DataObject, owner: str) -> None:
        permit = data.draw(st.sampled_from(self.holding))
        self.slots.transfer(permit, owner)
        self.owners[permit] = owner

    @precondition(lambda self: self.gone)
    @rule(data=st.data())
    def release_again(self, data: st.DataObject) -> None:
        assert self.slots.release(data.draw(st.sampled_from(self.gone))) is None

    @precondition(lambda self: self.waiting or self.returning)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        waiter = data.draw(st.sampled_from([*self.waiting, *self.returning]))
        (self.waiting if waiter in self.waiting else self.returning).remove(waiter)
        assert self.slots.withdraw(waiter)

    @rule()
    def fork(self) -> None:
        self.slots.reset()
        self.gone += self.holding
        self.holding, self.waiting, self.returning, self.owners = [], [], [], {}

    @invariant()
    def books(self) -> None:
        assert self.slots.used == len(self.holding) <= 3
        assert self.slots.waiting == len(self.waiting) + len(self.returning)
        for owner in "abcde":
            assert self.slots.held_by(owner) == list(self.owners.values()).count(owner)

    @invariant()
    def verdict(self) -> None:
        """An owner is stuck exactly if every slot is held by owners that wait."""
        line = {waiter.owner for waiter in (*self.waiting, *self.returning)}
        held = Held(*(permit.owner for permit in self.slots.held))
        doomed = bool(held.owners) and set(held.owners) <= line
        assert stuck(dict.fromkeys(line, held), nobody) == (line if doomed else set())


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_limits_refuse_what_is_no_limit() -> None:
    """Numbers above 0 are limits, nothing else is."""
    assert Limits(max_in_flight=3).max_in_flight == 3
    assert (Limits(rpm=60, tpm=0.5).rpm, Limits(tpm=0.5).tpm) == (60, 0.5)
    wrongs: list[dict[str, float]] = [{"rpm": 0}, {"tpm": -1}, {"rpm": True}, {"tpm": float("nan")}]
    for wrong in (*wrongs, {"rpm": float("inf")}, {"max_in_flight": 0}, {"max_in_flight": True}):
        with pytest.raises(ConfigurationError):
            Limits(**wrong)

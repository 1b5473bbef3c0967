"""Runs a module's scenarios side by side in one event loop, and reports each as a test of its own name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import pytest

from conftest import run

from .invariants import LogText
from .places import release
from .scenario import KEY, Played, Scenario, play

__all__ = ["REGISTERED", "as_test"]

TOGETHER = 24
REGISTERED: list[Scenario] = []  # of all modules that were imported; the torture test draws from them


def as_test(scenarios: Iterable[Scenario], together: int = TOGETHER) -> Callable[..., None]:
    """A parametrised test. All scenarios that were selected run at the first of them, so many at a time."""
    table = {scenario.name: scenario for scenario in scenarios}
    REGISTERED.extend(table.values())
    played: dict[str, Played] = {}

    @pytest.mark.parametrize("name", list(table))
    def test(name: str, request: pytest.FixtureRequest) -> None:
        if name not in played:
            function = request.function
            chosen = [item for item in request.session.items if getattr(item, "function", None) is function]
            names = {item.callspec.params["name"] for item in chosen} | {name}
            played.update(run(_play([table[one] for one in table if one in names], together), timeout=50))
        assert not played[name].problems, "\n".join(played[name].problems)

    test.__doc__ = "Every scenario ends as its table says, in its time, and leaves nothing behind."
    return test


async def _play(scenarios: list[Scenario], together: int) -> dict[str, Played]:
    room = asyncio.Semaphore(together)

    async def one(scenario: Scenario) -> Played:
        async with room:
            return await play(scenario)

    with LogText() as log:
        try:
            results = await asyncio.gather(*map(one, scenarios))
        finally:
            release()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        tasks = [repr(task) for task in others if "openaiasync" in repr(task.get_coro())]
    played = dict(zip((scenario.name for scenario in scenarios), results, strict=True))
    whole = [f"tasks are left: {tasks}"] if tasks else []
    whole += [f"the key is in the log: {line}" for line in log.lines if KEY in line][:3]
    for result in results:
        result.problems += whole
    return played

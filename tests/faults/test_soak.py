"""Long runs: mixed calls, cancels and faults for ten minutes; what is held is sampled, plotted, and must stay flat.

Run by hand: ``pytest -m soak tests/faults/test_soak.py`` (OPENAIASYNC_SOAK: seconds, 600; OPENAIASYNC_SOAK_OUT: the
folder for ``soak.svg`` and ``soak.csv``, the present one).
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
from pathlib import Path
from typing import Any

import pytest

from conftest import run

from .invariants import at_rest
from .plot import Sample, as_csv, as_svg
from .traffic import Tally, chaos

SECONDS = float(os.environ.get("OPENAIASYNC_SOAK", "600"))
OUT = Path(os.environ.get("OPENAIASYNC_SOAK_OUT", "."))


def descriptors() -> int:
    """Open file descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def resident() -> int:
    """Resident memory in KB."""
    text = Path("/proc/self/statm").read_text()
    return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def sample(client: Any, tally: Tally, began: float) -> Sample:
    shared = client._calls.shared
    pools = [transport._pool for transport in shared._open.transports.values() if transport._pool is not None]
    return Sample(
        seconds=asyncio.get_running_loop().time() - began,
        descriptors=descriptors(),
        tasks=len(asyncio.all_tasks()),
        resident=resident(),
        connections=sum(len(pool._connections) for pool in pools),
        places=shared.limiter.used,
        waiting=shared.limiter.waiting,
        calls=tally.total,
    )


async def caller(client: Any, tally: Tally, stop: asyncio.Event, dice: random.Random) -> None:
    """Calls of all kinds; one in ten is cancelled at a random instant."""
    while not stop.is_set():
        task = asyncio.create_task(tally.stream(client) if dice.random() < 0.3 else tally.chat(client))
        if dice.random() < 0.1:
            asyncio.get_running_loop().call_later(dice.random() * 0.05, task.cancel)
        await asyncio.wait([task])


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="samples are read from /proc")
def test_what_is_held_stays_flat() -> None:
    """Descriptors, tasks, memory and the pool's counters at the end are what they were after the first quarter."""
    samples: list[Sample] = []
    tally = Tally()

    async def main() -> None:
        began = asyncio.get_running_loop().time()
        async with chaos(17, 0.06) as (client, _, server):
            stop = asyncio.Event()
            callers = [asyncio.create_task(caller(client, tally, stop, random.Random(seed))) for seed in range(48)]
            while asyncio.get_running_loop().time() - began < SECONDS:
                await asyncio.sleep(max(0.25, SECONDS / 400))
                gc.collect()
                samples.append(sample(client, tally, began))
            stop.set()
            await asyncio.gather(*callers)
            assert not at_rest(client)
        await server.settled(0)

    run(main(), timeout=SECONDS + 200)
    (OUT / "soak.csv").write_text(as_csv(samples))
    (OUT / "soak.svg").write_text(as_svg(samples))
    assert not tally.lies, tally.lies[:5]
    assert tally.ends["success"] > 0.8 * tally.total
    early, late = samples[len(samples) // 4 : len(samples) // 2], samples[-len(samples) // 4 :]
    for name, slack in (("descriptors", 8), ("tasks", 8), ("connections", 4), ("resident", 4_000 + SECONDS * 5)):
        before = max(getattr(one, name) for one in early)
        after = sorted(getattr(one, name) for one in late)[len(late) // 2]
        assert after <= before + slack, f"{name} grew from {before} to {after}"

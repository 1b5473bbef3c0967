"""The standing proof: whatever is mixed with whatever fault, nothing is lost, leaks, hangs, blocks or shows a secret.

``pytest -m torture tests/faults/test_torture.py -s``; OPENAIASYNC_TORTURE: seconds (60), OPENAIASYNC_TORTURE_SEED: the
seed that a failure printed; OPENAIASYNC_TORTURE_WITHOUT: names of operations, with commas between, to leave out.
"""

from __future__ import annotations

import gc
import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from conftest import run

from .harness import REGISTERED
from .invariants import LogText
from .scenario import Gives
from .torture import (
    KEY,
    CallbackTimes,
    ServerProcess,
    Victim,
    World,
    answer_faults,
    checks_after,
    client_of,
    open_descriptors,
    round_of,
    warm_up,
)
from .torture_server import by_call

SECONDS = float(os.environ.get("OPENAIASYNC_TORTURE", "60"))
SEED = int(os.environ.get("OPENAIASYNC_TORTURE_SEED") or time.time_ns() % 1_000_000_000)
ROUND = 6.0  # seconds


@pytest.mark.torture
@pytest.mark.timeout(SECONDS * 2 + 300)
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="what is open is read from /proc")
def test_torture(tmp_path: Path) -> None:
    """Rounds of operations, faults, kills and cancels; after each all promises are looked at."""
    print(f"\nOPENAIASYNC_TORTURE_SEED={SEED} OPENAIASYNC_TORTURE={SECONDS:g}")
    dice = random.Random(SEED)
    by_call()
    values: dict[str, set[str] | None] = {"echo": set()}
    for one in REGISTERED:  # what a success may say; one name may stand in several tables
        says = one.expect.value if isinstance(one.expect, Gives) else ""
        if isinstance(one.expect, Gives) and not isinstance(says, str):
            values[one.name] = None
        elif (known := values.setdefault(one.name, set())) is not None and isinstance(one.expect, Gives):
            known.add(says)
    (tmp_path / "upload.bin").write_bytes(b"a" * 700_000)
    ends: Counter[str] = Counter()
    times = CallbackTimes()
    calm, server = ServerProcess(tmp_path, 0.0, 0), ServerProcess(tmp_path, 0.3, dice.getrandbits(30))
    victim: Victim | None = None
    try:
        calm.start()
        run(warm_up(World(tmp_path, client_of(calm, dice), dice, times)), timeout=60)
        server.start()
        gc.collect()
        gc.freeze()
        began, number = time.monotonic(), 0
        while time.monotonic() - began < SECONDS:
            number += 1
            victim = Victim(tmp_path, server.url, number)
            (tmp_path / "server.log").write_text("")
            descriptors = open_descriptors()
            world = World(tmp_path, client_of(server, dice), dice, times)
            with LogText() as log, times.watching():
                run(round_of(world, server, min(ROUND, SECONDS), dice.choice([4, 16])), timeout=ROUND + 90)
            checks_after(world, descriptors | {name for name in open_descriptors() if "pipe:" in name})
            world.problems += answer_faults(world, tmp_path / "server.log", values)
            world.problems += [f"the key is in the log: {line:.300}" for line in log.lines if KEY in line][:3]
            world.problems += victim.kill()
            world.problems += [f"a callback took {slow}" for slow in times.slow]
            victim = None
            ends += world.ends
            print(
                f"round {number}: {sum(world.ends.values())} operations, longest callback {times.longest * 1e3:.0f} ms"
            )
            assert not world.problems, f"seed {SEED}, round {number}:\n" + "\n".join(world.problems[:40])
    finally:
        gc.unfreeze()
        calm.close()
        server.close()
        if victim is not None:
            victim.kill()
    print(f"{sum(ends.values())} operations, {server.kills} kills, {times.count} callbacks: {dict(ends.most_common())}")
    assert ends["success"] > 0.1 * sum(ends.values())

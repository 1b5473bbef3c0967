"""Measure many streams of 50 tokens/s on one core: the cost of a token, and its delay."""

from __future__ import annotations

import contextlib
import statistics
import sys
from typing import Any, NamedTuple

from servers import Place
from workers import Absent, Worker

GAP = 20  # ms between tokens
FIRST = 100  # ms from the request to the first
COUNT = 150  # tokens of a stream
STREAMS = 2  # one after another, in each place
ROUNDS = 2
ANSWER = f"tokens-{GAP}-{FIRST}-{COUNT}-1"


class Load(NamedTuple):
    """A number of streams, the contender, and the limits: µs per token, ms that first events are late, ms of gaps."""

    name: str
    streams: int
    uvloop: bool = False
    cost: float | None = None
    late: float | None = None
    gap: float | None = None

    @property
    def label(self) -> str:
        return f"{self.name}, uvloop" if self.uvloop else self.name


LOADS = (
    Load("ours", 300, cost=45, late=5, gap=32),
    Load("aiohttp+msgspec", 300),
    Load("floor", 300),
    Load("ours", 500, True, cost=30, late=5, gap=32),
    Load("aiohttp+msgspec", 500, True),
    Load("aiohttp+msgspec", 500),
    Load("openai", 50),
    Load("openai", 100),
)


def tokens(place: Place, rounds: int, pythons: dict[str, str]) -> list[dict[str, Any]]:
    """Return the medians of each load: µs per token, ms late, ms of gap, and the share of a core used."""
    found: list[dict[str, Any]] = []
    for _ in range(min(rounds, ROUNDS)):
        for at, load in enumerate(LOADS):
            if at == len(found):
                found.append(
                    {"label": load.label, "streams": load.streams, "cost": [], "late": [], "gap": [], "core": []}
                )
            try:
                got = _once(load, place, pythons)
            except Absent as why:
                print(f"    without {load.label} at {load.streams} streams: {why}", file=sys.stderr)
                continue
            found[at]["cost"].append(got["cpu"] / got["units"] * 1e6)
            found[at]["late"].append(got["late"])
            found[at]["gap"].append(got["gap"])
            found[at]["core"].append(got["cpu"] / got["wall"])
    for load in found:
        medians = {name: round(statistics.median(load[name] or [0.0]), 1) for name in ("cost", "late", "gap")}
        print(f"tokens: {load['label']} at {load['streams']} streams: {medians}", flush=True)
    return found


def _once(load: Load, place: Place, pythons: dict[str, str]) -> dict[str, Any]:
    with contextlib.closing(Worker(pythons["peers"], load.name, place.base, load.streams, load.uvloop)) as worker:
        worker.order(work="stream", answer="burst", units=2, at_once=2)
        spread = (FIRST + GAP * COUNT) / 1e3
        return worker.order(
            work="tokens", answer=ANSWER, units=STREAMS, at_once=load.streams, spread=spread, first=FIRST / 1e3
        )

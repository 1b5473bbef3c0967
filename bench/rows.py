"""The measurements, the contenders and the target ratios: ours divided by the peer's."""

from __future__ import annotations

from typing import NamedTuple

MARGIN = 1.2  # `--check` fails where a ratio is missed by more than a fifth

EVERYBODY = ("ours", "floor", "pyreqwest+msgspec", "aiohttp+msgspec", "httpx2+msgspec", "openai", "openai[aiohttp]")
USUAL = ("ours", "ours, chat.stream", "floor", "pyreqwest+msgspec", "aiohttp+msgspec", "openai")
MOST = tuple(name for name in USUAL if name != "ours, chat.stream")
SLOW = {"openai": 20, "openai[aiohttp]": 20, "litellm": 40, "httpx2+msgspec": 10}  # get a fraction of the units


class Row(NamedTuple):
    """One kind of work: `units` calls a round, `at_once` of them at a time."""

    name: str
    title: str
    work: str
    answer: str
    units: int
    at_once: int
    who: tuple[str, ...]
    targets: dict[str, float]
    held: tuple[tuple[str, float], ...] = ()  # the limit of `--check`: the aim, or the value reached if that is less
    uvloop: bool = False
    tls: bool = False
    beside: str = ""  # another answer that ours is measured with, and how much more ours may cost:
    at_most_more: float | None = None  # µs a unit
    prompt: int = 0  # bytes of the message that is sent; 0: the conversation of 8 messages
    warm: int = 2  # rounds before those that count

    def units_of(self, contender: str) -> int:
        """Return the number of units that a contender does in a round."""
        return max(self.units // SLOW.get(contender, 1), min(self.at_once, self.units))


ROWS = (
    Row(
        "small64",
        "small chat, 64 in flight (µs a call)",
        "chat",
        "chat",
        1280,
        64,
        (*EVERYBODY, "litellm", "limit in C"),
        {"openai": 1 / 90, "aiohttp+msgspec": 1 / 4, "floor": 1.4},
        held=(("openai", 1 / 58),),
        uvloop=True,
    ),
    Row(
        "small1",
        "small chat, one at a time (µs a call)",
        "chat",
        "chat",
        200,
        1,
        MOST,
        {"openai": 1 / 30},
    ),
    Row(
        "small512",
        "small chat, 512 in flight (µs a call)",
        "chat",
        "chat",
        2048,
        512,
        MOST,
        {"openai": 1 / 90},
    ),
    Row(
        "tls64",
        "small chat over TLS, 64 in flight (µs a call)",
        "chat",
        "chat",
        1280,
        64,
        ("ours", "floor", "aiohttp+msgspec", "openai"),
        {"openai": 1 / 60},
        tls=True,
    ),
    Row(
        "burst",
        "burst stream of 500 events (µs an event)",
        "stream",
        "burst",
        10,
        2,
        ("ours, chat.stream", *EVERYBODY, "litellm"),
        {"openai": 1 / 28, "aiohttp+msgspec": 1.1, "floor": 1.4},
        held=(("openai", 1 / 28),),
        uvloop=True,
    ),
    Row(
        "paced12",
        "12 streams, an event every 10 ms (µs an event)",
        "stream",
        "paced10-250",
        12,
        12,
        MOST,
        {"openai": 1 / 4.5, "aiohttp+msgspec": 0.7},
        held=(("openai", 1 / 4.5),),
        uvloop=True,
        warm=1,
    ),
    Row(
        "paced60",
        "60 streams, an event every 10 ms (µs an event)",
        "stream",
        "paced10-250",
        60,
        60,
        MOST,
        {"openai": 1 / 2.8, "aiohttp+msgspec": 0.85, "floor": 1.2},
        warm=1,
    ),
    Row(
        "strange",
        "burst stream, every event with unknown fields (µs an event)",
        "stream",
        "strange",
        10,
        2,
        ("ours", "openai"),
        {},
        beside="burst",
        at_most_more=10.0,
    ),
    Row(
        "vectors",
        "embeddings, 100 × 1,536, as each asks for them (µs a call)",
        "embed",
        "vectors",
        10,
        1,
        ("ours", "aiohttp+msgspec", "openai"),
        {"openai": 1 / 8},
    ),
    Row(
        "floats",
        "embeddings, 100 × 1,536, as JSON floats (µs a call)",
        "embed",
        "floats",
        10,
        1,
        ("ours", "aiohttp+msgspec", "openai"),
        {"openai": 1 / 40},
    ),
)

"""`openaiasync demo`: what the library does, against the built-in server over a real socket, in a few seconds."""

from __future__ import annotations

import asyncio
import math
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.table import Table
from rich.text import Text

from ..errors import OpenAIError
from ..lazy import resolve_annotations
from .console import CommandError, Exit, complain, out, progress, write
from .models_command import models_table

if TYPE_CHECKING:
    from ..client import Client
    from ..server import Server

__all__ = ["SENTENCES", "Tally", "nearest_pairs", "questions_of", "run_demo"]

_CHAT, _EMBED = "demo-chat", "demo-embed"
_TOKEN_DELAY = 0.01  # seconds, for the streamed answer only, so that its streaming can be seen

SENTENCES = (
    "The cat sleeps on the warm sofa.",
    "A cat is sleeping on our sofa.",
    "Bread is baked from flour, water and salt.",
    "To bake bread, take flour, salt and water.",
    "The train to Vienna leaves at nine o'clock.",
    "At nine o'clock the Vienna train departs.",
    "Rain is expected in the mountains tomorrow.",
    "Tomorrow the mountains will see rain.",
    "She plays the violin in a small orchestra.",
    "Her violin is heard in a small orchestra.",
    "The library closes early on Fridays.",
    "On Friday the library will close early.",
)
_QUESTIONS = (
    "What is {a} plus {b}?",
    "What is {a} times {b}?",
    "How many days are there between 2024-01-{a:02d} and 2024-02-{b:02d}?",
    "Spell the word 'asynchronous' backwards.",
    "What is the capital of France?",
    "Why is the sky blue?",
    "Say: number {a}{b}.",
)


@dataclass
class Tally:
    """The results of many calls. Times are in seconds."""

    latencies: list[float] = field(default_factory=list[float])
    tokens: int = 0
    seconds: float = 0.0
    errors: list[OpenAIError] = field(default_factory=list[OpenAIError])

    @property
    def calls(self) -> int:
        """The number of calls, including failed ones."""
        return len(self.latencies) + len(self.errors)

    def percentile(self, share: float) -> float:
        """Return the latency that this share of the calls did not exceed (nearest rank); 0.0 without calls."""
        ordered = sorted(self.latencies)
        return ordered[max(math.ceil(share * len(ordered)), 1) - 1] if ordered else 0.0


def run_demo(calls: int, in_flight: int, seed: int, app: Server | None = None) -> int:
    """Run the demo, against the built-in server's application or `app`. Raises `CommandError`."""
    # The demo calls its own server only, without the user's key, headers and proxies.
    for name in [name for name in os.environ if name.upper().startswith("OPENAI_")]:
        del os.environ[name]
    return asyncio.run(_demo(calls, in_flight, seed, app))


async def _demo(calls: int, in_flight: int, seed: int, app: Server | None) -> int:
    from ..client import Client
    from ..demo import demo_app
    from ..server import serve

    server = serve(app or demo_app())
    try:
        await server.start()
    except OSError as error:
        raise CommandError(f"the built-in server cannot start: {error.strerror or error}", Exit.FAILED) from error
    console = out()
    try:
        options = {"trust_env": False}
        async with Client(api_base=server.base_url, http_max_in_flight=in_flight, http_other=options) as client:
            console.print(f"openaiasync talks to its built-in server at {server.base_url}")
            try:
                await _one_by_one(client, console)
                tally = await _many(client, console, calls, in_flight, seed)
            except OpenAIError as error:
                raise CommandError(str(error), Exit.ROWS_FAILED) from error
    finally:
        await server.close(0.0)
    console.print(_summary(tally, in_flight))
    if tally.errors:
        complain(f"{len(tally.errors)} of {tally.calls} calls failed; the first: {tally.errors[0]}")
        return Exit.ROWS_FAILED
    return Exit.OK


async def _one_by_one(client: Client, console: Console) -> None:
    """Make one call of each kind."""
    _heading(console, "Models")
    console.print(models_table([model async for model in client.models()]))

    _heading(console, "One question")
    question = "Why is the sky blue?"
    console.print(f"> {question}")
    answer = await client.chat(question, model=_CHAT)
    write(f"{answer.text}\n")

    _heading(console, "An answer, token by token")
    question = "Tell me a story of two princesses, Judy and Emmy."
    console.print(f"> {question}")
    delay = {"token_delay": _TOKEN_DELAY}
    async with client.chat.stream(question, model=_CHAT, extra_query=delay) as stream:
        async for chunk in stream:
            write(chunk.text)
    write("\n")

    _heading(console, f"The nearest of {len(SENTENCES)} sentences")
    embedded = await client.embedding(SENTENCES, model=_EMBED)
    console.print(_pairs_table(nearest_pairs(embedded.vectors, len(SENTENCES) // 2)))


async def _many(client: Client, console: Console, calls: int, in_flight: int, seed: int) -> Tally:
    """Make many calls, with as many workers as calls in flight, so that nothing queues however many there are."""
    _heading(console, f"{calls:,} chats, {in_flight} at once")
    questions = questions_of(calls, seed)
    tally = Tally()
    columns = (TextColumn("chats"), BarColumn(), MofNCompleteColumn())
    with progress("chats", *columns, total=calls, shown=sys.stderr.isatty()) as advance:

        async def work() -> None:
            for question in questions:
                try:
                    answer = await client.chat(question, model=_CHAT)
                except OpenAIError as error:
                    tally.errors.append(error)
                else:
                    tally.latencies.append(answer.meta.total)
                    tally.tokens += answer.usage.total_tokens if answer.usage else 0
                advance(1)

        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(min(calls, in_flight)):
                group.create_task(work())
        tally.seconds = time.perf_counter() - began
    return tally


def questions_of(calls: int, seed: int) -> Iterator[str]:
    """Yield `calls` questions for `demo-chat`, the same ones for the same seed."""
    chance = random.Random(seed)
    for _ in range(calls):
        yield chance.choice(_QUESTIONS).format(a=chance.randint(1, 28), b=chance.randint(1, 28))


def nearest_pairs(vectors: Sequence[Sequence[float]], count: int) -> list[tuple[float, int, int]]:
    """Return the `count` pairs of vectors with the largest cosine, as (cosine, index, index), the nearest first."""
    lengths = [math.sqrt(sum(x * x for x in vector)) or 1.0 for vector in vectors]
    pairs = [
        (sum(x * y for x, y in zip(vectors[i], vectors[j], strict=True)) / (lengths[i] * lengths[j]), i, j)
        for i, j in combinations(range(len(vectors)), 2)
    ]
    return sorted(pairs, reverse=True)[:count]


# ---------------------------------------------------------------- layout


def _heading(console: Console, title: str) -> None:
    console.print()
    console.print(Text(title, style="bold cyan"))
    console.print(Text("-" * len(title), style="cyan"))


def _pairs_table(pairs: list[tuple[float, int, int]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("cosine", justify="right")
    table.add_column("sentence")
    table.add_column("its neighbour")
    for cosine, i, j in pairs:
        table.add_row(f"{cosine:.2f}", SENTENCES[i], SENTENCES[j])
    return table


def _summary(tally: Tally, in_flight: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("calls", "in flight", "tokens", "seconds", "calls/s", "p50 ms", "p99 ms", "failed"):
        table.add_column(title, justify="right")
    table.add_row(
        f"{tally.calls:,}",
        f"{in_flight:,}",
        f"{tally.tokens:,}",
        f"{tally.seconds:.2f}",
        f"{tally.calls / max(tally.seconds, 1e-9):,.0f}",
        f"{tally.percentile(0.5) * 1000:.1f}",
        f"{tally.percentile(0.99) * 1000:.1f}",
        f"{len(tally.errors):,}",
    )
    return table


resolve_annotations(__name__)

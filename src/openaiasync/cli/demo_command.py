"""`openaiasync demo`: shows the library at work with the built-in server over a real socket, in a few seconds.

Each part shows its code and then runs the text it has shown, so that the two cannot differ.
"""

from __future__ import annotations

import ast
import asyncio
import math
import os
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final, cast

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.table import Table
from rich.text import Text

from ..errors import OpenAIError
from ..lazy import resolve_annotations
from .console import CommandError, Exit, complain, out, progress, write

if TYPE_CHECKING:
    from ..bulk.mapping import Row
    from ..server import Server

__all__ = ["SENTENCES", "STEPS", "Tally", "WordWrap", "nearest_pairs", "questions_of", "run_demo"]

_TOKEN_DELAY: Final = 0.01  # seconds, for the streamed answer only, so that its streaming can be seen

SENTENCES: Final = (
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
_QUESTIONS: Final = (
    "What is {a} plus {b}?",
    "What is {a} times {b}?",
    "How many days are there between 2024-01-{a:02d} and 2024-02-{b:02d}?",
    "Spell the word 'asynchronous' backwards.",
    "What is the capital of France?",
    "Why is the sky blue?",
    "Say: number {a}{b}.",
)

_CODE: Final = """\
# Models
async for model in client.models():
    print(model.id)


# One question
q = "Why is the sky blue?"
answer = await client.chat(q)
print(answer.text)


# An answer, token by token
q = "Tell a story of Judy and Emmy."
stream = client.chat.stream(q)
async for piece in stream:
    print(piece.text, end="")


# The nearest of 12 sentences
answer = await client.embedding(texts)
show(nearest_pairs(answer.vectors, 6))


# A conversation that calls a function
def temperature(city: str) -> float:
    \"\"\"Degrees Celsius in a city.\"\"\"
    return 21.5

q = "The temperature in Vienna?"
tools = [temperature]
chat = client.chat.session(tools=tools)
print((await chat.say(q)).text)


# An answer as a value of a type
@dataclass
class City:
    name: str
    people: int

q = "Ulm has 130000 people."
reply = await chat.say(q, into=City)
print(reply.parsed)


# A picture
q = "a red circle on a blue ground"
made = await client.image_generate(q)
await made.data[0].save(path)
print(path)
"""
STEPS: Final = tuple(part.removeprefix("# ").split("\n", 1) for part in _CODE.rstrip().split("\n\n\n"))
"""Title and code of each part; lines of at most 39 characters, for terminals of 40 columns."""

_MANY: Final = "rows = client.map(\n    questions, max_in_flight={in_flight})\nasync for row in rows:\n    count(row)"
_NEXT: Final = (
    ("openaiasync serve --ui", "Runs this server with a page to chat on, at http://127.0.0.1:8000/."),
    ("openaiasync doctor", "Checks the connection to your server, named by OPENAI_BASE_URL and OPENAI_API_KEY."),
    ("openaiasync chat", "Holds a conversation with it."),
    ("openaiasync --help", "Lists the other commands."),
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

    def count(self, row: Row[Any, Any]) -> None:
        """Add the result of a call."""
        if row.error is not None:
            self.errors.append(row.error)
        else:
            self.latencies.append(row.seconds)
            self.tokens += row.usage.input + row.usage.output if row.usage else 0

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
    from ..demo import DEMO_MODELS, demo_app
    from ..server import serve

    server = serve(app or demo_app())
    try:
        await server.start()
    except OSError as error:
        raise CommandError(f"the built-in server cannot start: {error.strerror or error}", Exit.FAILED) from error
    console = out()
    models = {
        "chat": DEMO_MODELS["chat"],
        "embedding": DEMO_MODELS["embedding"],
        "image_generate": DEMO_MODELS["image"],
    }
    try:
        async with Client(api_base=server.base_url, model=models, http_other={"trust_env": False}) as client:
            console.print("Talking to the built-in server at")
            console.print(server.base_url, soft_wrap=True)
            slow = client.with_options(default_query={"token_delay": _TOKEN_DELAY})
            names: dict[str, Any] = {"__name__": __name__, "dataclass": dataclass, "nearest_pairs": nearest_pairs}

            def show(pairs: Any) -> None:
                console.print(_pairs_table(pairs))

            names |= {"texts": SENTENCES, "show": show}
            try:
                for title, code in STEPS:
                    if "path" in code:
                        names["path"] = os.path.join(tempfile.mkdtemp(prefix="openaiasync-"), "circle.png")
                    await _run(console, title, code, {"client": slow if "stream" in code else client}, names)
                names["client"] = client
                tally = await _many(console, calls, in_flight, seed, names)
            except OpenAIError as error:
                raise CommandError(str(error), Exit.ROWS_FAILED) from error
    finally:
        await server.close(0.0)
    console.print(_summary(tally, in_flight))
    if tally.errors:
        complain(f"{len(tally.errors)} of {tally.calls} calls failed; the first: {tally.errors[0]}")
        return Exit.ROWS_FAILED
    _show_next(console)
    return Exit.OK


async def _run(console: Console, title: str, code: str, own: dict[str, Any], names: dict[str, Any]) -> None:
    """Show a part's code and run it with these names, which it shares with the other parts."""
    _heading(console, title)
    console.print(Text(f"{code}\n", style="green"), soft_wrap=True)
    wrapped = WordWrap(console.width if console.is_terminal else None)

    def show(*values: object, end: str = "\n") -> None:
        write(wrapped.feed(" ".join(map(str, values)) + end))

    names.update(own, print=show)
    # Not this module's future import: the annotations of the code are to be types.
    program = compile(code, title, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    done = cast("Awaitable[None] | None", eval(program, names))
    if done is not None:
        await done
    write(wrapped.end())


async def _many(console: Console, calls: int, in_flight: int, seed: int, names: dict[str, Any]) -> Tally:
    """Run the last part: many calls, counted as they are answered."""
    tally = Tally()
    columns = (TextColumn("chats"), BarColumn(), MofNCompleteColumn())
    with progress("chats", *columns, total=calls, shown=sys.stderr.isatty()) as advance:

        def count(row: Row[Any, Any]) -> None:
            tally.count(row)
            advance(1)

        code = _MANY.format(in_flight=in_flight)
        began = time.perf_counter()
        own: dict[str, Any] = {"questions": questions_of(calls, seed), "count": count}
        await _run(console, f"{calls:,} chats, {in_flight} at once", code, own, names)
        tally.seconds = time.perf_counter() - began
    return tally


def questions_of(calls: int, seed: int) -> Iterator[str]:
    """Yield `calls` questions, the same ones for the same seed."""
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


class WordWrap:
    """Breaks a text that arrives in pieces into lines of at most `width` characters, between words.

    A word is held back until its end is known; one that is longer than a line is left whole. Without a width nothing is
    changed.
    """

    def __init__(self, width: int | None) -> None:
        self._width = width or sys.maxsize
        self._word = ""  # what has arrived of the current word, after the blank before it
        self._column = 0

    def feed(self, piece: str) -> str:
        """Take a piece of the text; return what can be written."""
        done = ""
        for char in piece:
            if char.isspace():
                done += self._place()
            if char == "\n":
                done += char
                self._column = 0
            else:
                self._word += char
        return done

    def end(self) -> str:
        """Return the rest of the text, and the end of its last line."""
        done = self._place()
        return f"{done}\n" if self._column else done

    def _place(self) -> str:
        word, self._word = self._word, ""
        if self._column and self._column + len(word) > self._width and word.strip():
            word = f"\n{word.lstrip()}"
            self._column = -1
        self._column += len(word)
        return word


def _heading(console: Console, title: str) -> None:
    console.print()
    console.print(Text(title, style="bold cyan"))
    console.print(Text("-" * len(title), style="cyan"))


def _pairs_table(pairs: list[tuple[float, int, int]]) -> Table:
    """Return the pairs below each other: two sentences beside each other need a wide terminal."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for cosine, i, j in pairs:
        table.add_row(f"{cosine:.2f}", f"{SENTENCES[i]}\n{SENTENCES[j]}")
    return table


def _summary(tally: Tally, in_flight: int) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    table.add_row("calls", f"{tally.calls:,}")
    table.add_row("in flight", f"{in_flight:,}")
    table.add_row("tokens", f"{tally.tokens:,}")
    table.add_row("seconds", f"{tally.seconds:.2f}")
    table.add_row("calls/s", f"{tally.calls / max(tally.seconds, 1e-9):,.0f}")
    table.add_row("p50 ms", f"{tally.percentile(0.5) * 1000:.1f}")
    table.add_row("p99 ms", f"{tally.percentile(0.99) * 1000:.1f}")
    table.add_row("failed", f"{len(tally.errors):,}")
    return table


def _show_next(console: Console) -> None:
    _heading(console, "What to try next")
    for command, effect in _NEXT:
        console.print(Text(command, style="green"))
        console.print(Padding(effect, (0, 0, 0, 4), expand=False))


resolve_annotations(__name__)

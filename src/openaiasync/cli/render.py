"""Shows a turn while it runs: as Markdown on a terminal, as plain text everywhere else.

On a terminal, finished blocks are printed once, and only the last block is redrawn as it grows. A block is finished
when another one has begun after it (CommonMark: later lines only change the last block).
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from ..chat.reply import ReasoningPiece, RepairStarted, TextPiece, ToolFinished, ToolStarted
from ..core.http.lines import split_lines
from ..lazy import resolve_annotations
from .console import json_bytes, note, out, printable, write, write_bytes

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.live import Live
    from rich.segment import Segment

    from ..chat.reply import Reply, ToolResult
    from ..chat.session import ChatSession, SessionStream

__all__ = ["Screen", "is_dumb", "note_usage", "screen", "show_turn", "write_code_block"]

_PAUSE = 0.08  # seconds between two drawings, at least
_REST = 4  # the pause is at least this many times as long as the drawing took, so that drawing delays no answer
_LONG = 120  # lines of a growing block from which it is drawn as plain text, which is faster
_LARGE = 10_000  # characters, likewise
_THOUGHTS = 3  # lines of reasoning that are shown


class Screen:
    """Writes the pieces of one answer after another to stdout, unchanged."""

    def __init__(self) -> None:
        self._at_line_start = True

    def begin(self) -> None:
        """Show that an answer is awaited."""

    def text(self, piece: str) -> None:
        """Show a piece of the answer."""
        write(piece)
        self._at_line_start = piece.endswith("\n")

    def thought(self, piece: str) -> None:
        """Show a piece of the reasoning, on a terminal only and until the answer begins."""

    def end(self) -> None:
        """Finish the output with a line end, so that other text may follow. Idempotent."""
        if not self._at_line_start:
            write("\n")
            self._at_line_start = True


def is_dumb() -> bool:
    """Return whether the terminal does not support escape codes, by its name."""
    return os.environ.get("TERM", "").lower() in ("", "dumb", "unknown") and os.name != "nt"


def screen() -> Screen:
    """Return the right screen for stdout."""
    return MarkdownScreen() if sys.stdout.isatty() and not is_dumb() else Screen()


class MarkdownScreen(Screen):
    """Draws an answer as Markdown on a terminal, while an event loop runs."""

    def __init__(self) -> None:
        super().__init__()
        self._console: Console = out()
        self._live: Live | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._next = 0.0  # the earliest time of the next drawing
        self._source = ""  # what is not finally printed yet
        self._thoughts = ""
        self._printed = False

    def begin(self) -> None:
        self._draw_soon()

    def text(self, piece: str) -> None:
        self._source += printable(piece)
        self._draw_soon()

    def thought(self, piece: str) -> None:
        self._thoughts += printable(piece)
        self._draw_soon()

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        live, self._live = self._live, None
        if live is not None:
            live.stop()
        if self._source.strip():
            self._print(self._source)
        self._source = self._thoughts = ""
        self._printed = False

    def _draw_soon(self) -> None:
        if self._timer is None:
            wait = max(0.0, self._next - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(wait, self._draw)

    def _draw(self) -> None:
        from rich.live import Live

        self._timer, began = None, time.monotonic()
        if self._live is None:
            self._live = Live(
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
                vertical_overflow="crop",
            )
            self._live.start()
        finished = _finished(self._source)
        if finished:
            self._live.update("", refresh=True)
            self._print(self._source[:finished])
            self._source = self._source[finished:]
        self._live.update(_LastBlock(self._source, self._thoughts, self._printed), refresh=True)
        now = time.monotonic()
        self._next = now + max(_PAUSE, _REST * (now - began))

    def _print(self, source: str) -> None:
        """Print finished blocks, after an empty line if there is anything above them."""
        from rich.segment import SegmentLines

        from .markdown import markdown_lines

        lines = markdown_lines(source, self._console)
        if self._printed and lines:
            self._console.print()
        self._console.print(SegmentLines(lines, new_lines=True), end="")
        self._printed = self._printed or bool(lines)


def _finished(source: str) -> int:
    """Return the length of the finished blocks at the beginning, which later text cannot change.

    An incomplete last line is ignored: "1" is a paragraph, but "1. " continues a list.
    """
    from .markdown import last_block_line

    line = last_block_line(source[: source.rfind("\n") + 1])
    if not line:
        return 0
    lines = split_lines(source, keep_ends=True)
    return sum(map(len, lines[:line]))


class _LastBlock:
    """The part that is redrawn: the unfinished block, as much of its end as fits the terminal."""

    _more: ClassVar[str] = "…"

    def __init__(self, source: str, thoughts: str, below: bool) -> None:
        self._source = source
        self._thoughts = "" if source else thoughts
        self._below = below

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.segment import Segment

        lines = list(self._lines(console, options))
        room = max(1, console.height - 2)
        if self._below and lines:
            yield Segment.line()
        for line in lines[-room:]:
            yield from line
            yield Segment.line()

    def _lines(self, console: Console, options: ConsoleOptions) -> Iterable[Iterable[Segment]]:
        from rich.text import Text

        from .markdown import markdown_lines

        if not self._source:
            thoughts = split_lines(self._thoughts.strip())[-_THOUGHTS:] or [self._more]
            return console.render_lines(Text("\n".join(thoughts), style="dim italic"), options, pad=False)[-_THOUGHTS:]
        if len(self._source) > _LARGE or self._source.count("\n") > _LONG:
            last = split_lines(self._source[-_LARGE:])[-console.height :]
            return console.render_lines(Text("\n".join(last)), options, pad=False)
        return markdown_lines(self._source, console, options)


_LONGEST = 200  # characters of a tool's arguments or result that are shown
_ENDINGS = {
    "length": "The answer was cut at its length limit.",
    "content_filter": "The answer was cut by the server's content filter.",
    "tool_calls": "The model asked for a tool, but there are no tools.",
}


async def show_turn(
    session: ChatSession, turn: dict[str, Any], schema: dict[str, Any] | None = None, *, stream: bool = True
) -> Reply[Any]:
    """Take a turn with the arguments of `session.stream` and show it, with a schema as JSON. Raises its errors.

    Without `stream` the answer is requested whole.
    """
    before = session.left_out
    if schema is not None:
        reply = await session.say(**turn, into=schema)
        write_bytes(json_bytes(reply.parsed))
    elif stream:
        async with session.stream(**turn) as pieces:
            reply = await _shown(pieces, screen())
        _note_ending(reply)
    else:
        reply = await session.say(**turn)
        _show_whole(reply, screen())
        _note_ending(reply)
    if session.left_out > before:
        note(
            f"The conversation exceeds the model's context: it no longer sees the first {session.left_out} questions "
            "and their answers."
        )
    return reply


def _show_whole(reply: Reply[Any], place: Screen) -> None:
    for result in reply.tool_calls:
        note(f"{result.name}({_short(result.call.arguments)})")
        note(_result_line(result))
    place.text(reply.text)
    place.end()


def write_code_block(text: str) -> None:
    """Write the last code block of an answer to stdout; if it has none, the answer, with a note."""
    from .markdown import last_code_block

    block = last_code_block(text)
    if block is None:
        note("The answer has no code block; this is all of it.")
        block = text
    write(block if block.endswith("\n") or not block else f"{block}\n")


def note_usage(usage: object) -> None:
    """Print the numbers of tokens that the server counted on stderr, for chats and for responses."""
    if usage is None:
        note("Usage: the server did not count the tokens.")
        return
    sent = _count(usage, "prompt_tokens", "input_tokens")
    received = _count(usage, "completion_tokens", "output_tokens")
    cached = _count(usage, "prompt_tokens_details.cached_tokens", "input_tokens_details.cached_tokens")
    reasoning = _count(usage, "completion_tokens_details.reasoning_tokens", "output_tokens_details.reasoning_tokens")
    note(
        f"Usage: {sent or 0:,} tokens sent{f' ({cached:,} from the cache)' if cached else ''}, {received or 0:,} "
        f"received{f' ({reasoning:,} of reasoning)' if reasoning else ''}."
    )


def _count(usage: object, *paths: str) -> int | None:
    """Return the first of these fields, ``name`` or ``name.name``, that is a number."""
    for path in paths:
        value: Any = usage
        for name in path.split("."):
            value = getattr(value, name, None)
        if isinstance(value, int):
            return value
    return None


async def _shown(stream: SessionStream[Any], place: Screen) -> Reply[Any]:
    place.begin()
    try:
        async for piece in stream:
            match piece:
                case TextPiece():
                    place.text(piece.text)
                case ReasoningPiece():
                    place.thought(piece.reasoning)
                case ToolStarted():
                    place.end()
                    note(f"{piece.call.name}({_short(piece.call.arguments)})")
                case ToolFinished():
                    place.end()
                    note(_result_line(piece.result))
                    place.begin()
                case RepairStarted():
                    place.end()
                case _:
                    pass
        return await stream.final()
    finally:
        place.end()


def _result_line(result: ToolResult) -> str:
    """Describe the result of a tool in one line."""
    if result.error is not None:
        return f"{result.name} failed: {_short(str(result.error) or repr(result.error))}"
    text = result.content if isinstance(result.content, str) else json.dumps(result.content, ensure_ascii=False)
    return f"{result.name}: {_short(text)}"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _note_ending(reply: Reply[Any]) -> None:
    """Print why the answer may be shorter than expected."""
    refusal = getattr(reply.message, "refusal", None)
    if refusal:
        note(f"The model refused: {refusal}")
    elif reply.finish_reason in _ENDINGS:
        note(_ENDINGS[reply.finish_reason])
    elif not reply.text:
        note("The answer is empty.")


resolve_annotations(__name__)

"""One turn of a session, shown as it goes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..chat.events import ReasoningPiece, RepairStarted, TextPiece, ToolFinished, ToolStarted
from .models import json_bytes
from .output import note, write_bytes
from .render import Screen, screen

if TYPE_CHECKING:
    from ..chat.reply import Reply, ToolResult
    from ..chat.session import ChatSession
    from ..chat.session_stream import SessionStream

__all__ = ["say"]

_LONGEST = 200  # characters of a tool's arguments or answer on show
_ENDINGS = {
    "length": "The answer was cut at its length limit.",
    "content_filter": "The answer was cut by the server's content filter.",
    "tool_calls": "The model asked for a tool, and there is none here.",
}


async def say(session: ChatSession, asked: dict[str, Any], schema: dict[str, Any] | None = None) -> Reply[Any]:
    """Take a turn, with what `session.stream` takes, and show it; with a schema as JSON. Raises what the turn does."""
    before = session.left_out
    if schema is not None:
        reply = await session.say(**asked, into=schema)
        write_bytes(json_bytes(reply.parsed))
    else:
        async with session.stream(**asked) as stream:
            reply = await _shown(stream, screen())
        _note_ending(reply)
    if session.left_out > before:
        note(
            f"The conversation has outgrown the model's context: it no longer sees the first {session.left_out} "
            "questions and their answers."
        )
    return reply


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
                    note(_told(piece.result))
                    place.begin()
                case RepairStarted():
                    place.end()
                case _:
                    pass
        return await stream.final()
    finally:
        place.end()


def _told(result: ToolResult) -> str:
    """What a tool did, in a line."""
    if result.error is not None:
        return f"{result.name} failed: {_short(str(result.error) or repr(result.error))}"
    told = result.content if isinstance(result.content, str) else json.dumps(result.content, ensure_ascii=False)
    return f"{result.name}: {_short(told)}"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _note_ending(reply: Reply[Any]) -> None:
    """Say why there may be less to read than expected."""
    refusal = getattr(reply.message, "refusal", None)
    if refusal:
        note(f"The model refused: {refusal}")
    elif reply.finish_reason in _ENDINGS:
        note(_ENDINGS[reply.finish_reason])
    elif not reply.text:
        note("The answer is empty.")

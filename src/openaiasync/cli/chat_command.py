"""`openaiasync chat`: one question, or a conversation on a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING

from ..lazy import resolve_annotations
from ..storage.disk import FileTooLargeError, read_open
from .arguments import image_at, schema_in
from .console import CommandError, Exit, write_bytes
from .render import show_turn
from .session_store import ChatOptions, SessionStore, open_session

if TYPE_CHECKING:
    from .arguments import ServerOptions

__all__ = ["run_chat"]

_LARGEST_QUESTION = 64 << 20  # bytes


def run_chat(server: ServerOptions, question: str | None, options: ChatOptions) -> int:
    """Ask the question given as an argument, through a pipe, or both; without one start a conversation."""
    if options.go_on and options.session is not None:
        raise CommandError("--continue continues the last session, --session the one that it names; use one of them")
    if options.forget and (options.go_on or options.session is not None):
        raise CommandError("--forget keeps nothing, --session and --continue keep the conversation; use one of them")
    text = _question(question)
    if text is not None:
        return asyncio.run(_ask_once(server, text, options))
    if options.as_json:
        raise CommandError("--json needs a question, as an argument or through a pipe")
    from .repl import converse

    return converse(server, options)


def _question(argument: str | None) -> str | None:
    """Return the argument and the piped text, joined by a blank line; `None` if neither is there but a terminal is."""
    piped = ""
    has_terminal = sys.stdin is not None and sys.stdin.isatty()
    if sys.stdin is not None and not has_terminal:
        try:
            piped = read_open(sys.stdin.buffer, _LARGEST_QUESTION, "stdin").decode("utf-8-sig").strip()
        except FileTooLargeError as error:
            raise CommandError(f"the question is {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise CommandError(f"stdin is not UTF-8 text: {error.reason} at byte {error.start}") from None
    parts = [part for part in (argument, piped) if part and part.strip()]
    if parts:
        return "\n\n".join(parts)
    if argument is None and has_terminal:
        return None
    raise CommandError("the question is empty")


async def _ask_once(server: ServerOptions, question: str, options: ChatOptions) -> int:
    images = [image_at(place) for place in options.images]
    schema = None if options.schema is None else schema_in(options.schema)
    async with server.client() as client:
        store = SessionStore.of(options.session, options.go_on)
        session = await open_session(client, options, store)
        with contextlib.closing(session):
            try:
                if options.as_json:
                    reply = await session.say(question, images=images, into=schema)
                    write_bytes(reply.answer.to_json().encode("utf-8", "backslashreplace") + b"\n")
                else:
                    await show_turn(session, {"text": question, "images": images}, schema)
                store.keep(session)
            finally:
                store.release(session)
    return Exit.OK


resolve_annotations(__name__)

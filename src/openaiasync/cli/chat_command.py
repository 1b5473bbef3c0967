"""`openaiasync chat`: one question, or a conversation on a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING

from ..storage.files import FileTooLargeError, read_open
from .arguments import image_at, schema_in
from .console import CommandError, Exit, write_bytes
from .render import say
from .session_store import ChatOptions, SessionStore, opened

if TYPE_CHECKING:
    from .arguments import Connect

__all__ = ["run_chat"]

_LARGEST_QUESTION = 64 << 20  # bytes


def run_chat(connect: Connect, question: str | None, wanted: ChatOptions) -> int:
    """Ask once if there is a question (argument, pipe, or both), else talk."""
    if wanted.go_on and wanted.session is not None:
        raise CommandError("--continue takes the last session and --session the one it names; give one of them")
    if wanted.forget and (wanted.go_on or wanted.session is not None):
        raise CommandError("--forget keeps nothing, --session and --continue keep what is said; give one of them")
    asked = _question(question)
    if asked is not None:
        return asyncio.run(_ask_once(connect, asked, wanted))
    if wanted.as_json:
        raise CommandError("--json needs a question, as an argument or through a pipe")
    from .repl import talk

    return talk(connect, wanted)


def _question(argument: str | None) -> str | None:
    """The argument and what is piped in, joined by a blank line; `None` if a terminal is there to ask on."""
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


async def _ask_once(connect: Connect, question: str, wanted: ChatOptions) -> int:
    images = [image_at(place) for place in wanted.images]
    schema = None if wanted.schema is None else schema_in(wanted.schema)
    async with connect.client() as client:
        shelf = SessionStore.of(wanted.session, wanted.go_on)
        session = await opened(client, wanted, shelf)
        with contextlib.closing(session):
            try:
                if wanted.as_json:
                    reply = await session.say(question, images=images, into=schema)
                    write_bytes(reply.answer.to_json().encode("utf-8", "backslashreplace") + b"\n")
                else:
                    await say(session, {"text": question, "images": images}, schema)
                shelf.keep(session)
            finally:
                shelf.release(session)
    return Exit.OK

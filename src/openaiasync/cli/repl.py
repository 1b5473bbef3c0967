"""A conversation on a terminal: read, obey or ask, show, again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ..errors import OpenAIError
from .arguments import image_at, schema_in
from .chat_options import (
    ChatOptions,
    SessionStore,
    opened,
    questions,
)
from .commands import COMMANDS, obey
from .output import CommandError, Exit, complain, note
from .prompt import LinePrompt, prompt_for
from .turns import say

if TYPE_CHECKING:
    from ..chat.session import ChatSession
    from ..client import Client
    from .connect import Connect

__all__ = ["Repl", "talk"]

_EXPECTED = (OpenAIError, CommandError, OSError, ValueError)


class Repl:
    """What a conversation on a terminal is made of; the commands change it."""

    def __init__(
        self, session: ChatSession, shelf: SessionStore, images: list[str], schema: dict[str, Any] | None
    ) -> None:
        self.session = session
        self.shelf = shelf
        self.images = images
        """Images that go with the next question."""
        self.schema = schema
        self.failed: dict[str, Any] | None = None
        """What was asked last, if it has no answer; for /retry."""
        self.ended = False

    async def ask(self, text: str) -> None:
        """Ask a question, with the images that wait for one. Raises what the turn raises."""
        await self.take({"text": text, "images": list(self.images)})

    async def take(self, asked: dict[str, Any]) -> None:
        """Take a turn with what `session.stream` takes, and keep it."""
        self.failed = asked
        await say(self.session, asked, self.schema)
        self.failed = None
        self.images.clear()
        self.shelf.keep(self.session)


def talk(connect: Connect, wanted: ChatOptions) -> int:
    """A conversation. The event loop runs during answers only, so that the prompt has the terminal for itself."""
    images = [image_at(place) for place in wanted.images]
    schema = None if wanted.schema is None else schema_in(wanted.schema)
    with asyncio.Runner() as runner:
        client = connect.client()
        try:
            shelf = SessionStore.of(wanted.session, wanted.go_on, unnamed=not wanted.forget)
            state = Repl(runner.run(opened(client, wanted, shelf)), shelf, images, schema)
            try:
                _greet(state, client)
                _loop(runner, state)
            finally:
                shelf.release(state.session)
                state.session.close()
        finally:
            runner.run(client.aclose())
    return Exit.OK


def _greet(state: Repl, client: Client) -> None:
    base = client.base_url.rstrip("/")
    note(
        f'{state.session.model} at {base}. Ctrl-C stops an answer, Ctrl-D or "exit" ends the talk, '
        "/help lists commands."
    )
    if asked := questions(state.session):
        note(f"Going on with {state.shelf.name}; questions so far: {asked}.")
    if state.session.missing_tools:
        note(f"Tools that it had and this command does not name: {', '.join(state.session.missing_tools)}")


def _loop(runner: asyncio.Runner, state: Repl) -> None:
    prompt = prompt_for([command.name for command in COMMANDS])
    _remember(prompt, state.session)
    while not state.ended:
        typed = prompt.read()
        if typed is None or typed == "exit":
            return
        if typed:
            _turn(runner, state, typed)


def _turn(runner: asyncio.Runner, state: Repl, typed: str) -> None:
    """One line and what it brings. Ctrl-C ends the answer, an error this turn, neither the conversation."""
    try:
        runner.run(obey(state, typed))
    except KeyboardInterrupt:
        note("Stopped; this question and its answer are forgotten. /retry asks again.")
    except _EXPECTED as error:
        complain(str(error))


def _remember(prompt: LinePrompt, session: ChatSession) -> None:
    """Let the arrow keys find what was asked in the session so far."""
    for message in session.messages:
        content = message.get("content")
        if message.get("role") == "user" and isinstance(content, str):
            prompt.remember(content)

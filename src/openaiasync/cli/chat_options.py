"""What the options of `chat` ask for: with which session, kept where."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..chat.errors import SessionFileError
from .arguments import add_tools
from .connect import choose_model
from .session_files import (
    UNNAMED,
    last_session,
    path_of,
    unnamed_path,
)

if TYPE_CHECKING:
    from ..chat.session import ChatSession
    from ..client import Client

__all__ = ["ChatOptions", "SessionStore", "opened", "questions"]


@dataclass(frozen=True, kw_only=True)
class ChatOptions:
    """What the options of ``chat`` ask for, beside the server."""

    model: str | None = None
    system: str | None = None
    session: str | None = None
    go_on: bool = False
    forget: bool = False
    tools: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    schema: str | None = None
    as_json: bool = False


class SessionStore:
    """The file that keeps a session's turns; `path` is `None` where nothing is kept.

    A session without a name gets its file once there is a turn to keep; a name is taken at once, so that two commands
    that begin with one new name do not write over each other. `release` gives back one that nothing was said under.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._taken: Path | None = None

    @classmethod
    def of(cls, name: str | None, go_on: bool, *, unnamed: bool = False) -> SessionStore:
        """For the session of this name, the last one, or a new one without a name."""
        if name is not None:
            return cls(path_of(name))
        if go_on:
            return cls(last_session())
        return cls(unnamed_path() if unnamed else None)

    @property
    def name(self) -> str:
        """What to call the session."""
        return "" if self.path is None else self.path.stem

    def keep(self, session: ChatSession) -> None:
        """Let the session write its turns to the file. Raises `SessionFileError`, also if the file exists by now."""
        if self.path is not None and session.path is None:
            session.save(self.path, replace=False)

    def take(self, session: ChatSession) -> None:
        """Go on with the file, or make it if it does not exist. Raises `SessionFileError`, also if it is in use."""
        if self.path is None:
            return
        if not self.path.exists():
            if self.path.name.startswith(UNNAMED):
                return  # nobody else has this name
            try:
                session.save(self.path, replace=False)
                self._taken = self.path
                return
            except SessionFileError:
                if not self.path.exists():
                    raise
        session.load(self.path, append=True)

    def release(self, session: ChatSession) -> None:
        """Remove a file that was made by `take` if nothing was said; the session still holds its lock."""
        taken, self._taken = self._taken, None
        if taken is not None and session.path == taken and not questions(session):
            with contextlib.suppress(OSError):
                taken.unlink()


def questions(session: ChatSession) -> int:
    """How many questions a session has."""
    return sum(message.get("role") == "user" for message in session.messages)


async def opened(client: Client, wanted: ChatOptions, shelf: SessionStore) -> ChatSession:
    """The session to go on with, or a new one, with the tools asked for. A model and a system prompt given win."""
    # A conversation that outgrows the model's context goes on without its oldest turns.
    options: dict[str, Any] = {
        "model": wanted.model,
        "system": wanted.system,
        "think_tags": True,
        "policy": "drop",
    }
    session = client.chat.session(**options)
    add_tools(session.tool, wanted.tools)
    try:
        shelf.take(session)
        if wanted.system is not None and session.system != wanted.system:
            session.system = wanted.system
        if wanted.model is not None or session.model is None:
            session.model = await choose_model(client, wanted.model, "chat")
    except BaseException:
        shelf.release(session)
        session.close()
        raise
    return session

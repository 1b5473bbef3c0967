"""What the options of `chat` ask for: with which session, kept where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .connect import choose_model
from .given import add_tools
from .state import last_session, path_of, unnamed_path

if TYPE_CHECKING:
    from ..chat.session import ChatSession
    from ..client import Client

__all__ = ["Shelf", "Wanted", "opened"]


@dataclass(frozen=True, kw_only=True)
class Wanted:
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


class Shelf:
    """The file that keeps a session's turns; `path` is `None` where nothing is kept.

    A new file is made once there is a turn to keep.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path

    @classmethod
    def of(cls, name: str | None, go_on: bool, *, unnamed: bool = False) -> Shelf:
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
        """Let the session write its turns to the file. Raises `SessionFileError`."""
        if self.path is not None and session.path is None:
            session.save(self.path)


async def opened(client: Client, wanted: Wanted, shelf: Shelf) -> ChatSession:
    """The session to go on with, or a new one, with the tools asked for. A model and a system prompt given win."""
    options: dict[str, Any] = {"model": wanted.model, "system": wanted.system, "think_tags": True}
    session = client.chat.session(**options)
    add_tools(session.tool, wanted.tools)
    try:
        if shelf.path is not None and shelf.path.exists():
            session.load(shelf.path, append=True)
            if wanted.system is not None:
                session.system = wanted.system
        if wanted.model is not None or session.model is None:
            session.model = await choose_model(client, wanted.model, "chat")
    except BaseException:
        session.close()
        raise
    return session

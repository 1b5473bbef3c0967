"""The sessions of the command line: which one `chat` goes on with, and the file that keeps it."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..chat.session_file import SessionFileError
from .arguments import add_tools, choose_model
from .console import CommandError

if TYPE_CHECKING:
    from ..chat.session import ChatSession
    from ..client import Client

__all__ = [
    "UNNAMED",
    "ChatOptions",
    "SessionStore",
    "folder",
    "last_session",
    "names",
    "opened",
    "path_of",
    "questions",
    "unnamed_path",
]

_ENDING = ".jsonl"
UNNAMED = "unnamed-"
_UNNAMED_KEPT = 20
_LONGEST = 100  # characters of a name


def folder() -> Path:
    """The folder of the sessions: ``$XDG_STATE_HOME/openaiasync/sessions``, made for its owner alone if need be.

    As the XDG base directory specification has it, the variable counts only if it is an absolute path, and its default
    is ``~/.local/state``.
    """
    given = os.environ.get("XDG_STATE_HOME", "")
    try:
        base = Path(given) if os.path.isabs(given) else Path.home() / ".local" / "state"
        found = base / "openaiasync" / "sessions"
        found.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:
        raise CommandError(f"there is no folder for sessions: {error}; XDG_STATE_HOME names another place") from None
    return found


def path_of(name: str) -> Path:
    """The file of the session of this name. `CommandError` for what cannot be a name."""
    for part, why in (("/", "a slash"), ("\\", "a backslash")):
        if part in name:
            raise CommandError(f"{name!r} has {why}, and a session's name is no path; only /save and /load take paths")
    if not name or name.startswith((".", "-", UNNAMED)) or not name.isprintable() or len(name) > _LONGEST:
        raise CommandError(
            f"{name!r} cannot be a session's name: up to {_LONGEST} printable characters that begin with none of "
            f"'.', '-' and {UNNAMED!r}"
        )
    return folder() / f"{name}{_ENDING}"


def unnamed_path() -> Path:
    """A new file for a conversation without a name; older ones of the kind make room."""
    home = folder()
    for old in _newest_first(home, UNNAMED)[_UNNAMED_KEPT - 1 :]:
        with contextlib.suppress(OSError):
            old.unlink()
    return home / f"{UNNAMED}{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}{_ENDING}"


def last_session() -> Path:
    """The session that was talked with last. `CommandError` if there is none."""
    found = _newest_first(folder())
    if not found:
        raise CommandError("there is no session to continue; the first conversation makes one")
    return found[0]


def names() -> list[str]:
    """The names of all sessions, the last used first."""
    return [path.name.removesuffix(_ENDING) for path in _newest_first(folder())]


def _newest_first(home: Path, beginning: str = "") -> list[Path]:
    found: list[tuple[float, Path]] = []
    for path in home.glob(f"{beginning}*{_ENDING}"):
        with contextlib.suppress(OSError):  # another process may have removed it
            found.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(found, reverse=True)]


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

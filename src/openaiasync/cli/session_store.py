"""The sessions of the command line: which one `chat` continues, and the file that keeps it.

There is one file for each session, below the XDG state directory, readable by its owner only. A conversation without a
name is kept, too, so that it can be continued; only the newest of these stay.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..chat.session_file import SessionFileError
from ..lazy import resolve_annotations
from .arguments import add_tools, choose_model
from .console import CommandError

if TYPE_CHECKING:
    from ..chat.session import ChatSession
    from ..client import Client

__all__ = ["ChatOptions", "SessionStore", "names", "open_session", "path_of", "questions", "unnamed_path"]

_ENDING = ".jsonl"
UNNAMED = "unnamed-"
_UNNAMED_KEPT = 20
_LONGEST = 100  # characters of a name


def folder() -> Path:
    """Return the folder of the sessions, ``$XDG_STATE_HOME/openaiasync/sessions``; create it for its owner only.

    As the XDG base directory specification says, a relative path in the variable is ignored, and the default is
    ``~/.local/state``. Raises `CommandError`.
    """
    given = os.environ.get("XDG_STATE_HOME", "")
    try:
        base = Path(given) if os.path.isabs(given) else Path.home() / ".local" / "state"
        found = base / "openaiasync" / "sessions"
        found.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:
        raise CommandError(f"there is no folder for sessions: {error}; set XDG_STATE_HOME to another place") from None
    return found


def path_of(name: str) -> Path:
    """Return the file of the session with this name. Raises `CommandError` for an invalid name."""
    for part, what in (("/", "a slash"), ("\\", "a backslash")):
        if part in name:
            raise CommandError(
                f"{name!r} contains {what}, but the name of a session is not a path; only /save and /load accept paths"
            )
    if not name or name.startswith((".", "-", UNNAMED)) or not name.isprintable() or len(name) > _LONGEST:
        raise CommandError(
            f"{name!r} cannot be the name of a session: use up to {_LONGEST} printable characters that do not start "
            f"with '.', '-' or {UNNAMED!r}"
        )
    return folder() / f"{name}{_ENDING}"


def unnamed_path() -> Path:
    """Return a new file for a conversation without a name, and remove the oldest files of this kind."""
    home = folder()
    for old in _newest_first(home, UNNAMED)[_UNNAMED_KEPT - 1 :]:
        with contextlib.suppress(OSError):
            old.unlink()
    return home / f"{UNNAMED}{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}{_ENDING}"


def last_session() -> Path:
    """Return the file of the session that was used last. Raises `CommandError` if there is none."""
    found = _newest_first(folder())
    if not found:
        raise CommandError("there is no session to continue; start a conversation first")
    return found[0]


def names() -> list[str]:
    """Return the names of all sessions, the last used first."""
    return [path.name.removesuffix(_ENDING) for path in _newest_first(folder())]


def _newest_first(home: Path, beginning: str = "") -> list[Path]:
    found: list[tuple[float, Path]] = []
    for path in home.glob(f"{beginning}*{_ENDING}"):
        with contextlib.suppress(OSError):  # another process may have removed it
            found.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(found, reverse=True)]


@dataclass(frozen=True, kw_only=True)
class ChatOptions:
    """The options of ``chat`` except those of the server."""

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
    """The file that keeps a session's turns; `path` is `None` if nothing is kept.

    A session without a name gets its file with its first turn. A name is reserved at once by `take`, so that two
    commands that start with the same new name do not write to one file; `release` removes the file if it stayed empty.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._reserved: Path | None = None

    @classmethod
    def of(cls, name: str | None, go_on: bool, *, unnamed: bool = False) -> SessionStore:
        """Return the store of the session with this name, of the last one, or of a new one without a name."""
        if name is not None:
            return cls(path_of(name))
        if go_on:
            return cls(last_session())
        return cls(unnamed_path() if unnamed else None)

    @property
    def name(self) -> str:
        """The name to show."""
        return "" if self.path is None else self.path.stem

    def keep(self, session: ChatSession) -> None:
        """Make the session save its turns to the file. Raises `SessionFileError`, also if the file exists by now."""
        if self.path is not None and session.path is None:
            session.save(self.path, replace=False)

    def take(self, session: ChatSession) -> None:
        """Continue the file, or create it if it does not exist. Raises `SessionFileError`, also if it is in use."""
        if self.path is None:
            return
        if not self.path.exists():
            if self.path.name.startswith(UNNAMED):
                return  # the name was not taken
            try:
                session.save(self.path, replace=False)
                self._reserved = self.path
                return
            except SessionFileError:
                if not self.path.exists():
                    raise
        session.load(self.path, append=True)

    def release(self, session: ChatSession) -> None:
        """Remove a file that `take` created if there is no question in it. The session still holds its lock."""
        reserved, self._reserved = self._reserved, None
        if reserved is not None and session.path == reserved and not questions(session):
            with contextlib.suppress(OSError):
                reserved.unlink()


def questions(session: ChatSession) -> int:
    """Return the number of questions in a session."""
    return sum(message.get("role") == "user" for message in session.messages)


async def open_session(client: Client, options: ChatOptions, store: SessionStore) -> ChatSession:
    """Return the session to continue, or a new one, with the tools, model and system prompt of the options."""
    settings: dict[str, Any] = {
        "model": options.model,
        "system": options.system,
        "think_tags": True,
        "policy": "drop",  # a conversation that exceeds the model's context continues without its oldest turns
    }
    session = client.chat.session(**settings)
    add_tools(session.tool, options.tools)
    try:
        store.take(session)
        if options.system is not None and session.system != options.system:
            session.system = options.system
        if options.model is not None or session.model is None:
            session.model = await choose_model(client, options.model, "chat")
    except BaseException:
        store.release(session)
        session.close()
        raise
    return session


resolve_annotations(__name__)

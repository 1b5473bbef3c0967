"""The sessions of the command line: which one `chat` continues, and the file that keeps it.

There is one file for each session, below the XDG state directory, readable by its owner only. A conversation without a
name is kept, too, so that it can be continued; only the newest of these stay.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..chat.session_file import SessionFileError
from ..lazy import resolve_annotations
from .arguments import add_functions, add_tools, choose_model
from .console import CommandError
from .folders import check_name, state_folder

if TYPE_CHECKING:
    from ..chat.session import ChatSession
    from ..client import Client
    from .chat_log import Resumed
    from .chat_options import ChatOptions

__all__ = ["SessionStore", "last_session", "names", "open_session", "path_of", "questions", "unnamed_path"]

_ENDING = ".jsonl"
UNNAMED = "unnamed-"
_UNNAMED_KEPT = 20


def folder() -> Path:
    """Return the folder of the sessions, ``$XDG_STATE_HOME/openaiasync/sessions``. Raises `CommandError`."""
    return state_folder("sessions")


def path_of(name: str) -> Path:
    """Return the file of the session with this name. Raises `CommandError` for an invalid name."""
    check_name(name, "session", reserved=UNNAMED, hint="; only /save and /load accept paths")
    return folder() / f"{name}{_ENDING}"


def unnamed_path() -> Path:
    """Return a new file for a conversation without a name, and remove the oldest files of this kind."""
    home = folder()
    for old in _newest_first(home, UNNAMED)[_UNNAMED_KEPT - 1 :]:
        with contextlib.suppress(OSError):
            old.unlink()
    return home / f"{UNNAMED}{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}{_ENDING}"


def last_session() -> Path:
    """Return the file of the session that was used last. Raises `CommandError` without a saved session."""
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


class SessionStore:
    """The file that keeps a session's turns; `path` is `None` if nothing is kept.

    A session without a name gets its file with its first turn. A name is reserved at once by `take`, so that two
    commands that start with the same new name do not write to one file; `release` removes the file if it stayed empty.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._reserved: Path | None = None

    @classmethod
    def of(cls, name: str | None, resumed: Path | None = None, *, unnamed: bool = False) -> SessionStore:
        """Return the store of the session with this name, of the resumed one, or of a new one without a name."""
        if name is not None:
            return cls(path_of(name))
        if resumed is not None:
            return cls(resumed)
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


async def open_session(
    client: Client, options: ChatOptions, store: SessionStore, resumed: Resumed | None = None
) -> ChatSession:
    """Return the session to continue, or a new one, with the tools, model and system prompt of the options.

    A conversation that is `resumed` from the log gives a new session its messages.
    """
    settings: dict[str, Any] = {
        "model": options.model,
        "system": options.system,
        "think_tags": True,
        "policy": "drop",  # a conversation that exceeds the model's context continues without its oldest turns
    }
    if resumed is not None and resumed.conversation is not None:
        settings["messages"] = resumed.messages
        settings["model"] = options.model or resumed.model
        settings["system"] = resumed.system if options.system is None else options.system
    session = client.chat.session(**settings)
    add_tools(session.tool, options.tools)
    if options.functions is not None:
        add_functions(session.tool, options.functions)
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

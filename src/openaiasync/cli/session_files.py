"""Where conversations are kept between commands: one file each, below the XDG state folder, readable by their owner.

A conversation without a name is kept too, so that it can be continued; of these only the newest stay.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from pathlib import Path

from .output import CommandError

__all__ = ["UNNAMED", "folder", "last_session", "names", "path_of", "unnamed_path"]

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

"""Where the command line keeps its files: what it saves for the user, and the settings that the user makes.

Both folders are readable by their owner only. As the XDG base directory specification says, ``$XDG_STATE_HOME`` and
``$XDG_CONFIG_HOME`` name the places if they are absolute paths; the defaults are ``~/.local/state`` and ``~/.config``,
on Windows ``%LOCALAPPDATA%`` and ``%APPDATA%``.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, cast

from ..storage.disk import FileInUseError, LockedFile, open_locked, read_file
from .console import CommandError

__all__ = ["SettingsFile", "check_name", "config_folder", "state_folder"]

_LONGEST = 100  # characters of a name
_LARGEST = 4 << 20  # bytes of a file of settings
_PATIENCE = 5.0  # seconds that another command may hold a file of settings
_CONFIG = ("XDG_CONFIG_HOME", "APPDATA", (".config",))
_POLL = 0.02  # seconds between two attempts to lock it


def state_folder(*names: str) -> Path:
    """Return the folder for what the command line saves, or one below it; create it. Raises `CommandError`."""
    return _folder("XDG_STATE_HOME", "LOCALAPPDATA", (".local", "state"), names)


def config_folder(*names: str) -> Path:
    """Return the folder for the user's settings, or one below it; create it. Raises `CommandError`."""
    return _folder(*_CONFIG, names)


def _base(variable: str, windows: str, default: tuple[str, ...]) -> Path:
    """Return the folder that holds ours. Raises `RuntimeError` if the user has no home."""
    places = [os.environ.get(variable, "")]
    if sys.platform == "win32":
        places.append(os.environ.get(windows, ""))
    found = next((Path(place) for place in places if os.path.isabs(place)), None)
    return found or Path.home().joinpath(*default)


def _folder(variable: str, windows: str, default: tuple[str, ...], names: tuple[str, ...]) -> Path:
    try:
        found = _base(variable, windows, default).joinpath("openaiasync", *names)
        found.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:
        where = f" {error.filename}" if isinstance(error, OSError) and error.filename else ""
        why = (error.strerror if isinstance(error, OSError) else None) or error
        raise CommandError(f"cannot create the folder{where}: {why}; set {variable} to another place") from None
    return found


def check_name(name: str, what: str, *, reserved: str = "", hint: str = "") -> None:
    """Raise `CommandError` unless `name` can be the name of a file in a folder; `what` it names is for the message.

    Names that start with `reserved` are refused; `hint` says where paths are accepted.
    """
    for part, called in (("/", "a slash"), ("\\", "a backslash")):
        if part in name:
            raise CommandError(f"{name!r} contains {called}, but the name of a {what} is not a path{hint}")
    beginnings = (".", "-", *([reserved] if reserved else []))
    if not name or name.startswith(beginnings) or not name.isprintable() or len(name) > _LONGEST:
        excluded = " or ".join(filter(None, [", ".join(map(repr, beginnings[:-1])), repr(beginnings[-1])]))
        raise CommandError(
            f"{name!r} cannot be the name of a {what}: use up to {_LONGEST} printable characters that do not start "
            f"with {excluded}"
        )


class SettingsFile:
    """A JSON object in the settings folder, which several commands may change at the same time."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def path(self) -> Path:
        """The file. Raises `CommandError` if there is no folder for it."""
        return config_folder() / self._name

    def exists(self) -> bool:
        """Return whether there is a file. Creates no folder: most users have no settings."""
        try:
            return (_base(*_CONFIG) / "openaiasync" / self._name).exists()
        except (OSError, RuntimeError):
            return False

    def read(self) -> dict[str, Any]:
        """Return the settings; empty without a file. Raises `CommandError` for a file that cannot be used."""
        if not self.exists():
            return {}
        path = self.path
        try:
            value: object = json.loads(read_file(path, _LARGEST) or b"{}")
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise CommandError(f"cannot read {path}: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise CommandError(f"{path} is not JSON: {error}; correct it or remove it") from None
        if not isinstance(value, dict):
            raise CommandError(f"{path} is not a JSON object; correct it or remove it")
        return cast("dict[str, Any]", value)

    def change(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Apply a function to the settings and write them, as a whole or not at all, readable by the owner only.

        Raises `CommandError`, also if another command holds the file for five seconds.
        """
        from ..storage.atomic import AtomicFile

        path = self.path
        try:
            with _locked(path.with_name(f".{self._name}.lock")):
                settings = self.read()
                change(settings)
                if path.exists() and os.name != "nt":
                    path.chmod(0o600)  # it may have been written by hand; the mode of an existing file is kept
                file = AtomicFile.open(path, mode=0o600)
                try:
                    file.write(json.dumps(settings, indent=2, ensure_ascii=False).encode() + b"\n")
                    file.commit()
                finally:
                    file.discard()
        except FileInUseError:
            raise CommandError(f"{path} is in use by another command; try again") from None
        except OSError as error:
            raise CommandError(f"cannot write {path}: {error.strerror}") from None


@contextlib.contextmanager
def _locked(path: Path) -> Generator[None, None, None]:
    """Hold the lock of a file, which stays empty. Raises `OSError`."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    end = time.monotonic() + _PATIENCE
    lock: LockedFile | None = None
    while lock is None:
        try:
            lock = open_locked(str(path))
        except FileInUseError:
            if time.monotonic() > end:
                raise
            time.sleep(_POLL)
    try:
        yield
    finally:
        lock.close()

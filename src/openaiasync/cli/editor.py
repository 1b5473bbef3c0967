"""Write a question in the user's editor."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Generator
from pathlib import Path

from ..storage.disk import read_file
from .console import CommandError

__all__ = ["edited_text"]

_LARGEST = 64 << 20  # bytes
_FALLBACKS = ("notepad",) if os.name == "nt" else ("sensible-editor", "nano", "vi")


def edited_text(text: str) -> str:
    """Open a text in ``$VISUAL``, ``$EDITOR`` or an editor of the system, and return it as it was saved, stripped.

    Blocks until the editor ends. Raises `CommandError` if no editor is found, it fails, or the text is not UTF-8.
    """
    command = _editor()
    descriptor, file_name = tempfile.mkstemp(prefix="openaiasync-", suffix=".md")  # for its owner only
    path = Path(file_name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
        try:
            with _interrupts_left_to_the_editor():
                code = subprocess.run([*command, file_name], check=False).returncode
        except OSError as error:
            raise CommandError(f"cannot run the editor {command[0]}: {error.strerror}; set EDITOR to another") from None
        if code:
            name = os.path.basename(command[0])
            raise CommandError(f"the editor {name} ended with exit code {code}; nothing was sent")
        try:
            return read_file(path, _LARGEST).decode("utf-8-sig").strip()
        except OSError as error:
            raise CommandError(f"cannot read what the editor wrote: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise CommandError(f"what the editor wrote is not UTF-8 text: {error.reason}") from None
    finally:
        path.unlink(missing_ok=True)


def _editor() -> list[str]:
    for variable in ("VISUAL", "EDITOR"):
        if given := os.environ.get(variable, "").strip():
            try:
                return shlex.split(given, posix=os.name != "nt")
            except ValueError as error:
                raise CommandError(f"{variable} is not a command: {error}") from None
    found = next((name for name in _FALLBACKS if shutil.which(name)), None)
    if found is None:
        raise CommandError("there is no editor; set EDITOR to the one that you use")
    return [found]


@contextlib.contextmanager
def _interrupts_left_to_the_editor() -> Generator[None, None, None]:
    """Keep Ctrl-C, which the terminal sends to both programs, from ending the conversation meanwhile."""
    # A handler and not SIG_IGN, which the editor would inherit.
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

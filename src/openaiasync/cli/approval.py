"""Ask on the terminal before a tool is called: ``chat --approve``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Generator
from typing import TYPE_CHECKING

from ..lazy import resolve_annotations
from .console import note, printable

if TYPE_CHECKING:
    from ..chat.reply import ToolCall

__all__ = ["Approval"]

_ANSWERS = {"y": True, "yes": True, "n": False, "no": False, "a": True, "always": True}
_LONGEST = 2_000  # characters of a call's arguments that are shown
_DENIED = "the user did not approve this call"


class Approval:
    """The `permit` hook that asks the user: yes, no, or always for this tool. Without a terminal it denies."""

    def __init__(self) -> None:
        self._always: set[str] = set()

    async def __call__(self, call: ToolCall) -> bool | str:
        """Return whether a call may run, or the reason for the model why it may not."""
        if call.name in self._always:
            return True
        with _terminal() as terminal:
            if terminal is None:
                note(f"{call.name} was not called: --approve asks on a terminal, and this process has no terminal.")
                return "it needs the user's approval, and there is no terminal to ask on"
            arguments = call.arguments if len(call.arguments) <= _LONGEST else f"{call.arguments[:_LONGEST]}…"
            question = f"Call {call.name}({printable(arguments)})? [y]es, [n]o, [a]lways this tool: "
            while (word := await _line(terminal, question)) is not None:
                answer = _ANSWERS.get(word.strip().lower())
                if answer and word.strip().lower().startswith("a"):
                    self._always.add(call.name)
                if answer is not None:
                    return answer or _DENIED
        sys.stderr.write("\n")  # the end of the input (Ctrl-D) leaves the cursor behind the question
        return _DENIED


@contextlib.contextmanager
def _terminal() -> Generator[int | None, None, None]:
    """Yield the descriptor of the terminal to read from; `None` without a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
    elif sys.stdin is not None and sys.stdin.isatty():
        yield sys.stdin.fileno()
    else:  # stdin is the question
        try:
            opened = os.open("CONIN$" if os.name == "nt" else "/dev/tty", os.O_RDONLY)
        except OSError:
            yield None
            return
        try:
            yield opened
        finally:
            os.close(opened)


async def _line(terminal: int, question: str) -> str | None:
    """Ask on stderr and return the line that is typed; `None` for the end of the input. May be cancelled."""
    sys.stderr.write(question)
    sys.stderr.flush()
    loop = asyncio.get_running_loop()
    if os.name == "nt":  # its event loop cannot wait for a console
        return await asyncio.to_thread(_typed, terminal)
    ready = asyncio.Event()
    loop.add_reader(terminal, ready.set)
    try:
        await ready.wait()
    except asyncio.CancelledError:
        sys.stderr.write("\n")
        raise
    finally:
        loop.remove_reader(terminal)
    return _typed(terminal)


def _typed(terminal: int) -> str | None:
    """Read one line: the terminal hands out whole lines. `None` at the end of the input."""
    data = os.read(terminal, 4_096)
    return data.decode("utf-8", "replace") if data else None


resolve_annotations(__name__)

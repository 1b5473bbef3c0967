"""Where a person types: with history, editing and pasting of several lines on a terminal, plainly where it is dumb."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .render import is_dumb

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.key_binding import KeyBindings

__all__ = ["EditedPrompt", "LinePrompt", "prompt_for"]

_PROMPT = "> "


class LinePrompt:
    """Reads a line as the system gives it. The prompt goes to stderr where stdout is no terminal: stdout is data."""

    def __init__(self) -> None:
        reconfigure = getattr(sys.stdin, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")  # bytes that are no text end nothing
        if not is_dumb():
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401  # pyright: ignore[reportUnusedImport]  # its import is its effect

    def remember(self, text: str) -> None:
        """Put what was once asked where the arrow keys find it; here nowhere."""

    def read(self) -> str | None:
        """What was typed, stripped; "" for nothing or Ctrl-C, `None` for the end (Ctrl-D)."""
        try:
            return self._line().strip()
        except KeyboardInterrupt:
            sys.stderr.write("\n")
            return ""
        except EOFError:
            sys.stderr.write("\n")
            return None

    def _line(self) -> str:
        if sys.stdout.isatty():
            return input(_PROMPT)
        sys.stderr.write(_PROMPT)
        sys.stderr.flush()
        return input()


class EditedPrompt(LinePrompt):
    """The same with prompt_toolkit: arrows, search, completion of commands, pasted lines as they are."""

    def __init__(self, commands: Sequence[str]) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import WordCompleter
        from prompt_toolkit.history import InMemoryHistory
        from prompt_toolkit.shortcuts import CompleteStyle

        self._history = InMemoryHistory()
        self._session: PromptSession[str] = PromptSession(
            _PROMPT,
            multiline=True,  # pasted line ends are text; Enter ends the question all the same
            prompt_continuation=_continuation,
            key_bindings=_bindings(),
            history=self._history,
            completer=WordCompleter(list(commands), sentence=True),
            complete_while_typing=False,
            complete_style=CompleteStyle.READLINE_LIKE,
            reserve_space_for_menu=0,
        )
        output: Any = self._session.app.output
        output.enable_cpr = (
            False  # nothing here needs the cursor's place, and terminals that do not tell it are warned of
        )

    def remember(self, text: str) -> None:
        self._history.append_string(text)

    def _line(self) -> str:
        text = self._session.prompt()
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _continuation(width: int, line: int, wrapped: int) -> str:
    return ". ".rjust(width)


def _bindings() -> KeyBindings:
    from prompt_toolkit.key_binding import KeyBindings

    bindings = KeyBindings()

    @bindings.add("enter")
    @bindings.add("c-j")  # what programs send that type for a person
    def _(event: Any) -> None:
        event.current_buffer.validate_and_handle()

    @bindings.add("escape", "enter")
    def _(event: Any) -> None:
        event.current_buffer.insert_text("\n")

    return bindings


def prompt_for(commands: Sequence[str]) -> LinePrompt:
    """The best prompt that this terminal takes."""
    if sys.stdout.isatty() and not is_dumb():
        with contextlib.suppress(ImportError):
            return EditedPrompt(commands)
    return LinePrompt()

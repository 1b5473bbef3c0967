"""The prompt of a conversation: history, editing and multi-line pasting on a terminal, plain lines on a dumb one."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..lazy import resolve_annotations
from .render import is_dumb

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.key_binding import KeyBindings

__all__ = ["EditedPrompt", "LinePrompt", "prompt_for"]

_PROMPT = "> "


class LinePrompt:
    """Reads plain lines. The prompt goes to stderr if stdout is not a terminal: stdout is for data."""

    def __init__(self) -> None:
        reconfigure = getattr(sys.stdin, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")  # bytes that are not text must not end the conversation
        if not is_dumb():
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401  # pyright: ignore[reportUnusedImport]  # importing it has the effect

    def remember(self, text: str) -> None:
        """Add an earlier question to the history of the arrow keys, if there is one."""

    def read(self) -> str | None:
        """Return what was typed, stripped; "" for nothing or Ctrl-C, `None` for the end of the input (Ctrl-D)."""
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
    """A prompt by prompt_toolkit: arrow keys, search, completion of commands, pasting of several lines."""

    def __init__(self, commands: Sequence[str]) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import WordCompleter
        from prompt_toolkit.history import InMemoryHistory
        from prompt_toolkit.shortcuts import CompleteStyle

        self._history = InMemoryHistory()
        self._session: PromptSession[str] = PromptSession(
            _PROMPT,
            multiline=True,  # so that pasted line ends are text; Enter still ends the question
            prompt_continuation=_continuation,
            key_bindings=_bindings(),
            history=self._history,
            completer=WordCompleter(list(commands), sentence=True),
            complete_while_typing=False,
            complete_style=CompleteStyle.READLINE_LIKE,
            reserve_space_for_menu=0,
        )
        output: Any = self._session.app.output
        # The position of the cursor is not needed, and terminals that do not report it would cause a warning.
        output.enable_cpr = False

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
    @bindings.add("c-j")  # sent by programs that type for a person
    def _(event: Any) -> None:
        event.current_buffer.validate_and_handle()

    @bindings.add("escape", "enter")
    def _(event: Any) -> None:
        event.current_buffer.insert_text("\n")

    return bindings


def prompt_for(commands: Sequence[str]) -> LinePrompt:
    """Return the best prompt that this terminal supports."""
    if sys.stdout.isatty() and not is_dumb():
        with contextlib.suppress(ImportError):
            return EditedPrompt(commands)
    return LinePrompt()


resolve_annotations(__name__)

"""What turns and sessions raise beside the errors of their calls; the tree in `errors.py` shows their place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import OpenAIError, Side

if TYPE_CHECKING:
    from .reply import ToolCall

__all__ = ["BudgetError", "ContextLimitError", "SessionFileError", "TooManyRoundsError", "ToolError"]


class ContextLimitError(OpenAIError, ValueError):
    """A session's next request would not fit its `context_limit`; nothing was sent.

    `tokens` is what it needs, `limit` what it may have, `source` who counted: ``"server"``, ``"tokenizer"`` or
    ``"estimate"``.
    """

    def __init__(self, message: str, *, tokens: int, limit: int, source: str) -> None:
        super().__init__(message)
        self.tokens: int = tokens
        self.limit: int = limit
        self.source: str = source


class BudgetError(OpenAIError):
    """A session's next request would pass its `budget`; it was not sent. Amounts are in the currency of the prices.

    `spent` is what the session has cost so far, `needed` what the request would at least cost.
    """

    def __init__(self, *, spent: float, needed: float, budget: float) -> None:
        super().__init__(
            f"The next request needs about {needed:.6g}, {spent:.6g} of the budget of {budget:.6g} are spent; "
            "nothing was sent."
        )
        self.spent: float = spent
        self.needed: float = needed
        self.budget: float = budget


class SessionFileError(OpenAIError, OSError):
    """A saved session cannot be read or written: no such file, another kind, in use elsewhere, damaged, disk full."""


class ToolError(OpenAIError):
    """A tool call failed. Raise it in a tool to tell the model just the text; a turn raises it if told to.

    A turn with ``on_tool_error="raise"`` raises it for whatever goes wrong with a call: a tool that does not exist,
    arguments that do not fit, a result that JSON cannot carry, or an exception of the tool, which is the `__cause__`.
    `call` is the call, `partial` the `Reply` so far.
    """

    call: ToolCall | None = None

    def __init__(self, message: str, *, call: ToolCall | None = None) -> None:
        super().__init__(message)
        self.message: str = message
        self.call = call


class TooManyRoundsError(OpenAIError):
    """The model still asked for tools after `max_rounds` answers; the last calls were not run.

    `partial` is the `Reply` so far. Its `messages` are the finished rounds, so that a later turn can go on from there.
    """

    side: Side = "server"

    def __init__(self, max_rounds: int) -> None:
        super().__init__(f"The model still asks for tools after {max_rounds} answers; allow more with max_rounds.")
        self.max_rounds: int = max_rounds

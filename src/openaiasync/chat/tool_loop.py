"""A turn without I/O: the next request, the interpretation of an answer, the messages for the history."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import msgspec

from ..core.codec.dialects import failed_generation
from ..core.schema.structured import Shape, ShapeError, repair_message
from ..engine.failures import invalid_answer
from ..errors import (
    APIError,
    ContentFilterFinishReasonError,
    LengthFinishReasonError,
    RefusalError,
    StructuredOutputError,
)
from ..lazy import resolve_annotations
from .format_fallback import FormatFallback
from .history import sendable
from .messages import ParsedAnswer, ids_in, read_answer
from .reply import Reply, ToolCall, ToolResult, TooManyRoundsError
from .turn_options import TurnOptions

if TYPE_CHECKING:
    from ..types.chat import ChatCompletion

__all__ = ["ToolLoop"]


class ToolLoop:
    """The rounds of one turn.

    Send `params`, give the answer to `take`, run `calls` and give their results to `add_results`. After `take` either
    `done` is set, or `calls` must be run, or the model must be asked again because of a `problem`. `fallback` requests
    the type in the options.
    """

    def __init__(
        self,
        messages: Iterable[Any],
        params: Mapping[str, Any],
        options: TurnOptions,
        fallback: FormatFallback | None = None,
    ) -> None:
        self.options = options
        self.fallback = fallback
        self._params = params
        self._messages: list[Any] = list(messages)
        self._ids = ids_in(self._messages)
        self._reply: Reply[Any] = Reply()
        self._calling: dict[str, Any] = {}  # the message whose calls are being run
        self._rounds = 0  # of tool calls
        self._repairs = 0
        self.calls: list[ToolCall] = []
        self.problem: str = ""
        self.done: bool = False

    def params(self) -> dict[str, Any]:
        """Return the parameters of the next request."""
        made = {**self._params, "messages": list(self._messages)}
        tools = self.options.tools
        if tools:
            made["tools"] = tools.params()
            if self._rounds and _forces(made.get("tool_choice")):
                made["tool_choice"] = "auto"  # otherwise the model could never answer with text
        return made if self.fallback is None else self.fallback.params(made)

    def take(self, answer: ChatCompletion) -> None:
        """Interpret an answer.

        Raises `TooManyRoundsError`; `LengthFinishReasonError` and `ContentFilterFinishReasonError` for calls and
        objects that were cut; `RefusalError`, or after all repairs `StructuredOutputError`, instead of an object.
        """
        self.calls, self.problem = [], ""
        options = self.options
        parsed = self._read(answer)
        self._reply.answers.append(answer)
        self._reply.text, self._reply.reasoning = parsed.text, parsed.reasoning
        if parsed.calls:
            _refuse_cut(parsed, answer)
            if self._rounds + 1 >= options.max_rounds:
                raise TooManyRoundsError(options.max_rounds)
            self._calling, self.calls = parsed.message, parsed.calls
        elif self.fallback is None or options.into is None or self._parse(parsed, answer, options.into, self.fallback):
            self._add(parsed.message)
            self.done = True

    def retry_after(self, error: APIError) -> bool:
        """Return whether an error is the model's mistake, so that it is asked again: a server withheld invalid JSON.

        Raises `StructuredOutputError` after all repairs.
        """
        text, shape = failed_generation(error), self.options.into
        if text is None or shape is None or self.fallback is None:
            return False
        self.calls, self.problem = [], ""
        try:
            shape.decode(text)
            problem = ShapeError(error.message, text=text, name=shape.name)
        except ShapeError as caught:
            problem = caught
        if self._repairs >= self.options.repair:
            failure = StructuredOutputError(f"{problem} ({error.message})", answer=None, problem=problem)
            failure.text, failure.meta = text, error.meta
            raise failure from error
        self._repairs += 1
        self.problem = problem.message
        if text:
            self._messages += sendable([{"role": "assistant", "content": text}, repair_message(problem)])
        return True

    def add_results(self, results: Sequence[ToolResult]) -> None:
        """Add the results of `calls`, one for each, in their order."""
        self._rounds += 1
        self._add(self._calling, *(result.message() for result in results))
        self._reply.tool_calls += results
        self.calls = []

    def reply(self) -> Reply[Any]:
        """Return the reply of the finished turn."""
        return self._reply

    def partial(self, answer: Any = None) -> Reply[Any]:
        """Return a copy of the reply so far, with the received part of an unfinished `answer`."""
        reply = msgspec.structs.replace(
            self._reply,
            answers=list(self._reply.answers),
            messages=list(self._reply.messages),
            tool_calls=list(self._reply.tool_calls),
        )
        if answer is not None and not any(answer is one for one in reply.answers):
            reply.answers.append(answer)
            with contextlib.suppress(RecursionError):  # nested too deeply: only the answer itself shows it
                parsed = read_answer(answer, set(), think_tags=self.options.think_tags)
                reply.text, reply.reasoning = parsed.text, parsed.reasoning
        return reply

    def _read(self, answer: ChatCompletion) -> ParsedAnswer:
        keep_reasoning, think_tags = self.options.keep_reasoning, self.options.think_tags
        try:
            parsed = read_answer(answer, self._ids, keep_reasoning=keep_reasoning, think_tags=think_tags)
            return parsed._replace(message=sendable([parsed.message])[0])
        except RecursionError:
            raise invalid_answer(answer.meta, b"", "the answer is nested too deeply to be sent back") from None

    def _add(self, *messages: dict[str, Any]) -> None:
        made = sendable(messages)
        self._reply.messages += made
        self._messages += made

    def _parse(self, parsed: ParsedAnswer, answer: ChatCompletion, shape: Shape[Any], fallback: FormatFallback) -> bool:
        """Decode the object; return `False` if the model has to try again."""
        if parsed.refusal:
            raise RefusalError(parsed.refusal, answer=answer)
        _refuse_cut(parsed, answer)
        try:
            self._reply.parsed = shape.decode(parsed.text)
        except ShapeError as error:
            if self._repairs >= self.options.repair:
                raise StructuredOutputError(str(error), answer=answer, problem=error) from error
            self._repairs += 1
            self.problem = error.message
            self._messages += sendable([parsed.message, fallback.repair(error)])
            return False
        return True


def _refuse_cut(parsed: ParsedAnswer, answer: ChatCompletion) -> None:
    if parsed.finish_reason == "length":
        raise LengthFinishReasonError(completion=answer)
    if parsed.finish_reason == "content_filter":
        raise ContentFilterFinishReasonError(completion=answer)


def _forces(choice: Any) -> bool:
    """Return whether a ``tool_choice`` makes the model call a tool in every answer."""
    if not isinstance(choice, Mapping):
        return bool(choice == "required")
    allowed: Any = cast("Any", choice).get("allowed_tools")
    return not isinstance(allowed, Mapping) or cast("Any", allowed).get("mode") == "required"


resolve_annotations(__name__)

"""A turn without I/O: what to ask next, what an answer means, what the turn adds to the history."""

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
from .format_fallback import FormatFallback
from .history import sendable
from .messages import ParsedAnswer, ids_in, read_answer
from .reply import Reply, ToolCall, ToolResult, TooManyRoundsError
from .turn_options import TurnOptions

if TYPE_CHECKING:
    from ..types.chat import ChatCompletion

__all__ = ["ToolLoop"]

_ELSEWHERE = {
    "n": "a turn has one answer; leave n out",
    "tools": "give tools as functions, not among the parameters of the request",
    "response_format": "the type given as into= says it",
    "functions": "tools have taken their place",
    "function_call": "tool_choice has taken its place",
    "stream": "a method with stream in its name streams",
}
_HARMLESS = {"n": 1, "stream": False}


class ToolLoop:
    """The rounds of one turn. Ask with `params`, hand the answer to `take`, and the results of `calls` to `told`.

    After `take`: either `done`, or `calls` are to be run, or the model is to be asked again because of a `problem`.
    `ladder` says how to ask for the type that the options name.
    """

    def __init__(
        self,
        messages: Iterable[Any],
        params: Mapping[str, Any],
        options: TurnOptions,
        ladder: FormatFallback | None = None,
    ) -> None:
        self.options = options
        self.ladder = ladder
        self._given = _checked(params, options)
        self._asked: list[Any] = list(messages)
        self._taken = ids_in(self._asked)
        self._reply: Reply[Any] = Reply()
        self._waiting: dict[str, Any] = {}  # the message whose calls are being run
        self._rounds = 0  # of tools
        self._repairs = 0
        self.calls: list[ToolCall] = []
        self.problem: str = ""
        self.done: bool = False

    def params(self) -> dict[str, Any]:
        """The parameters of the next request."""
        made = {**self._given, "messages": list(self._asked)}
        tools = self.options.tools
        if tools:
            made["tools"] = tools.params()
            if self._rounds and _forces(made.get("tool_choice")):
                made["tool_choice"] = "auto"  # the model would call tools for ever
        return made if self.ladder is None else self.ladder.params(made)

    def take(self, answer: ChatCompletion) -> None:
        """See what an answer means.

        Raises `TooManyRoundsError`; `LengthFinishReasonError` and `ContentFilterFinishReasonError` for calls and
        objects that were cut; `RefusalError` and, after all repairs, `StructuredOutputError` for an object that did not
        come.
        """
        self.calls, self.problem = [], ""
        options = self.options
        said = self._read(answer)
        self._reply.answers.append(answer)
        self._reply.text, self._reply.reasoning = said.text, said.reasoning
        if said.calls:
            _refuse_torn(said, answer)
            if self._rounds + 1 >= options.max_rounds:
                raise TooManyRoundsError(options.max_rounds)
            self._waiting, self.calls = said.message, said.calls
        elif self.ladder is None or options.into is None or self._parse(said, answer, options.into, self.ladder):
            self._add(said.message)
            self.done = True

    def slipped(self, error: APIError) -> bool:
        """Whether an error is a slip of the model, which is to try again: the server held back what is not JSON.

        Raises `StructuredOutputError` after all repairs.
        """
        text, shape = failed_generation(error), self.options.into
        if text is None or shape is None or self.ladder is None:
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
            self._asked += sendable([{"role": "assistant", "content": text}, repair_message(problem)])
        return True

    def told(self, results: Sequence[ToolResult]) -> None:
        """The model's calls were run: one result for each, in their order."""
        self._rounds += 1
        self._add(self._waiting, *(result.message() for result in results))
        self._reply.tool_calls += results
        self.calls = []

    def reply(self) -> Reply[Any]:
        """What the turn ended with."""
        return self._reply

    def partial(self, answer: Any = None) -> Reply[Any]:
        """The turn so far, with the beginning of an answer if one is under way."""
        reply = msgspec.structs.replace(
            self._reply,
            answers=list(self._reply.answers),
            messages=list(self._reply.messages),
            tool_calls=list(self._reply.tool_calls),
        )
        if answer is not None and not any(answer is one for one in reply.answers):
            reply.answers.append(answer)
            with contextlib.suppress(RecursionError):  # what is nested too deeply stays in the answer alone
                said = read_answer(answer, set(), think_tags=self.options.think_tags)
                reply.text, reply.reasoning = said.text, said.reasoning
        return reply

    def _read(self, answer: ChatCompletion) -> ParsedAnswer:
        """What an answer says, its message in a form that can be sent back."""
        keep_reasoning, think_tags = self.options.keep_reasoning, self.options.think_tags
        try:
            said = read_answer(answer, self._taken, keep_reasoning=keep_reasoning, think_tags=think_tags)
            return said._replace(message=sendable([said.message])[0])
        except RecursionError:
            raise invalid_answer(answer.meta, b"", "the answer is nested too deeply to be sent back") from None

    def _add(self, *messages: dict[str, Any]) -> None:
        made = sendable(messages)
        self._reply.messages += made
        self._asked += made

    def _parse(self, said: ParsedAnswer, answer: ChatCompletion, shape: Shape[Any], ladder: FormatFallback) -> bool:
        """Make the object; `False` if the model has to try again."""
        if said.refusal:
            raise RefusalError(said.refusal, answer=answer)
        _refuse_torn(said, answer)
        try:
            self._reply.parsed = shape.decode(said.text)
        except ShapeError as error:
            if self._repairs >= self.options.repair:
                raise StructuredOutputError(str(error), answer=answer, problem=error) from error
            self._repairs += 1
            self.problem = error.message
            self._asked += sendable([said.message, ladder.repair(error)])
            return False
        return True


def _checked(params: Mapping[str, Any], options: TurnOptions) -> dict[str, Any]:
    given = {name: value for name, value in params.items() if value is not None or name not in _ELSEWHERE}
    for name, harmless in _HARMLESS.items():
        if given.get(name) == harmless:
            del given[name]
    for name, reason in _ELSEWHERE.items():
        if name in given and (name != "response_format" or options.into is not None):
            raise TypeError(f"{name} cannot be given here: {reason}")
    return given


def _refuse_torn(said: ParsedAnswer, answer: ChatCompletion) -> None:
    if said.finish_reason == "length":
        raise LengthFinishReasonError(completion=answer)
    if said.finish_reason == "content_filter":
        raise ContentFilterFinishReasonError(completion=answer)


def _forces(choice: Any) -> bool:
    """Whether a ``tool_choice`` makes the model call a tool each time."""
    if not isinstance(choice, Mapping):
        return bool(choice == "required")
    allowed: Any = cast("Any", choice).get("allowed_tools")
    return not isinstance(allowed, Mapping) or cast("Any", allowed).get("mode") == "required"

"""``into=``: answers as values of a type, validated, and requested again if they do not fit.

The schema is sent in the best form that the server accepts: as `json_schema`, as `json_object`, or in the prompt. After
a refusal the run continues with the next form. A row whose answer does not fit is sent again with the validation error,
at most `repair` times.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from ..core.codec.dialects import refuses_format
from ..core.codec.endpoint import Request
from ..core.model.plain import as_list, is_dict, json_of, mended_json
from ..core.schema.structured import Shape, ShapeError, repair_message, shape_of
from ..errors import (
    APIError,
    ContentFilterFinishReasonError,
    LengthFinishReasonError,
    OpenAIError,
    RefusalError,
    StructuredOutputError,
)
from .row import Outcome, Work

__all__ = ["Into"]

LEVELS = ("json_schema", "json_object", "prompt")


class Into:
    """The type of a run's answers, and the number of repairs of an invalid one.

    `kind` is a type as for `client.chat.parse(into=)`. Raises `TypeError` for a type without a schema, and
    `ValueError` for a number of repairs below 0.
    """

    def __init__(self, kind: Any, repair: int = 1) -> None:
        if isinstance(repair, bool) or not isinstance(repair, int) or repair < 0:  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may give anything
            raise ValueError(f"repair is a whole number from 0 up, not {repair!r}")
        self.shape: Shape[Any] = shape_of(kind)
        self.repair: int = repair
        self.level: int = 0
        self._repairs: dict[int, int] = {}  # by index, of rows that had a wrong answer
        self._levels: dict[int, int] = {}  # by index, of rows that were sent at another level

    def prepare(self, request: Request, index: int) -> None:
        """Add the type to the request of a row."""
        body = self._body(request)
        if self.level != 0:
            self._levels[index] = self.level
        request.body = msgspec.json.encode(self._asking(request, body))

    def _body(self, request: Request) -> dict[str, Any]:
        if request.endpoint.path not in ("/chat/completions", "/responses"):
            raise TypeError(f"into= needs chat completions or responses, not {request.endpoint.path}")
        return cast("dict[str, Any]", msgspec.json.decode(request.body))

    def _asking(self, request: Request, body: dict[str, Any]) -> dict[str, Any]:
        level = LEVELS[self.level]
        if request.endpoint.path == "/responses":
            form = self.shape.text_format() if level == "json_schema" else {"type": "json_object"}
            body = {key: value for key, value in body.items() if key != "text"}
            if level != "prompt":
                body["text"] = {"format": form}
            if level != "json_schema":
                body["input"] = _with_words(body.get("input"), self.shape.instructions())
            return body
        body = {key: value for key, value in body.items() if key != "response_format"}
        if level == "json_schema":
            body["response_format"] = self.shape.response_format()
        elif level == "json_object":
            body["response_format"] = {"type": "json_object"}
        if level != "json_schema":
            body["messages"] = _with_words(body.get("messages"), self.shape.instructions())
        return body

    # ---------------------------------------------------------------- for the scheduler

    def answered(self, work: Work, outcome: Outcome) -> Outcome | None:
        """Return the outcome with `parsed`, or as a failure; `None` if the request was changed for another attempt."""
        answer = outcome.answer
        try:
            refusal = _refusal(answer)
            if refusal:
                raise RefusalError(refusal, answer=answer)
            _refuse_cut(answer)
            outcome.parsed = self.shape.decode(_text(answer))
        except ShapeError as error:
            if outcome.cached:
                return None
            repairs = self._repairs.get(work.index, 0)
            if repairs < self.repair:
                self._repairs[work.index] = repairs + 1
                self._ask_again(work.request, _text(answer), error)
                if work.idempotency_key is not None:  # another body is another request
                    work.idempotency_key = f"{work.idempotency_key}-{repairs + 1}"
                return None
            outcome.error = StructuredOutputError(str(error), answer=answer, problem=error)
        except StructuredOutputError as error:
            outcome.error = error
        self._repairs.pop(work.index, None)
        self._levels.pop(work.index, None)
        return outcome

    def _ask_again(self, request: Request, text: str, error: ShapeError) -> None:
        body = self._body(request)
        name = "input" if request.endpoint.path == "/responses" else "messages"
        prompt: Any = body.get(name)
        messages: list[Any] = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt or ())
        body[name] = [*messages, {"role": "assistant", "content": text}, repair_message(error)]
        request.body = mended_json(json_of(body)).encode()  # the answer may have half of a surrogate pair

    def refused(self, work: Work, error: OpenAIError) -> bool:
        """Return whether the server refuses the schema's form and the request was changed to the next one."""
        if not isinstance(error, APIError) or not refuses_format(error):
            return False
        sent = self._levels.get(work.index, 0)
        if sent >= len(LEVELS) - 1:
            return False
        self.level = max(self.level, sent + 1)
        self._levels[work.index] = self.level
        work.request.body = msgspec.json.encode(self._asking(work.request, self._body(work.request)))
        return True


def _with_words(prompt: Any, words: str) -> Any:
    """Return a prompt, or messages, with instructions after the user's text."""
    if isinstance(prompt, str):
        return f"{prompt}\n\n{words}"
    messages: list[Any] = list(prompt or ())
    last: Any = messages[-1] if messages else None
    if is_dict(last) and last.get("role") == "user" and isinstance(last.get("content"), str):
        if words in last["content"]:
            return messages
        return [*messages[:-1], {**last, "content": f"{last['content']}\n\n{words}"}]
    return [*messages, {"role": "user", "content": words}]


def _text(answer: Any) -> str:
    text = getattr(answer, "output_text", None)
    return text if isinstance(text, str) else str(answer.text)


def _refusal(answer: Any) -> str:
    """Return the model's text in place of an answer."""
    message = getattr(answer, "message", None)
    if message is not None:
        return getattr(message, "refusal", None) or ""
    for item in as_list(getattr(answer, "output", None)):
        for part in as_list(getattr(item, "content", None)):
            if refusal := getattr(part, "refusal", None):
                return str(refusal)
    return ""


def _refuse_cut(answer: Any) -> None:
    """Raise for a truncated answer, since its value is incomplete."""
    choices = as_list(getattr(answer, "choices", None))
    reason = getattr(choices[0], "finish_reason", None) if choices else None
    details = getattr(answer, "incomplete_details", None)
    reason = reason or getattr(details, "reason", None)
    if reason in ("length", "max_output_tokens"):
        raise LengthFinishReasonError(completion=answer)
    if reason == "content_filter":
        raise ContentFilterFinishReasonError(completion=answer)

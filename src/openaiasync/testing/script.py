"""The script of a fake server: expectations, each with a matcher and an answer, used in order."""

from __future__ import annotations

import asyncio
import difflib
import inspect
import json
import threading
import traceback
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from ..transport.canonical import diff_lines
from ..transport.fake import FakeAnswer
from .shapes import AnyRequest, Scripted, UnfitAnswer, body_fields, error_body, messages_text, render

__all__ = ["Expectation", "Replies", "Script"]

_NOTHING: Any = object()
_MALFORMED = {
    "json": FakeAnswer(body='{"id": "chatcmpl-test", "choices": [{"mess', headers={"Content-Type": "application/json"}),
    "html": FakeAnswer(body="<html><body><h1>Welcome</h1></body></html>", headers={"Content-Type": "text/html"}),
    "empty": FakeAnswer(headers={"Content-Type": "application/json"}),
    "event": FakeAnswer(events=['data: {"choices": [{"del\n\n']),
    "http": FakeAnswer(raw=b"\x15\x03\x01\x00\x02 this is not HTTP\r\n\r\n"),
    "chunk": FakeAnswer(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n{}\r\n"),
}

Function = Callable[[AnyRequest], Any]
_FRAMES = -8  # frames of a traceback that a failure shows, the last ones
_LONGEST = 4_000  # characters of it


class FunctionFailed(Exception):
    """A function of the test raised, or returned what it may not; the message names it."""


def _named(function: Callable[..., Any]) -> str:
    """Return the name of a function, and where it is defined."""
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    code = getattr(inspect.unwrap(function), "__code__", None)
    return name if code is None else f"{name} ({code.co_filename}:{code.co_firstlineno})"


def _raised(role: str, function: Callable[..., Any], error: BaseException) -> FunctionFailed:
    """Return the failure for what a function raised, with the end of its traceback."""
    below = error.__traceback__.tb_next if error.__traceback__ is not None else None
    text = "".join(traceback.format_exception(type(error), error, below, limit=_FRAMES)).rstrip()
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}\n...\n{text[-_LONGEST // 2 :]}"
    return FunctionFailed(f"{role} {_named(function)} raised an exception:\n{text}")


@dataclass(kw_only=True)
class Matcher:
    """The properties a request must have to match an expectation; `None` matches anything."""

    method: str | None = None
    path: str | None = None
    model: str | None = None
    contains: str | Sequence[str] | None = None
    stream: bool | None = None
    body: Mapping[str, Any] | None = None
    match: Callable[[Any], bool] | None = None

    def misses(self, request: AnyRequest) -> list[tuple[str, Any, Any]]:
        """Return each mismatch: its name, the expected value, and the request's value.

        Raises `FunctionFailed` if the function `match` raises.
        """
        given = body_fields(request)
        found: list[tuple[str, Any, Any]] = []
        if self.method is not None and request.method != self.method.upper():
            found.append(("method", self.method.upper(), request.method))
        if self.path is not None and not request.path.endswith(self.path):
            found.append(("path", self.path, request.path))
        if self.model is not None and given.get("model") != self.model:
            found.append(("model", self.model, given.get("model")))
        if self.stream is not None and bool(given.get("stream")) != self.stream:
            found.append(("stream", self.stream, bool(given.get("stream"))))
        text = messages_text(given) or request.body.decode("utf-8", "replace")
        wanted = [self.contains] if isinstance(self.contains, str) else self.contains or ()
        found += [("contains", part, text) for part in wanted if part not in text]
        for name, value in (self.body or {}).items():
            if name not in given or given[name] != value:
                found.append((name, value, given.get(name)))
        if self.match is not None and not _matches(self.match, request):
            found.append(("match", _named(self.match), "a request for which the function returns false"))
        return found

    def __str__(self) -> str:
        given = {name: value for name, value in vars(self).items() if value is not None}
        shown = {name: _named(value) if name == "match" else repr(value) for name, value in given.items()}
        return ", ".join(f"{name}={value}" for name, value in shown.items())


def _matches(match: Callable[[Any], bool], request: AnyRequest) -> bool:
    """Return whether a function returns true for a request. Raises `FunctionFailed`."""
    try:
        found: Any = match(request)
        if not inspect.isawaitable(found):
            return bool(found)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # `pytest.fail` and `SystemExit`, too: they would end the server's thread
        raise _raised("the function passed as match=", match, error) from None
    if isinstance(found, Coroutine):
        found.close()
    raise FunctionFailed(f"the function passed as match= is asynchronous: {_named(match)}. Give a plain function.")


@dataclass(kw_only=True)
class Expectation:
    """One answer, the requests it matches, and how often it is used."""

    says: Scripted | FakeAnswer | Function
    matcher: Matcher
    times: int | None = 1
    used: int = 0
    description: str = ""

    @property
    def left(self) -> bool:
        return self.times is None or self.used < self.times

    def __str__(self) -> str:
        when = f"when({self.matcher})." if str(self.matcher) else ""
        often = "" if self.times == 1 else f", used {self.used} of {self.times or 'any number of'} times"
        return f"{when}{self.description}{often}" + (" (used up)" if not self.left else "")


class Replies:
    """The methods that script answers. Each adds one answer and returns the object, so that calls can be chained.

    Each answer serves one request unless `times` gives another number (`None`: any number). Durations are in seconds.
    """

    def _add(self, says: Scripted | FakeAnswer | Function, times: int | None, description: str) -> Self:
        raise NotImplementedError

    def reply(
        self,
        text: str | Function | None = None,
        *,
        tool_calls: Sequence[Mapping[str, Any]] = (),
        json: Any = _NOTHING,
        content: bytes | None = None,
        content_type: str = "application/octet-stream",
        embeddings: Sequence[Sequence[float]] | None = None,
        reasoning: str | None = None,
        finish_reason: str | None = None,
        usage: Mapping[str, int] | None = None,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        delay: float = 0.0,
        times: int | None = 1,
    ) -> Self:
        """Answer with a text, tool calls, or both, in the form that the request requires, streamed or not.

        `text` may be a function of the request, plain or ``async``, that returns a text, a `FakeAnswer`, or any JSON
        value. `tool_calls` are ``{"name": ..., "arguments": {...}}``; arguments may be a text, even one that is not
        JSON. `json` replaces the whole body with a JSON value and `content` with bytes; `embeddings` are vectors, sent
        in base64 if the request asks for it.
        """
        if callable(text):
            return self._add(text, times, f"reply({getattr(text, '__name__', text)!s})")
        said = Scripted(
            text=text, tool_calls=tool_calls, reasoning=reasoning, content=content, content_type=content_type,
            embeddings=embeddings, finish_reason=finish_reason, usage=usage, status=status, headers=dict(headers or {}),
            delay=delay,
        )  # fmt: skip
        if json is not _NOTHING:
            said.json = json
        shown = text if text is not None else "json" if json is not _NOTHING else "..."
        return self._add(said, times, f"reply({shown!r})")

    def stream(
        self,
        pieces: str | Sequence[str | bytes | float | Mapping[str, Any]],
        *,
        ttft: float = 0.0,
        itl: float = 0.0,
        tool_calls: Sequence[Mapping[str, Any]] = (),
        reasoning: str | None = None,
        finish_reason: str | None = None,
        usage: Mapping[str, int] | None = None,
        headers: Mapping[str, str] | None = None,
        times: int | None = 1,
    ) -> Self:
        """Answer piece by piece: the first after `ttft` seconds, the others `itl` apart; a plain text word by word.

        A number among the pieces is an additional pause in seconds, a dict is a delta or a whole event, and bytes are
        sent unchanged. A request that does not stream gets the pieces as one body.
        """
        said = Scripted(
            text=pieces if isinstance(pieces, str) else None, pieces=None if isinstance(pieces, str) else list(pieces),
            ttft=ttft, itl=itl, tool_calls=tool_calls, reasoning=reasoning, finish_reason=finish_reason, usage=usage,
            headers=dict(headers or {}),
        )  # fmt: skip
        return self._add(said, times, f"stream({pieces!r})")

    def fail(
        self,
        status: int,
        message: str = "",
        *,
        retry_after: float | str | None = None,
        code: str | None = None,
        type: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        delay: float = 0.0,
        times: int | None = 1,
    ) -> Self:
        """Answer with an HTTP error and an error object; `retry_after` is sent as ``Retry-After``."""
        kinds = {401: "authentication_error", 429: "rate_limit_error"}
        kind = type or kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
        fields = {"Retry-After": str(retry_after)} if retry_after is not None else {}
        body = error_body(message or f"a scripted {status}", kind, code, param)
        answer = FakeAnswer(status=status, json=body, headers={**fields, **(headers or {})}, delay=delay)
        return self._add(answer, times, f"fail({status})")

    def cut(
        self,
        after: int = 0,
        *,
        text: str = "This answer is cut.",
        reset: bool = False,
        times: int | None = 1,
    ) -> Self:
        """Close the connection in the middle of an answer: after so many pieces of a stream, or bytes of another body.

        With `reset` it is reset before any byte of an answer.
        """
        if reset:
            return self._add(FakeAnswer(error="reset"), times, "cut(reset=True)")
        return self._add(lambda request: _broken(request, text, after), times, f"cut(after={after})")

    def hang(self, after: int = 0, *, text: str = "Hello, and then nothing", times: int | None = 1) -> Self:
        """Stall after this many pieces (bytes if the request does not stream), keeping the connection open."""
        return self._add(lambda request: _broken(request, text, after, hang=True), times, f"hang(after={after})")

    def malformed(self, what: str | bytes = "json", *, times: int | None = 1) -> Self:
        """Answer with these bytes in place of a response and close the connection, or with one of the following:

        ``"json"`` (a body that ends inside a string), ``"html"`` (a page with status 200), ``"empty"`` (200 without a
        body), ``"event"`` (an event that is not JSON), ``"http"`` (bytes that are not HTTP), ``"chunk"`` (chunked
        framing with a wrong size).
        """
        if isinstance(what, str) and what not in _MALFORMED:
            raise ValueError(f"malformed({what!r}): give bytes, or one of {', '.join(map(repr, _MALFORMED))}")
        answer = FakeAnswer(raw=what) if isinstance(what, bytes) else _MALFORMED[what]
        return self._add(answer, times, f"malformed({what!r})")

    def respond(self, answer: FakeAnswer, *, times: int | None = 1) -> Self:
        """Answer with exactly this status, head and body."""
        return self._add(answer, times, "respond(...)")


class Script(Replies):
    """Expectations in order, which a `FakeServer` and a `FakeTransport` answer from.

    The first expectation that matches a request and is not used up answers it; expectations added after `when` come
    before the others. A request without one is refused and kept in `unexpected` with an explanation, and so is a
    request for which a function of the test (``when(match=...)``, ``reply(function)``) raises.
    """

    def __init__(self) -> None:
        self.expectations: list[Expectation] = []
        self.unexpected: list[str] = []
        self._lock = threading.Lock()

    def when(
        self,
        *,
        model: str | None = None,
        contains: str | Sequence[str] | None = None,
        path: str | None = None,
        method: str | None = None,
        stream: bool | None = None,
        body: Mapping[str, Any] | None = None,
        match: Callable[[Any], bool] | None = None,
    ) -> Replies:
        """Restrict the answers scripted on the result to requests that match.

        A request matches if it names this `model`, `contains` these texts in its messages, prompt or input, has a
        path that ends with `path` and this HTTP `method`, does or does not `stream`, has these fields in its `body`,
        and the function `match` returns true for it. Conditions that are not given match any request.
        """
        matcher = Matcher(
            method=method, path=path, model=model, contains=contains, stream=stream, body=body, match=match
        )
        return _When(self, matcher)

    def _add(self, says: Scripted | FakeAnswer | Function, times: int | None, description: str) -> Self:
        return self.expect(Matcher(), says, times, description)

    def expect(self, matcher: Matcher, says: Any, times: int | None, description: str) -> Self:
        """Add an expectation. `reply`, `stream`, `fail` and the other methods are more convenient.

        Raises `ValueError` for a number of times below 1.
        """
        if times is not None and times < 1:
            raise ValueError(f"times={times}: give a positive number, or None for any number")
        with self._lock:
            self.expectations.append(Expectation(says=says, matcher=matcher, times=times, description=description))
        return self

    @property
    def unused(self) -> list[Expectation]:
        """The expectations that were used less often than required."""
        return [one for one in self.expectations if (one.times is None and not one.used) or (one.times and one.left)]

    def assert_all_used(self) -> None:
        """Raise `AssertionError` if an expectation was used less often than required."""
        if self.unused:
            raise AssertionError("never asked for: " + "; ".join(map(str, self.unused)))

    def explained(self) -> str:
        """Return the explanations of the unexpected requests, and forget these requests."""
        text = "\n\n".join(self.unexpected)
        self.unexpected.clear()
        return text

    def assert_expected(self) -> None:
        """Raise `AssertionError` if a request was unexpected; the message shows the nearest expectation."""
        if self.unexpected:
            raise AssertionError("\n\n".join(self.unexpected))

    def clear(self) -> None:
        """Remove all expectations and unexpected requests."""
        with self._lock:
            self.expectations.clear()
            self.unexpected.clear()

    async def __call__(self, request: AnyRequest) -> FakeAnswer:
        """Return the answer to a request, using up its expectation.

        An unexpected request is refused with status 501, one for which a function of the test raises with status 500.
        """
        found: Expectation | None = None
        try:
            found = self._take(request)
            if found is None:
                return self._refuse(explain(request, self.expectations))
            says: Any = found.says
            return _answer(request, await _result_of(says, request) if callable(says) else says)
        except UnfitAnswer as error:
            return self._refuse(f"{found}: {error}")
        except FunctionFailed as error:
            message = f"{request.method} {request.path} got no answer: {error}"
            return self._refuse(message, 500, "script_failed")

    def _take(self, request: AnyRequest) -> Expectation | None:
        while True:
            with self._lock:  # not held while functions of the test run: they may script further answers
                left = sorted((one for one in self.expectations if one.left), key=lambda one: not str(one.matcher))
            found = next((one for one in left if not one.matcher.misses(request)), None)
            if found is None:
                return None
            with self._lock:
                if found.left:
                    found.used += 1
                    return found

    def _refuse(self, message: str, status: int = 501, code: str = "unexpected_request") -> FakeAnswer:
        self.unexpected.append(message)
        body = error_body(message, code, code)
        return FakeAnswer(status=status, json=body, headers={"X-Should-Retry": "false"})


class _When(Replies):
    def __init__(self, script: Script, matcher: Matcher) -> None:
        self._script = script
        self._matcher = matcher

    def _add(self, says: Scripted | FakeAnswer | Function, times: int | None, description: str) -> Self:
        self._script.expect(self._matcher, says, times, description)
        return self


async def _result_of(function: Function, request: AnyRequest) -> Any:
    """Return what a function passed to `reply` says. Raises `FunctionFailed`."""
    try:
        says = function(request)
        return await says if inspect.isawaitable(says) else says
    except (UnfitAnswer, KeyboardInterrupt):
        raise
    except BaseException as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise  # the client has left
        raise _raised("the function passed to reply()", function, error) from None


def _answer(request: AnyRequest, says: Any) -> FakeAnswer:
    """Return the answer to a request. Raises `UnfitAnswer` if it cannot be sent."""
    if isinstance(says, FakeAnswer):
        answer = says
    elif isinstance(says, Scripted):
        answer = render(request, says)
    else:
        answer = render(request, Scripted(text=says) if isinstance(says, str) else Scripted(json=says))
    if answer.events is not None and not isinstance(answer.events, Sequence):
        answer = replace(answer, events=list(answer.events))
    try:
        answer.raw_fields()
        answer.pieces()
    except (TypeError, ValueError, RecursionError, AttributeError) as error:
        raise UnfitAnswer(f"the answer cannot be sent: {error}") from None
    return answer


def _broken(request: AnyRequest, text: str, after: int, *, hang: bool = False) -> FakeAnswer:
    """Return the beginning of an answer to any kind of request."""
    try:
        answer = render(request, Scripted(text=text, cut_after=after))
    except UnfitAnswer:
        answer = render(request, Scripted(json={"text": text}, cut_after=after))
    answer.hang = hang
    return answer


def explain(request: AnyRequest, expectations: Sequence[Expectation]) -> str:
    """Describe an unexpected request and its differences from the nearest expectation."""
    lines = [f"unexpected request: {request.method} {request.path}", *_shown(request)]
    if not expectations:
        return "\n".join([*lines, "no answer is scripted: call reply(), stream(), fail(), ... first"])
    misses = [(one.matcher.misses(request), one) for one in expectations]
    used_up = [f"  {one}" for missed, one in misses if not missed]
    if used_up:
        lines += ["all answers that match it are used up:", *used_up]
    others = [(missed, one) for missed, one in misses if missed]
    if not others:
        return "\n".join(lines)
    missed, nearest = min(others, key=lambda pair: (not pair[1].left, len(pair[0])))
    lines.append(f"nearest of {len(others)} that do not match: {nearest}")
    for name, wanted, got in missed:
        if name == "contains":
            lines += [f"  {name}: {wanted!r} is not in", *(f"    | {line}" for line in str(got).splitlines())]
            near = difflib.get_close_matches(str(wanted), str(got).split(), 1)
            lines += [f"    (did you mean {near[0]!r}?)"] if near else []
        else:
            lines += [f"  {name}:", *(f"    {line}" for line in diff_lines(wanted, got))]
    return "\n".join(lines)


def _shown(request: AnyRequest, limit: int = 2_000) -> list[str]:
    """Return the body of a request, indented, and shortened if it is long."""
    try:
        text = json.dumps(request.json(), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        text = repr(request.body[:limit]) if request.body else ""
    text = text if len(text) <= limit else text[:limit] + f"... ({len(text):,} characters)"
    return [f"  {line}" for line in text.splitlines()]

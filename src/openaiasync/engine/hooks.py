"""Hooks: user functions called before each attempt and at the end of a call.

`on_request`, `on_answer` and `on_error` are keywords of both constructors, of `with_options` and of every call. They
may be asynchronous. They never see a key: header fields that may be secret read ``[redacted]``.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from ..core.model.headers import Headers
from ..core.model.meta import Meta
from ..core.model.omitted import is_omitted
from ..core.model.secrets import HIDDEN
from ..lazy import resolve_annotations
from .log import INFO, LogObserver
from .observers import CallObserver, Observers, Outcome, logger

if TYPE_CHECKING:
    from ..errors import OpenAIError
    from ..transport.base import TransportResponse
    from .call import Call

__all__ = [
    "ActiveObservers",
    "AnswerEvent",
    "AnswerHook",
    "CallEvent",
    "ErrorEvent",
    "ErrorHook",
    "ExtraHeaders",
    "Hooks",
    "RequestEvent",
    "RequestHook",
]


class CallEvent:
    """What a hook receives about a call.

    `name` is the method's, as ``"chat.completions.create"``; `url` is absolute, with values of its query that may be
    secret redacted; `tries` counts the attempts so far, the one that is about to begin included.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        request = call.request
        self.name: str = request.endpoint.name
        self.method: str = request.endpoint.method
        self.url: str = call.base.root + call.secrets().scrub_url(call.target)
        self.stream: bool = request.stream
        self.tries: int = call.attempts
        self.content: bytes = request.body if isinstance(request.body, bytes) else b""

    @property
    def body(self) -> Any:
        """A freshly parsed copy of the request's JSON; changing it has no effect. `None` without a body, and for
        uploads."""
        return json.loads(self.content) if self.content else None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.method} {self.url} tries={self.tries}>"


class ExtraHeaders(MutableMapping[str, str]):
    """The header fields of a request that is about to be sent, by case-insensitive name.

    Setting one adds or replaces it for this attempt; deleting one removes it. Values that may be
    secret read ``[redacted]``, except those that hooks have set.
    """

    def __init__(self, shown: list[tuple[str, str]], extra: dict[str, Any]) -> None:
        self._shown = {name.lower(): (name, value) for name, value in shown}
        self._extra = extra

    def _table(self) -> dict[str, tuple[str, Any]]:
        table = self._shown | {name.lower(): (name, value) for name, value in self._extra.items()}
        return {name: pair for name, pair in table.items() if pair[1] is not None}

    def __getitem__(self, name: str) -> str:
        return cast("str", self._table()[name.lower()][1])

    def __setitem__(self, name: str, value: str) -> None:
        self._change(name, value)

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        self._change(name, None)

    def _change(self, name: str, value: Any) -> None:
        for other in [other for other in self._extra if other.lower() == name.lower()]:
            del self._extra[other]
        self._extra[name] = value

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._table()

    def __iter__(self) -> Iterator[str]:
        return iter([name for name, _ in self._table().values()])

    def __len__(self) -> int:
        return len(self._table())

    def __repr__(self) -> str:
        changed = {name.lower() for name in self._extra}
        return f"ExtraHeaders({ {name: HIDDEN if name.lower() in changed else value for name, value in self.items()} })"


class RequestEvent(CallEvent):
    """A request is about to be sent: the first one, a retry, or one to a redirect's target.

    `headers` may be changed; it is checked as `extra_headers` is. The time a hook takes counts towards the deadline.
    """

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.headers: ExtraHeaders = ExtraHeaders(_shown(call), call.extra)


class _Ended(CallEvent):
    @property
    def headers(self) -> Headers:
        """The header fields of the last attempt."""
        call = self._call
        if call.out is None:
            return Headers(pairs=tuple(_shown(call)))
        hidden = tuple((name, HIDDEN) for name, _ in call.out.credentials.fields())
        return Headers(pairs=(*call.out.fields, *hidden))


class AnswerEvent(_Ended):
    """A call succeeded; for a stream, its end was read. `meta` is that of the answer.

    Not sent for a stream that is closed before its end. With `with_streaming_response` it is sent when the head
    arrives.
    """

    def __init__(self, call: Call, meta: Meta, made: Callable[[], Any]) -> None:
        super().__init__(call)
        self.meta: Meta = meta
        self._made = made

    @property
    def answer(self) -> Any:
        """The answer; of `.stream` methods the accumulated one, built on first access.

        `None` for answers that are not kept: official streams, streamed bytes, raw answers.
        """
        return self._made()


class ErrorEvent(_Ended):
    """A call ended with an error: `error` is raised to the caller. Not sent for a cancelled call."""

    def __init__(self, call: Call, error: Exception) -> None:
        super().__init__(call)
        self.error: Exception = error
        self.meta: Meta | None = getattr(error, "meta", None)


RequestHook = Callable[[RequestEvent], object]
AnswerHook = Callable[[AnswerEvent], object]
ErrorHook = Callable[[ErrorEvent], object]


@dataclass(frozen=True, slots=True)
class Hooks:
    """The hooks of a client or of a call; an observer of its calls."""

    on_request: Callable[[Any], object] | None = None
    on_answer: Callable[[Any], object] | None = None
    on_error: Callable[[Any], object] | None = None

    def __call__(self, call: Call) -> CallObserver:
        return _HookObserver(call, self)


class _HookObserver(CallObserver):
    def __init__(self, call: Call, hooks: Hooks) -> None:
        self._call = call
        self._hooks = hooks

    def sending(self, call: Call) -> Awaitable[object] | None:
        hook = self._hooks.on_request
        return None if hook is None else _call_hook(hook, RequestEvent(call))

    def answered(self, meta: Meta, made: Callable[[], Any]) -> Awaitable[object] | None:
        hook = self._hooks.on_answer
        return None if hook is None else _call_hook(hook, AnswerEvent(self._call, meta, made))

    def failed(self, error: Exception) -> Awaitable[object] | None:
        hook = self._hooks.on_error
        return None if hook is None else _call_hook(hook, ErrorEvent(self._call, error))


def _call_hook(hook: Callable[[Any], object], event: CallEvent) -> Awaitable[object] | None:
    answer = hook(event)
    return cast("Awaitable[object]", answer) if isinstance(answer, Awaitable) else None


def _shown(call: Call) -> list[tuple[str, str]]:
    """Return the header fields of the next attempt, with possible secrets redacted."""
    config, request = call.engine.config, call.request
    pairs = dict.fromkeys((name for name, _ in config.secret_fields), HIDDEN)
    if config.key is not None or config.base.userinfo is not None:
        pairs.setdefault(config.key_field, HIDDEN)
    own = request.headers or {}
    taken = {name.lower() for name in own}
    hidden = [pair for pair in pairs.items() if pair[0].lower() not in taken]
    hidden += [(name, HIDDEN) for name, value in own.items() if value is not None and not is_omitted(value)]
    return [*call.engine.builder.fields(request), *hidden]


# ---------------------------------------------------------------------------------------------- all observers of a call


class ActiveObservers(Observers):
    """The observers of a call, which prepare its request: passes every step to them, and the end once."""

    def __init__(self, call: Call) -> None:
        engine, request = call.engine, call.request
        self._call = call
        self._deferred = self._over = False
        self._raised: BaseException | None = None  # the exception an observer raised
        call.request = copy.copy(request)
        call.requested_headers = request.headers or {}
        # With extra header fields, even an empty set, the fields of each attempt are rebuilt.
        call.request.headers = call.requested_headers
        call.extra = {}
        self.observers: list[CallObserver] = [observer(call) for observer in engine.config.observers]
        if request.hooks is not None:
            self.observers.append(Hooks(*request.hooks)(call))
        if logger.isEnabledFor(INFO):
            self.observers.append(LogObserver(call))

    async def sending(self) -> None:
        call = self._call
        requested, extra = call.requested_headers, call.extra
        extra.clear()
        call.request.headers = requested
        try:
            for observer in self.observers:
                pending = observer.sending(call)
                if pending is not None:
                    await pending
        except BaseException as error:
            self._raised = error
            raise
        added = {name.lower() for name in extra}
        kept = {name: value for name, value in requested.items() if name.lower() not in added}
        call.request.headers = {**kept, **extra}

    def sent(self) -> None:
        for observer in self.observers:
            observer.sent(self._call)

    def responded(self, response: TransportResponse) -> None:
        for observer in self.observers:
            observer.responded(self._call, response)
        if 200 <= response.status < 300:
            meta = self._call.meta(response)
            for observer in self.observers:
                observer.head(meta)

    def retrying(self, error: OpenAIError, pause: float) -> None:
        for observer in self.observers:
            observer.retrying(error, pause)

    def item(self, item: object) -> None:
        for observer in self.observers:
            observer.item(item)

    async def answered(self, made: Callable[[], Any]) -> None:
        await self._answered(made, ends=True)

    async def handed_over(self) -> None:
        self._deferred = True
        await self._answered(lambda: None, ends=False)

    async def _answered(self, made: Callable[[], Any], *, ends: bool) -> None:
        meta = self._call.last_meta
        if self._over or meta is None:
            return
        try:
            for observer in self.observers:
                pending = observer.answered(meta, made)
                if pending is not None:
                    await pending
        except BaseException as error:
            self._end(_outcome(error), error)
            raise
        if ends:
            self._end("answered")

    async def failed(self, error: BaseException) -> None:
        if self._over:
            return
        try:
            # Hooks are notified of failures, except those raised by other hooks.
            if isinstance(error, Exception) and error is not self._raised:
                for observer in self.observers:
                    pending = observer.failed(error)
                    if pending is not None:
                        await pending
        except BaseException as another:
            error = another
            raise
        finally:
            self._end(_outcome(error), error)

    def released(self, response: TransportResponse | None) -> None:
        if not self._deferred or self._over:
            return
        if response is not None and response.ended:
            self._end("answered")
        else:
            failure = self._call.failure
            self._end("closed" if failure is None else "failed", failure)

    def closed(self) -> None:
        self._end("closed")

    def closed_soon(self) -> None:
        # A finalizer may run anywhere, even inside an exporter that holds its lock.
        if not self._over:
            try:
                self._call.loop.call_soon_threadsafe(self.closed)
            except RuntimeError:
                self.closed()

    def _end(self, outcome: Outcome, error: BaseException | None = None) -> None:
        if self._over:
            return
        self._over = True
        for observer in self.observers:
            try:
                observer.ended(outcome, error)
            except Exception:
                logger.warning("an observer failed at the end of a call", exc_info=True)


def _outcome(error: BaseException) -> Outcome:
    return "failed" if isinstance(error, Exception) else "cancelled"


resolve_annotations(__name__)

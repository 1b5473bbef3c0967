"""Hooks: functions of the user's that are told before each try, and at the end of a call.

`on_request`, `on_answer` and `on_error` are words of both constructors, of `with_options` and of every call. They may
be asynchronous. What they are shown holds no key: header fields that may be secret read ``[redacted]``.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from ..core.model.headers import Headers
from ..core.model.meta import Meta
from ..core.model.omitted import is_omitted
from ..core.model.secrets import HIDDEN
from .observers import CallObserver

if TYPE_CHECKING:
    from .call import Call

__all__ = [
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
    """What a hook is told of a call.

    `name` is the method's, as ``"chat.completions.create"``; `url` is absolute, with values of its query that may be
    secret redacted; `tries` counts what was sent so far, the try that is about to begin included.
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
        """The request's JSON, parsed anew: changing it changes nothing. `None` without one, and for uploads."""
        return json.loads(self.content) if self.content else None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.method} {self.url} tries={self.tries}>"


class ExtraHeaders(MutableMapping[str, str]):
    """The header fields of a request that is about to be sent, by case-insensitive name.

    Setting one adds it to this try or replaces what has its name; deleting one takes it away. What could be secret
    reads ``[redacted]``, but for what hooks have set themselves.
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
    """A request is about to be sent: the first, a retry, or to where a redirect led.

    `headers` may be changed; it is checked as `extra_headers` is. The time a hook takes counts for the deadline.
    """

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.headers: ExtraHeaders = ExtraHeaders(_shown(call), call.extra)


class _Ended(CallEvent):
    @property
    def headers(self) -> Headers:
        """The header fields of the last try."""
        call = self._call
        if call.out is None:
            return Headers(pairs=tuple(_shown(call)))
        hidden = tuple((name, HIDDEN) for name, _ in call.out.credentials.fields())
        return Headers(pairs=(*call.out.fields, *hidden))


class AnswerEvent(_Ended):
    """A call ended well; a stream, when its end was read. `meta` is that of the answer.

    Of a stream that is left before its end there is none. Of `with_streaming_response` it comes with the head.
    """

    def __init__(self, call: Call, meta: Meta, made: Callable[[], Any]) -> None:
        super().__init__(call)
        self.meta: Meta = meta
        self._made = made

    @property
    def answer(self) -> Any:
        """The answer itself; of `.stream` methods put together, when asked for.

        `None` where nothing keeps it: official streams, streamed bytes, raw answers.
        """
        return self._made()


class ErrorEvent(_Ended):
    """A call ended with an error: `error`, which the caller will get. Nobody is told of a cancelled call."""

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
        return _HookWatcher(call, self)


class _HookWatcher(CallObserver):
    def __init__(self, call: Call, hooks: Hooks) -> None:
        self._call = call
        self._hooks = hooks

    def sending(self, call: Call) -> Awaitable[object] | None:
        hook = self._hooks.on_request
        return None if hook is None else _told(hook, RequestEvent(call))

    def answered(self, meta: Meta, made: Callable[[], Any]) -> Awaitable[object] | None:
        hook = self._hooks.on_answer
        return None if hook is None else _told(hook, AnswerEvent(self._call, meta, made))

    def failed(self, error: Exception) -> Awaitable[object] | None:
        hook = self._hooks.on_error
        return None if hook is None else _told(hook, ErrorEvent(self._call, error))


def _told(hook: Callable[[Any], object], event: CallEvent) -> Awaitable[object] | None:
    answer = hook(event)
    return cast("Awaitable[object]", answer) if isinstance(answer, Awaitable) else None


def _shown(call: Call) -> list[tuple[str, str]]:
    """The fields of what is about to be sent, those redacted that may be secret."""
    config, request = call.engine.config, call.request
    pairs = dict.fromkeys((name for name, _ in config.secret_fields), HIDDEN)
    if config.key is not None or config.base.userinfo is not None:
        pairs.setdefault(config.key_field, HIDDEN)
    own = request.headers or {}
    taken = {name.lower() for name in own}
    hidden = [pair for pair in pairs.items() if pair[0].lower() not in taken]
    hidden += [(name, HIDDEN) for name, value in own.items() if value is not None and not is_omitted(value)]
    return [*call.engine.builder.fields(request), *hidden]

"""The options that every call accepts besides its parameters, for type checkers and for `Endpoint`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypedDict

from ...lazy import resolve_annotations
from ..model.omitted import omit

if TYPE_CHECKING:
    from ...engine.hooks import AnswerHook, ErrorHook, RequestHook
else:  # their types, for run-time introspection
    AnswerHook = ErrorHook = RequestHook = Callable[[Any], object]

__all__ = ["HOOK_NAMES", "OPTION_NAMES", "Hooks", "RequestOptions", "Timeout"]

_OMITTED: Final[Any] = omit


class Timeout:
    """The individual timeouts of a call in seconds; `None` is "no limit". Accepted wherever a `timeout` is.

    `read` applies until an answer starts and then to each unit of progress (an event of a stream, the whole of a JSON
    answer, 64 KiB of a binary one); `connect` applies until a connection is established. The first argument is the
    default for those not given. `write` and `pool` exist for users of the official client: writing counts as `read`,
    and waiting for a slot has no timeout.
    """

    __slots__ = ("connect", "pool", "read", "write")

    def __init__(
        self,
        timeout: float | None = None,
        *,
        connect: float | None = _OMITTED,
        read: float | None = _OMITTED,
        write: float | None = _OMITTED,
        pool: float | None = _OMITTED,
    ) -> None:
        self.connect: float | None = timeout if connect is _OMITTED else connect
        self.read: float | None = timeout if read is _OMITTED else read
        self.write: float | None = timeout if write is _OMITTED else write
        self.pool: float | None = timeout if pool is _OMITTED else pool

    def _key(self) -> tuple[float | None, ...]:
        return (self.connect, self.read, self.write, self.pool)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Timeout) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"Timeout(connect={self.connect}, read={self.read}, write={self.write}, pool={self.pool})"


class RequestOptions(TypedDict, total=False):
    """The options of every method, for one call.

    `timeout` (seconds, for each attempt), `deadline` (seconds, for the whole call with all attempts), `max_retries`;
    `extra_headers`, `extra_query` and `extra_body` are added to the request and override the method's own values. The
    hooks get a `RequestEvent` before each attempt, and an `AnswerEvent` or an `ErrorEvent` at the end; they may be
    asynchronous, and run after the client's hooks. The call raises the exceptions of hooks.
    """

    timeout: float | Timeout | None
    deadline: float | None
    max_retries: int
    extra_headers: Mapping[str, Any] | None
    extra_query: Mapping[str, object] | None
    extra_body: object | None
    on_request: RequestHook | None
    on_answer: AnswerHook | None
    on_error: ErrorHook | None


HOOK_NAMES = ("on_request", "on_answer", "on_error")
Hooks = tuple[Callable[[Any], object] | None, ...]
"""A function or `None` for each of `HOOK_NAMES`."""

OPTION_NAMES = frozenset(RequestOptions.__annotations__)

resolve_annotations(__name__)

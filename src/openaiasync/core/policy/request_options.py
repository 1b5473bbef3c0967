"""What every call accepts beside its own parameters, for type checkers and for `Endpoint`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypedDict

if TYPE_CHECKING:
    from ...engine.hooks import AnswerHook, ErrorHook, RequestHook
else:  # what they are, for who asks at run time
    AnswerHook = ErrorHook = RequestHook = Callable[[Any], object]

__all__ = ["HOOK_NAMES", "OPTION_NAMES", "Hooks", "RequestOptions", "Timeout"]

_UNSET: Final[Any] = object()


class Timeout:
    """The clocks of a call one by one, in seconds; `None` is "no limit". Accepted wherever a `timeout` is.

    `read` is until an answer starts and then per unit of progress (an event of a stream, the whole of a JSON answer,
    64 KiB of a binary one); `connect` is until a connection stands. Those not named take the first argument. `write`
    and `pool` are there for users of the official client: writing counts as `read`, waiting for a place has no clock.
    """

    __slots__ = ("connect", "pool", "read", "write")

    def __init__(
        self,
        timeout: float | None = None,
        *,
        connect: float | None = _UNSET,
        read: float | None = _UNSET,
        write: float | None = _UNSET,
        pool: float | None = _UNSET,
    ) -> None:
        self.connect: float | None = timeout if connect is _UNSET else connect
        self.read: float | None = timeout if read is _UNSET else read
        self.write: float | None = timeout if write is _UNSET else write
        self.pool: float | None = timeout if pool is _UNSET else pool

    def _key(self) -> tuple[float | None, ...]:
        return (self.connect, self.read, self.write, self.pool)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Timeout) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"Timeout(connect={self.connect}, read={self.read}, write={self.write}, pool={self.pool})"


class RequestOptions(TypedDict, total=False):
    """Per call, on every method.

    `timeout` (seconds, per try), `deadline` (seconds, the whole call with all tries), `max_retries`; `extra_headers`,
    `extra_query` and `extra_body` are added to the request and win over what the method would send. The hooks are given
    a `RequestEvent` before each try, and an `AnswerEvent` or an `ErrorEvent` at the end; they may be asynchronous, and
    run after the client's own. What a hook raises, the call raises.
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
"""A function, or none, for each of `HOOK_NAMES`."""

OPTION_NAMES = frozenset(RequestOptions.__annotations__)

"""`connect`, the hand-written method of each namespace with a WebSocket. It imports its connection when called."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack

from ..core.model.omitted import Omit, omit
from ..engine.raw import Namespace
from ..engine.sealing import sealed
from ..lazy import resolve_annotations

if TYPE_CHECKING:
    from ..engine import Engine
    from .live import AsyncForksConnectionManager, AsyncLiveConnectionManager, AsyncSidebandConnectionManager
    from .realtime import (
        AsyncRealtimeConnectionManager,
        AsyncTranslationsConnectionManager,
        BetaRealtimeConnectionManager,
    )
    from .reconnect import OnReconnecting
    from .response_connections import AsyncResponsesConnectionManager, BetaResponsesConnectionManager
    from .websocket import Manager

    M = TypeVar("M", bound=Manager[Any])

__all__ = [
    "BetaRealtimeConnect",
    "BetaResponsesConnect",
    "ConnectOptions",
    "LiveConnect",
    "RealtimeConnect",
    "ResponsesConnect",
    "TranslationsConnect",
    "WebSocketConnectionOptions",
]


class WebSocketConnectionOptions(TypedDict, total=False):
    """Options of the WebSocket itself. Times in seconds, sizes in bytes.

    `max_size` (50 MiB; `None`: no limit) of one message of the server; `max_queue` (16) received messages until the
    server is slowed down; `write_limit` (32 KiB) of unsent data until `send` waits; `ping_interval` (20; `None`: no
    pings), `ping_timeout` (20; `None`: no limit); `open_timeout` (none) until the connection is open, in addition to
    the client's timeouts; `close_timeout` (10) for the server's close frame; `compression` (`None`, or ``"deflate"``);
    `extensions` and `subprotocols` as the `websockets` library takes them.
    """

    extensions: Any
    subprotocols: Any
    compression: str | None
    max_size: int | None
    max_queue: int | tuple[int | None, int | None] | None
    write_limit: int | tuple[int, int | None]
    ping_interval: float | None
    ping_timeout: float | None
    open_timeout: float | None
    close_timeout: float | None


class ConnectOptions(TypedDict, total=False):
    """Options of every `connect`. Times in seconds, sizes in bytes.

    `extra_query` and `extra_headers` are added to the request; `websocket_connection_options` are those of the
    WebSocket. With `on_reconnecting`, a function that takes a `ReconnectingEvent` and may return
    `ReconnectingOverrides`, a connection that is lost while it is iterated is opened again: up to `max_retries` (5)
    times without an event in between, after `initial_delay` (0.5), doubled each time up to `max_delay` (8). Meanwhile,
    and before the first connection, `max_queue_size` (1 MiB) of messages may wait.
    """

    extra_query: Mapping[str, Any]
    extra_headers: Mapping[str, Any]
    websocket_connection_options: WebSocketConnectionOptions
    on_reconnecting: OnReconnecting | None
    max_retries: int
    initial_delay: float
    max_delay: float
    max_queue_size: int


_KNOWN = frozenset(ConnectOptions.__annotations__)


@sealed
def _manager(
    manager: type[M],
    calls: Engine,
    name: str,
    path: str,
    query: Mapping[str, Any],
    options: Mapping[str, Any],
    fields: tuple[tuple[str, str], ...] = (),
) -> M:
    from .dial import DialContext

    given = dict(options)
    for unknown in given.keys() - _KNOWN:
        from ..core.codec.endpoint import nearest

        raise TypeError(f"{name}() has no parameter {unknown!r}{nearest(unknown, _KNOWN)}")
    websocket: Mapping[str, Any] = given.pop("websocket_connection_options", None) or {}
    call = DialContext(name, path, query, fields, websocket)
    extra_query: Mapping[str, Any] = given.pop("extra_query", None) or {}
    extra_headers: Mapping[str, Any] = given.pop("extra_headers", None) or {}
    return manager(calls, call, extra_query=extra_query, extra_headers=extra_headers, **given)


class RealtimeConnect:
    """`connect` of ``client.realtime``."""

    _calls: Engine

    def connect(
        self, *, model: str | Omit = omit, call_id: str | Omit = omit, **options: Unpack[ConnectOptions]
    ) -> AsyncRealtimeConnectionManager:
        """Talk with a realtime model over a WebSocket: ``async with`` the result, or await its `enter()`.

        `model` begins a conversation, `call_id` joins one that runs over SIP or WebRTC. Options: `ConnectOptions`.
        Entering raises the errors of any call, and `ConfigurationError` without the library `websockets`.
        """
        from .realtime import AsyncRealtimeConnectionManager as Kind

        query = {"call_id": call_id, "model": model}
        return _manager(Kind, self._calls, "realtime.connect", "/realtime", query, options)


class TranslationsConnect:
    """`connect` of ``client.realtime.translations``."""

    _calls: Engine

    def connect(self, *, model: str, **options: Unpack[ConnectOptions]) -> AsyncTranslationsConnectionManager:
        """Translate speech while it is spoken, over a WebSocket; see `RealtimeConnect.connect`."""
        from .realtime import AsyncTranslationsConnectionManager as Kind

        path = "/realtime/translations"
        return _manager(Kind, self._calls, "realtime.translations.connect", path, {"model": model}, options)


class BetaRealtimeConnect:
    """`connect` of ``client.beta.realtime``."""

    _calls: Engine

    def connect(self, *, model: str, **options: Unpack[ConnectOptions]) -> BetaRealtimeConnectionManager:
        """Talk with a realtime model in the protocol's beta version; see `RealtimeConnect.connect`."""
        from .realtime import BetaRealtimeConnectionManager as Kind

        fields = (("OpenAI-Beta", "realtime=v1"),)
        return _manager(Kind, self._calls, "beta.realtime.connect", "/realtime", {"model": model}, options, fields)


class ResponsesConnect:
    """`connect` of ``client.responses``."""

    _calls: Engine

    def connect(self, **options: Unpack[ConnectOptions]) -> AsyncResponsesConnectionManager:
        """Get responses over one WebSocket instead of a request each; see `RealtimeConnect.connect`."""
        from .response_connections import AsyncResponsesConnectionManager as Kind

        return _manager(Kind, self._calls, "responses.connect", "/responses", {}, options)


class BetaResponsesConnect:
    """`connect` of ``client.beta.responses``."""

    _calls: Engine

    def connect(self, **options: Unpack[ConnectOptions]) -> BetaResponsesConnectionManager:
        """Get responses over one WebSocket; see `RealtimeConnect.connect`."""
        from .response_connections import BetaResponsesConnectionManager as Kind

        return _manager(Kind, self._calls, "beta.responses.connect", "/responses", {}, options)


def _live(options: Mapping[str, Any]) -> dict[str, Any]:
    return {"max_queue_size": 2_097_152, **options}


class Forks(Namespace):
    """The methods under `live.forks`."""

    def connect(self, *, session_id: str, **options: Unpack[ConnectOptions]) -> AsyncForksConnectionManager:
        """Fork a live session over a WebSocket; see `RealtimeConnect.connect`. 2 MiB of messages may wait."""
        from .live import AsyncForksConnectionManager as Kind

        path = _session_path("live.forks.connect", session_id, "fork")
        return _manager(Kind, self._calls, "live.forks.connect", path, {}, _live(options))


class Sideband(Namespace):
    """The methods under `live.sideband`."""

    def connect(
        self, *, session_id: str, graceful_close: bool | Omit = omit, **options: Unpack[ConnectOptions]
    ) -> AsyncSidebandConnectionManager:
        """Attach to a live session that runs elsewhere; see `RealtimeConnect.connect`. 2 MiB of messages may wait."""
        from .live import AsyncSidebandConnectionManager as Kind

        path = _session_path("live.sideband.connect", session_id, "attach")
        query = {"graceful_close": graceful_close}
        return _manager(Kind, self._calls, "live.sideband.connect", path, query, _live(options))


class LiveConnect:
    """`connect` of ``client.live``, its forks and its sideband."""

    _calls: Engine

    def connect(self, **options: Unpack[ConnectOptions]) -> AsyncLiveConnectionManager:
        """Open a live session over a WebSocket; see `RealtimeConnect.connect`. 2 MiB of messages may wait."""
        from .live import AsyncLiveConnectionManager as Kind

        return _manager(Kind, self._calls, "live.connect", "/live/sessions", {}, _live(options))

    @cached_property
    def forks(self) -> Forks:
        """The methods under `live.forks`."""
        return Forks(self._calls)

    @cached_property
    def sideband(self) -> Sideband:
        """The methods under `live.sideband`."""
        return Sideband(self._calls)


def _session_path(name: str, session_id: str, last: str) -> str:
    from ..core.codec.endpoint import Endpoint

    row = Endpoint(name, "GET", "/live/sessions/{session_id}/" + last, required="session_id")
    return row.request({"session_id": session_id}).path


for _kind in (
    RealtimeConnect,
    TranslationsConnect,
    BetaRealtimeConnect,
    ResponsesConnect,
    BetaResponsesConnect,
    LiveConnect,
    Forks,
    Sideband,
):
    _kind.connect.__dict__["no_raw_twin"] = True  # a connection has no raw answer

resolve_annotations(__name__)

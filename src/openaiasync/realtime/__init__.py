"""WebSockets: ``client.realtime.connect(...)`` and its like, over the library `websockets` (extra ``[realtime]``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .connection import Manager as Manager
    from .connection import WebSocketConnection as WebSocketConnection
    from .errors import WebSocketConnectionClosedError as WebSocketConnectionClosedError
    from .errors import WebSocketQueueFullError as WebSocketQueueFullError
    from .methods import ConnectOptions as ConnectOptions
    from .methods import WebSocketConnectionOptions as WebSocketConnectionOptions
    from .realtime import AsyncRealtimeConnection as AsyncRealtimeConnection
    from .realtime import AsyncRealtimeConnectionManager as AsyncRealtimeConnectionManager
    from .reconnect import ReconnectingEvent as ReconnectingEvent
    from .reconnect import ReconnectingOverrides as ReconnectingOverrides
    from .responses import AsyncResponsesConnection as AsyncResponsesConnection
    from .responses import AsyncResponsesConnectionManager as AsyncResponsesConnectionManager

__all__ = [
    "AsyncRealtimeConnection",
    "AsyncRealtimeConnectionManager",
    "AsyncResponsesConnection",
    "AsyncResponsesConnectionManager",
    "ConnectOptions",
    "Manager",
    "ReconnectingEvent",
    "ReconnectingOverrides",
    "WebSocketConnection",
    "WebSocketConnectionClosedError",
    "WebSocketConnectionOptions",
    "WebSocketQueueFullError",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_names(
        __name__,
        {
            "AsyncRealtimeConnection": ".realtime",
            "AsyncRealtimeConnectionManager": ".realtime",
            "AsyncResponsesConnection": ".responses",
            "AsyncResponsesConnectionManager": ".responses",
            "ConnectOptions": ".methods",
            "WebSocketConnection": ".connection",
            "Manager": ".connection",
            "ReconnectingEvent": ".reconnect",
            "ReconnectingOverrides": ".reconnect",
            "WebSocketConnectionClosedError": ".errors",
            "WebSocketConnectionOptions": ".methods",
            "WebSocketQueueFullError": ".errors",
        },
    )

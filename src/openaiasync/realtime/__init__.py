"""WebSockets: ``client.realtime.connect(...)`` and others, over the library `websockets` (extra ``[realtime]``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names, resolve_annotations

if TYPE_CHECKING:
    from .namespaces import ConnectOptions as ConnectOptions
    from .namespaces import WebSocketConnectionOptions as WebSocketConnectionOptions
    from .realtime import AsyncRealtimeConnection as AsyncRealtimeConnection
    from .realtime import AsyncRealtimeConnectionManager as AsyncRealtimeConnectionManager
    from .reconnect import ReconnectingEvent as ReconnectingEvent
    from .reconnect import ReconnectingOverrides as ReconnectingOverrides
    from .reconnect import WebSocketConnectionClosedError as WebSocketConnectionClosedError
    from .reconnect import WebSocketQueueFullError as WebSocketQueueFullError
    from .response_connections import AsyncResponsesConnection as AsyncResponsesConnection
    from .response_connections import AsyncResponsesConnectionManager as AsyncResponsesConnectionManager
    from .websocket import Manager as Manager
    from .websocket import WebSocketConnection as WebSocketConnection

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
            "AsyncResponsesConnection": ".response_connections",
            "AsyncResponsesConnectionManager": ".response_connections",
            "ConnectOptions": ".namespaces",
            "WebSocketConnection": ".websocket",
            "Manager": ".websocket",
            "ReconnectingEvent": ".reconnect",
            "ReconnectingOverrides": ".reconnect",
            "WebSocketConnectionClosedError": ".reconnect",
            "WebSocketConnectionOptions": ".namespaces",
            "WebSocketQueueFullError": ".reconnect",
        },
    )

resolve_annotations(__name__)

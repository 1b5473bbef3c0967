"""Open a WebSocket for one client: a call by the driver, over a transport that asks for the upgrade.

The `websockets` library implements the protocol and is imported when the first connection is opened.
`transport.connect` opens the connection, so that proxies, certificates and timeouts are those of all calls.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from msgspec.structs import replace

from ..core.codec.encode import encode_query
from ..core.codec.endpoint import Endpoint, Request, nearest
from ..core.model.meta import RequestInfo
from ..core.model.secrets import Secret
from ..engine import failures
from ..engine.body import read_error_body
from ..engine.call import Call
from ..engine.engine import Engine
from ..engine.upstream import Connections
from ..errors import ConfigurationError
from ..installation import install_command
from ..lazy import resolve_annotations
from ..transport.adapter import AdapterResponse, time_limit
from ..transport.base import AttemptTimeouts, Transport, TransportError, TransportRequest, TransportResponse
from ..transport.connect import Connector, TcpSettings, proxies_of
from ..transport.tcp import TcpTransport

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

__all__ = ["MAX_MESSAGE", "DialContext", "Dialled", "check_options", "dial"]

MAX_MESSAGE: int = 50 * 1024 * 1024  # bytes of one message of the server
_OPTIONS: dict[str, Any] = {
    "extensions": None,
    "subprotocols": None,
    "compression": None,
    "max_size": MAX_MESSAGE,
    "max_queue": 16,
    "write_limit": 32_768,
    "ping_interval": 20.0,
    "ping_timeout": 20.0,
    "open_timeout": None,
    "close_timeout": 10.0,
}


class DialContext(NamedTuple):
    """The target of a connection: an operation's name and path, its query, its fixed fields, the caller's options."""

    name: str
    path: str
    query: Mapping[str, Any] = {}
    fields: tuple[tuple[str, str], ...] = ()
    options: Mapping[str, Any] = {}


class Dialled(NamedTuple):
    """An open WebSocket, its name in errors, and its options."""

    ws: ClientConnection
    info: RequestInfo
    options: Mapping[str, Any]
    stall: float | None = None  # seconds without progress in sending a message


def check_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a connection with their defaults. Raises `TypeError` for an unknown one."""
    for name in given:
        if name not in _OPTIONS:
            hint = nearest(name, frozenset(_OPTIONS))
            raise TypeError(f"websocket_connection_options has no {name!r}{hint}")
    options = {**_OPTIONS, **given}
    if options["compression"] not in (None, "deflate"):
        raise ConfigurationError("compression is 'deflate' or None")
    return options


async def dial(
    calls: Engine, call: DialContext, extra_query: Mapping[str, Any], extra_headers: Mapping[str, Any]
) -> Dialled:
    """Open a WebSocket; a server that refuses raises the error of its status, as for any call.

    The call has the redirects, the renewal of a refused key, the timeouts and the errors of every other. It holds no
    slot, since the WebSocket may stay open for hours, and is not retried: `reconnect` decides that. Hooks are not
    called for it.
    """
    options = check_options(call.options)
    config = calls.config
    base = (config.websocket_base or config.base).as_websocket()
    query: Mapping[str, Any] = {**call.query, **extra_query}
    if config.placing is not None and call.path == "/realtime":
        query = config.placing.realtime(query)
    text = encode_query(_pairs(query))
    static = "\n".join(f"{name}={value}" for name, value in call.fields)
    endpoint = Endpoint(call.name, "GET", call.path, codec="bytes", headers=static)
    request = Request(endpoint, f"{call.path}?{text}" if text else call.path, None)
    request.headers = dict(extra_headers) or None
    once = replace(config, base=base, placing=None, max_retries=0, count_retries=False, observers=())
    transport = UpgradeTransport(calls.shared.transport(asyncio.get_running_loop()), options)
    calls.shared.admit(transport)
    engine = Engine(once, Connections(None, lambda: transport))
    return await Call(engine, request).run(lambda made, response: _opened(made, response, options))


async def _opened(call: Call, response: TransportResponse, options: Mapping[str, Any]) -> Dialled:
    """Take over the WebSocket of an answer; see `Receive`. Any other 2xx is a refusal."""
    if not isinstance(response, _Upgraded) or response.ws is None:
        raise failures.status_failure(
            call.meta(response), await read_error_body(response), call.attempts, call.elapsed()
        )
    response.ended = True  # from here on the WebSocket is the caller's
    return Dialled(response.ws, call.where(), options, call.timeouts.stall)


class UpgradeTransport:
    """A `Transport` for one WebSocket: each request is sent on a new connection and asks for the upgrade.

    Certificates, proxies and addresses are those of the client's own transport. Other HTTP clients and test transports
    carry no WebSockets, and are bypassed.
    """

    def __init__(self, usual: Transport, options: Mapping[str, Any]) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._settings: TcpSettings = usual.settings if isinstance(usual, TcpTransport) else TcpSettings()
        self._options = options
        self._patience: float | None = options["open_timeout"]
        self._until = None if self._patience is None else self.loop.time() + self._patience
        self._limit: asyncio.Timeout | None = None
        self._closed = False

    def secrets(self) -> Iterator[Secret]:
        """Return the secrets that are sent to proxies."""
        return proxies_of(self._settings).secrets()

    async def send(self, request: TransportRequest, timeouts: AttemptTimeouts) -> TransportResponse:
        """See `Transport.send`: the response has status 101 and the WebSocket, or is a refusal with its body."""
        limit = self._limit = asyncio.timeout_at(self.loop.time() if self._closed else self._until)
        try:
            async with limit:
                return await self._upgraded(request, timeouts)
        except TimeoutError:
            if not limit.expired():
                raise
            if self._closed:
                raise TransportError("closed", "the client was closed") from None
            late = TransportError("timeout", f"no WebSocket open within {self._patience:g} s", clock="connect")
            late.by_caller = True  # `open_timeout` is an option of the caller's that the driver does not know
            raise late from None
        finally:
            self._limit = None

    async def _upgraded(self, request: TransportRequest, timeouts: AttemptTimeouts) -> _Upgraded:
        ws = _protocol(f"ws{request.url[4:]}", self._options)
        began = self.loop.time()
        async with time_limit(timeouts, "connect"):
            opened = await Connector(self.loop, self._settings).open(request.origin, tunnel=True)
        connected = self.loop.time() - began
        raw, opened.transport = opened.transport, None
        if raw is None or opened.dropped:
            raise TransportError("protocol", "the server closed the connection, or sent data before the request")
        raw.set_protocol(ws)
        ws.connection_made(raw)
        async with time_limit(timeouts):
            return await _handshake(ws, request, connected)

    def drop(self) -> None:
        """End an opening under way, since the client is being closed."""
        self._closed = True
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(self.loop.time())

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        self.drop()


async def _handshake(ws: ClientConnection, request: TransportRequest, connected: float) -> _Upgraded:
    """Ask for the upgrade; return the answer, whatever its status."""
    from websockets.exceptions import InvalidStatus

    broken: TransportError
    try:
        await ws.handshake(request.fields_to_send(), None)
        assert ws.response is not None
        return _Upgraded(ws.response, connected, ws)
    except InvalidStatus as refused:
        return _Upgraded(refused.response, connected)
    except Exception as error:  # the set of them differs between versions of the library
        broken = _broken(error)
    finally:
        ws.request = None  # it holds the key
        if ws.state.name != "OPEN":
            ws.transport.abort()
    raise broken


class _Upgraded(AdapterResponse):
    """The answer to an upgrade: the open WebSocket, or a refusal with the beginning of its body."""

    def __init__(self, response: Any, connected: float, ws: ClientConnection | None = None) -> None:
        lines = [f"{name}: {value}\r\n" for name, value in response.headers.raw_items()]
        super().__init__(response.status_code, "".join(lines).encode("latin-1", "replace"))
        self.connected: float = connected
        self.ws: ClientConnection | None = ws
        self._body = bytes(response.body or b"")

    async def _next(self) -> bytes:
        body, self._body = self._body, b""
        return body

    def _drop(self) -> None:
        if self.ws is not None:
            self.ws.transport.abort()


def _broken(error: Exception) -> TransportError:
    """Return why the server's answer to the upgrade is invalid."""
    if isinstance(error, (EOFError, OSError)) or isinstance(error.__cause__, EOFError):
        return TransportError("eof", "the server closed the connection before it answered the upgrade")
    return TransportError(
        "protocol", "the server's answer to the upgrade is not a WebSocket handshake (RFC 6455, 4.2.2)"
    )


def _pairs(query: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Return the query as the official client sends it over WebSockets: lists repeated, `None` as an empty value."""
    for name, value in query.items():
        for item in cast("list[Any]", value) if isinstance(value, (list, tuple)) else [value]:
            yield name, "" if item is None else item


class _Quiet(logging.LoggerAdapter[logging.Logger]):
    """The library's log of connections without DEBUG lines, which show every header field, including the key."""

    def isEnabledFor(self, level: int) -> bool:
        return level > logging.DEBUG and super().isEnabledFor(level)


def _protocol(url: str, options: Mapping[str, Any]) -> ClientConnection:
    """Return the protocol of a new connection. Raises `ConfigurationError` if the library is missing."""
    try:
        from websockets.asyncio.client import ClientConnection
        from websockets.client import ClientProtocol
        from websockets.extensions.permessage_deflate import enable_client_permessage_deflate
        from websockets.uri import parse_uri
    except ImportError:
        raise ConfigurationError(
            f"WebSockets need the library `websockets` (14.2 or newer): {install_command('realtime')}"
        ) from None
    extensions = options["extensions"]
    if options["compression"] is not None:
        extensions = enable_client_permessage_deflate(extensions)
    protocol = ClientProtocol(
        parse_uri(url),
        extensions=extensions,
        subprotocols=options["subprotocols"],
        max_size=options["max_size"],
        logger=_Quiet(logging.getLogger("openaiasync.websocket"), {}),
    )
    return ClientConnection(
        protocol,
        ping_interval=None,  # our own keepalive distinguishes a lost server from a broken connection
        ping_timeout=None,
        close_timeout=options["close_timeout"],
        max_queue=options["max_queue"],
        write_limit=options["write_limit"],
    )


resolve_annotations(__name__)

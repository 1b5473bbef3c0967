"""Opening a WebSocket for one client: its URL and credentials, the connection, the upgrade.

The `websockets` library implements the protocol and is imported when the first connection is opened.
`transport.connect` opens the connection, so that proxies, certificates and timeouts are those of all calls.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from ..core.codec.encode import encode_query, merge_queries
from ..core.codec.endpoint import Endpoint, Request, nearest
from ..core.model.meta import Meta, RequestInfo
from ..engine import failures
from ..engine.call import REDIRECTS
from ..engine.config import BaseURL, timeouts_for
from ..engine.engine import Engine
from ..engine.log import logger
from ..errors import APIStatusError, ConfigurationError, OpenAIError
from ..lazy import resolve_annotations
from ..transport.base import Credentials, TransportError
from ..transport.connect import Connector, TcpSettings
from ..transport.tcp import TcpTransport

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

__all__ = ["MAX_MESSAGE", "DialContext", "Dialled", "check_options", "dial"]

T = TypeVar("T")

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

    Redirects are followed within the origin. If the server refuses a renewable key, it is renewed once and the request
    sent again. No frame of the error's traceback holds the key.
    """
    attempt = _Attempt(calls, call, extra_query, extra_headers)
    try:
        return await attempt.open()
    except TransportError as failure:
        error: BaseException = attempt.public(failure)
    except asyncio.CancelledError as cancelled:
        error = cancelled
    except OpenAIError as refused:
        error = refused
    error.__context__ = None
    raise error.with_traceback(None) from None


class _Attempt:
    """One attempt to open a WebSocket, with its redirects."""

    def __init__(
        self, calls: Engine, call: DialContext, extra_query: Mapping[str, Any], extra_headers: Mapping[str, Any]
    ) -> None:
        self.calls: Engine = calls
        self.options: dict[str, Any] = check_options(call.options)
        config = calls.config
        self.base: BaseURL = config.websocket_base or config.base
        query: Mapping[str, Any] = {**call.query, **extra_query}
        if config.placing is not None and call.path == "/realtime":
            query = config.placing.realtime(query)
        self.target = self.base.target(call.path)
        path, _, known = self.target.partition("?")
        more = merge_queries(known, encode_query(_pairs(query)))
        self.target = f"{path}?{more}" if more else path
        self.request: Request = Request(Endpoint(call.name, "GET", call.path), call.path, None)
        self.request.headers = dict(extra_headers) or None
        hidden = {name.lower() for name in (*extra_headers, *(name for name, _ in config.secret_fields))}
        fields = [pair for pair in (*call.fields, *config.fields) if pair[0].lower() not in hidden]
        # What errors show of the request: without credentials.
        root = _as_websocket(self.base.root)
        self.info: RequestInfo = RequestInfo("GET", root, self.target, fields, secrets=calls.builder.secrets)
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.began = self.loop.time()
        self.clocks = timeouts_for(calls.config, self.request)
        ends = [one for one in (self.clocks.deadline, self.options["open_timeout"]) if one is not None]
        self.until = self.began + min(ends) if ends else None
        self.clock, self.seconds = "deadline", min(ends, default=0.0)
        self.tries = 0
        self.connected = 0.0
        self.renewed = False
        self.closed = False
        self.limit: asyncio.Timeout | None = None
        calls.shared.admit(self)

    def drop(self) -> None:
        """Close the connection being opened, since the client is being closed."""
        self.closed = True
        if self.limit is not None and not self.limit.expired():
            self.limit.reschedule(self.loop.time())

    async def open(self) -> Dialled:
        redirects = 0
        while True:
            self.tries += 1
            credentials = await self._within(None, "until", self.calls.builder.credentials(self.request))
            self.info.secrets = self.calls.builder.secrets_of(credentials)
            ws = await self._connect()
            try:
                await self._upgrade(ws, credentials)
            except _Refused as refused:
                if refused.location and redirects < self.calls.config.max_redirects:
                    redirects += 1
                    if self._follow(refused.location):
                        continue
                if refused.status == 401 and self._renew(credentials):
                    continue
                raise self._status_error(refused) from None
            logger.info("WebSocket %s: open in %.3f s", self.info.url.partition("?")[0], self.loop.time() - self.began)
            return Dialled(ws, self.info, self.options, self.clocks.stall)

    async def _connect(self) -> ClientConnection:
        """Connect by TCP, proxy and TLS, and hand the connection to the `websockets` library."""
        transport = self.calls.shared.transport(self.loop)
        # Other HTTP clients and test transports carry no WebSockets: they are bypassed.
        settings = transport.settings if isinstance(transport, TcpTransport) else TcpSettings()
        ws = _protocol(_as_websocket(self.base.root) + self.target, self.options)
        connector = Connector(self.loop, settings)
        began = self.loop.time()
        opened = await self._within(self.clocks.connect, "connect", connector.open(self.base.origin, tunnel=True))
        self.connected = self.loop.time() - began
        raw, opened.transport = opened.transport, None
        if raw is None or opened.dropped:
            raise TransportError("protocol", "the server closed the connection, or sent data before the request")
        raw.set_protocol(ws)
        ws.connection_made(raw)
        return ws

    async def _upgrade(self, ws: ClientConnection, credentials: Credentials) -> None:
        from websockets.exceptions import InvalidStatus

        refused: Exception | None = None
        try:
            shown = self.info.headers.raw_pairs()
            await self._within(self.clocks.start, "start", ws.handshake([*shown, *credentials.fields()], None))
            return
        except InvalidStatus as error:
            refused = _Refused(error.response)
        except TransportError as error:
            refused = error
        except Exception as error:  # the set of them differs between versions of the library
            refused = _broken(error)
        finally:
            ws.request = None  # it holds the key
            if ws.state.name != "OPEN":
                ws.transport.abort()
        raise refused

    def _follow(self, location: str) -> bool:
        """Follow a redirect within the origin; the key is never sent to another one."""
        if location[:5].lower() in ("ws://", "wss:/"):
            location = f"http{location[2:]}"
        led = self.base.joined(self.target, location)
        if led is None or led[0].origin != self.base.origin:
            return False
        self.target = led[1]
        self.info.target = self.info.secrets.scrub_url(self.target)
        return True

    def _renew(self, credentials: Credentials) -> bool:
        """Return whether the refused key can be renewed, which is tried once."""
        renew = getattr(self.calls.config.key, "renew", None)
        again = not self.renewed and renew is not None and bool(renew(credentials))
        self.renewed = True
        return again

    def _status_error(self, refused: _Refused) -> APIStatusError:
        now = self.loop.time()
        meta = Meta(
            refused.status,
            refused.raw_fields,
            self.info,
            self.tries,
            0.0,
            self.connected,
            now - self.began,
            now - self.began,
        )
        return failures.status_failure(meta, refused.body, self.tries, now - self.began)

    async def _within(self, seconds: float | None, clock: str, work: Awaitable[T]) -> T:
        """Return the result of `work`, limited by a timeout and the deadline of the whole opening."""
        at, name = (None if seconds is None else self.loop.time() + seconds), clock
        if self.until is not None and (at is None or self.until < at):
            at, name = self.until, "until"
        limit = self.limit = asyncio.timeout_at(at)
        try:
            async with limit:
                return await work
        except TimeoutError:
            if not limit.expired():
                raise
            if self.closed:
                raise TransportError("closed", "the client was closed") from None
            raise TransportError("timeout", "the WebSocket took too long to open", clock=name) from None
        finally:
            self.limit = None

    def public(self, failure: TransportError) -> OpenAIError:
        clock = failure.clock if failure.kind == "timeout" else None
        seconds = {"connect": self.clocks.connect, "start": self.clocks.start}.get(clock or "", self.seconds)
        if clock == "until":
            clock = "deadline" if self.clocks.deadline is not None else "connect"
        elapsed = self.loop.time() - self.began
        return failures.from_transport(failure, self.info, self.tries, elapsed, clock, seconds or 0.0)


class _Refused(Exception):
    """An answer to the upgrade that is not 101."""

    def __init__(self, response: Any) -> None:
        super().__init__()
        self.status: int = response.status_code
        self.body: bytes = bytes(response.body or b"")
        lines = [f"{name}: {value}\r\n" for name, value in response.headers.raw_items()]
        self.raw_fields: bytes = "".join(lines).encode("latin-1", "replace")
        locations: list[str] = response.headers.get_all("Location") if self.status in REDIRECTS else []
        self.location: str = locations[0] if locations else ""


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


def _as_websocket(root: str) -> str:
    return f"ws{root[4:]}"


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
            "WebSockets need the library `websockets` (14.2 or newer): pip install openaiasync[realtime]"
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

"""A small asyncio HTTP/1.1 server for any ASGI application: `async with serve(app) as server: server.base_url`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import ssl as ssl_module
import stat
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

from .asgi import AsgiApp
from .http_connection import ServerConnection, ServerLimits
from .http_exchange import ServerExchange
from .lifespan import Lifespan

__all__ = ["HTTPServer", "serve", "serve_until_signal"]

_log = logging.getLogger("openaiasync.server")
_CANCEL_TIMEOUT = 1.0  # seconds for cancelled requests to end, and for their last bytes to be read
_ABORT_TIMEOUT = 5.0  # seconds for an application to shut down, and for what was aborted to end


class HTTPServer:
    """Serves one application. An async context manager; `serve` makes one.

    Counters: `connections` and `in_flight` (requests in progress) now, `peak_connections` and `peak_in_flight` at
    their highest, `total_connections` and `requests` since the start.
    """

    def __init__(
        self,
        app: AsgiApp,
        host: str,
        port: int,
        *,
        uds: str | os.PathLike[str] | None,
        ssl: ssl_module.SSLContext | None,
        grace: float,
        backlog: int,
        limits: ServerLimits,
    ) -> None:
        self.app: AsgiApp = app
        self.host = host
        self.port: int = port
        self.uds: str | None = None if uds is None else os.fspath(uds)
        self.connections: int = 0
        self.peak_connections: int = 0
        self.total_connections: int = 0
        self.in_flight: int = 0
        self.peak_in_flight: int = 0
        self.requests: int = 0
        self._ssl = ssl
        self._grace = grace
        self._backlog = backlog
        self._limits = limits
        self._lifespan = Lifespan(app)
        self._retiring: set[asyncio.Task[None]] = set()  # former applications that still have requests
        self._listener: asyncio.Server | None = None
        self._open: set[ServerConnection] = set()
        self._running: set[ServerExchange] = set()
        self._changed = asyncio.Event()  # set whenever a request or a connection ends
        self._hurried = False
        self.draining: bool = False
        """Whether the server is shutting down: new requests are answered with 503."""

    @property
    def state(self) -> dict[str, Any]:
        """The application's state for this listener: ``state`` of ASGI's lifespan."""
        return self._lifespan.state

    @property
    def base_url(self) -> str:
        """The base URL for clients: ``http://127.0.0.1:40123/v1``. On a Unix socket the host has no meaning."""
        scheme = "https" if self._ssl is not None else "http"
        if self.uds is not None:
            return f"{scheme}://localhost/v1"
        host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"{scheme}://[{host}]:{self.port}/v1" if ":" in host else f"{scheme}://{host}:{self.port}/v1"

    async def start(self) -> None:
        """Start the application, then listen. Raises `OSError` if it cannot listen on the address."""
        loop = asyncio.get_running_loop()
        await self._lifespan.start()
        tls: dict[str, Any] = {}
        if self._ssl is not None:
            tls = {"ssl": self._ssl, "ssl_handshake_timeout": self._limits.head_timeout, "ssl_shutdown_timeout": 2.0}
        try:
            if self.uds is not None:
                self._listener = await loop.create_unix_server(self._accept, self.uds, backlog=self._backlog, **tls)
            else:
                self._listener = await loop.create_server(
                    self._accept, self.host or None, self.port, backlog=self._backlog, **tls
                )
                self.port = self._listener.sockets[0].getsockname()[1]
        except BaseException:
            await self._lifespan.stop(_ABORT_TIMEOUT)
            raise

    async def reload(self, app: AsgiApp) -> None:
        """Serve another application from now on, on the same socket and connections.

        It is started first. Requests in progress end with the old application, which is shut down after the last of
        them. Raises `RuntimeError` if the new application cannot start, or the server is not running; the old one is
        served then.
        """
        if self._listener is None:
            raise RuntimeError("the server is not running")
        lifespan = Lifespan(app)
        await lifespan.start()
        if self.draining:  # it was closed meanwhile
            await lifespan.stop(_ABORT_TIMEOUT)
            raise RuntimeError("the server is not running")
        old = self._lifespan
        self._lifespan = lifespan
        self.app = app
        retiring = asyncio.create_task(self._retire(old, frozenset(self._running)))
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retiring.discard)

    async def _retire(self, lifespan: Lifespan, running: frozenset[ServerExchange]) -> None:
        """Shut an application down after the last of its requests."""
        while not running.isdisjoint(self._running):
            self._changed.clear()
            await self._changed.wait()
        await lifespan.stop(_ABORT_TIMEOUT)

    async def close(self, grace: float | None = None) -> None:
        """Stop listening, give the requests in flight `grace` seconds to end, then cancel them. Idempotent.

        Meanwhile new requests on idle connections are answered with 503 and ``Retry-After``. A cancelled stream ends
        with an error event, if the application sends one.

        `grace` defaults to that of `serve` (5 s); 0 cancels the requests at once.
        """
        listener, self._listener = self._listener, None
        if listener is None:
            return
        listener.close()
        self.draining = True
        for connection in list(self._open):
            connection.close_after_response()
        try:
            await self._wait(lambda: self._hurried or not self._running, self._grace if grace is None else grace)
        finally:
            for exchange in list(self._running):
                if exchange.task is not None:
                    exchange.task.cancel()
            await self._wait(lambda: not self._running, _CANCEL_TIMEOUT)
            for connection in list(self._open):
                connection.shut_down()
            await self._wait(lambda: self._hurried or not self._open, _CANCEL_TIMEOUT)
            for connection in list(self._open):
                connection.abort()
            if not await self._wait(lambda: not (self._open or self._running), _ABORT_TIMEOUT):
                _log.error("%d requests could not be cancelled", len(self._running))
            await listener.wait_closed()
            self._unlink()
            await self._lifespan.stop(_ABORT_TIMEOUT)
            if self._retiring:
                _, late = await asyncio.wait(set(self._retiring), timeout=_ABORT_TIMEOUT)
                for task in late:
                    task.cancel()

    def hurry(self) -> None:
        """End the grace period of a `close` in progress."""
        self._hurried = True
        self._changed.set()

    async def _wait(self, done: Callable[[], bool], seconds: float) -> bool:
        """Wait until `done` is true of requests and connections. Return whether it is."""
        try:
            async with asyncio.timeout(seconds):
                while not done():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass
        return done()

    def _unlink(self) -> None:
        if self.uds is not None:
            try:
                if stat.S_ISSOCK(os.stat(self.uds).st_mode):
                    os.unlink(self.uds)
            except OSError:
                pass  # another process removed it

    def _accept(self) -> ServerConnection:
        return ServerConnection(self, self._limits)

    # What connections report.

    def opened(self, connection: ServerConnection) -> bool:
        """Count a new connection. Return whether it is within the limit."""
        self._open.add(connection)
        self.connections += 1
        self.total_connections += 1
        self.peak_connections = max(self.peak_connections, self.connections)
        return self.connections <= self._limits.max_connections and self._listener is not None

    def closed(self, connection: ServerConnection) -> None:
        """Note that a connection has ended."""
        self._open.discard(connection)
        self.connections -= 1
        self._changed.set()

    def request_started(self, exchange: ServerExchange) -> None:
        """Count a request in progress."""
        self._running.add(exchange)
        self.requests += 1
        self.in_flight += 1
        if self.in_flight > self.peak_in_flight:
            self.peak_in_flight = self.in_flight

    def ended(self, exchange: ServerExchange) -> None:
        """Note that a request has ended."""
        self._running.discard(exchange)
        self.in_flight -= 1
        self._changed.set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close(None if kind is None else 0.0)


def serve(
    app: AsgiApp,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    uds: str | os.PathLike[str] | None = None,
    ssl: ssl_module.SSLContext | None = None,
    grace: float = 5.0,
    backlog: int = 2048,
    limits: ServerLimits | None = None,
) -> HTTPServer:
    """Return an ASGI application on a socket: an async context manager that yields an `HTTPServer`.

    `port` 0 chooses a free one. `uds` listens on that Unix socket path instead of `host` and `port`, replacing a stale
    socket. `ssl` is a server-side context. On exit, requests in flight have `grace` seconds to end (0 if the block ends
    with an exception). `limits` apply to clients. Entering raises `OSError` if the address is not available and
    `RuntimeError` if the application cannot start.
    """
    return HTTPServer(app, host, port, uds=uds, ssl=ssl, grace=grace, backlog=backlog, limits=limits or ServerLimits())


async def serve_until_signal(
    server: HTTPServer,
    on_start: Callable[[], None] = lambda: None,
    beside: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> signal.Signals:
    """Start a server, call `on_start`, run `beside`, and serve until SIGINT or SIGTERM. Return the signal.

    A second signal ends the grace period. Raises the exceptions of starting the server.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[signal.Signals] = loop.create_future()

    def end(received: signal.Signals) -> None:
        if ended.done():
            server.hurry()
        else:
            ended.set_result(received)

    try:
        for one in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(one, end, one)
    except NotImplementedError:
        pass  # Windows: Ctrl-C cancels this task instead
    await server.start()
    try:
        on_start()
        task = None if beside is None else asyncio.create_task(beside())
        try:
            return await ended
        finally:
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
    finally:
        await server.close()

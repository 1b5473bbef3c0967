"""The library's own raw server, with what tests of transports add: a default script, its origin, TLS, a wait.

A script is a coroutine function that is given a `Peer` for each connection; when it returns, the connection is cut.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import trustme

from openaiasync.testing.wire import Listener, Peer
from openaiasync.testing.wire import RawRequest as Request
from openaiasync.transport.base import (
    AttemptTimeouts,
    Credentials,
    Origin,
    TransportRequest,
)

__all__ = [
    "AUTHORITY", "CHUNKED", "CLOCKS", "HELLO", "Peer", "Request", "Server", "client_context", "outgoing",
    "server_context", "until",
]  # fmt: skip

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
AUTHORITY = trustme.CA()
CLOCKS = AttemptTimeouts(connect=10.0, start=10.0, until=None)


async def forever(peer: Peer) -> None:
    """Answer every request with ``hello``."""
    while True:
        await peer.request()
        await peer.send(HELLO)


class Server(Listener):
    """Listens on a free port (or a Unix socket) while its context is open."""

    def __init__(
        self,
        script: Callable[[Peer], Awaitable[Any]] = forever,
        *,
        tls: ssl.SSLContext | None = None,
        uds: str | None = None,
        port: int = 0,
    ) -> None:
        self.peers: list[Peer] = []  # all that ever connected

        def noted(peer: Peer) -> Awaitable[Any]:
            self.peers.append(peer)
            return script(peer)

        super().__init__(noted, tls=tls, uds=uds, port=port)

    @property
    def origin(self) -> Origin:
        return Origin(self.scheme, "127.0.0.1", 80 if self.uds else self.port)

    async def settled(self, count: int = 0, timeout: float = 5.0) -> None:
        """Wait until exactly `count` connections are open from this end's view."""
        await until(lambda: self.open == count, timeout)


async def until(condition: Callable[[], bool], timeout: float = 5.0) -> None:
    """Wait until the condition holds; look often at first."""
    loop = asyncio.get_running_loop()
    end, pause = loop.time() + timeout, 0.001
    while not condition():
        assert loop.time() < end, "it did not come about"
        await asyncio.sleep(pause)
        pause = min(pause * 1.2, 0.02)


def outgoing(
    origin: Origin,
    method: str = "POST",
    target: str = "/x",
    body: Any = b"ping",
    length: int | None = None,
    credentials: Credentials | None = None,
    fields: tuple[tuple[str, str], ...] = (),
) -> TransportRequest:
    """A request with what a test does not care about filled in."""
    return TransportRequest(origin, method, target, fields, credentials or Credentials(), body, length)


def server_context(*names: str) -> ssl.SSLContext:
    """TLS for a server of these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(*(names or ("127.0.0.1", "localhost"))).configure_cert(context)
    return context


def client_context() -> ssl.SSLContext:
    """TLS for a client that trusts these servers."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context

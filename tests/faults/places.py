"""Places on this machine where connecting goes wrong."""

from __future__ import annotations

import datetime
import socket
import ssl
from contextlib import suppress

from wireserver import AUTHORITY

__all__ = ["closed_port", "expired_context", "full_port", "release"]

_held: list[socket.socket] = []


def closed_port() -> int:
    """A port at which nobody listens: bound, so that nobody else takes it, and not listened at."""
    if not _held:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        _held.append(sock)
        _fill()
    return int(_held[0].getsockname()[1])


def full_port() -> int:
    """A port whose listener never accepts and whose queue is full: packets to it vanish, as in a black hole."""
    closed_port()
    return int(_held[1].getsockname()[1])


def _fill() -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    _held.append(listener)
    for _ in range(4):
        sock = socket.socket()
        sock.setblocking(False)
        with suppress(BlockingIOError):
            sock.connect(listener.getsockname())
        _held.append(sock)


def release() -> None:
    """Close what was held."""
    while _held:
        _held.pop().close()


def expired_context() -> ssl.SSLContext:
    """TLS for a server whose certificate has expired."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    AUTHORITY.issue_cert("127.0.0.1", "localhost", not_after=past).configure_cert(context)
    return context

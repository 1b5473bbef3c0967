"""Open connections: DNS, TCP with happy eyeballs (RFC 8305), the proxy's tunnel, TLS.

Every failure is a `TransportError` classified by its cause; a cancelled attempt leaves no socket, task or timer behind.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from itertools import chain, zip_longest
from typing import Any, cast

from ..core.http.request import request_head
from .base import AttemptTimeouts, Origin, TransportError
from .connection import Connection
from .exchange import Exchange
from .proxies import Proxies, Proxy

__all__ = ["Connector", "TcpSettings", "proxies_of"]

RECEIVE_BUFFER = 262_144  # bytes
# `start_tls` requires a timeout; ours are set elsewhere, so that this one must never expire first.
_NO_TLS_LIMIT = 86_400.0

_Address = tuple[socket.AddressFamily, Any]


@dataclass(frozen=True, slots=True)
class TcpSettings:
    """The configuration of a `TcpTransport`."""

    max_connections_per_host: int | None = None  # per origin; `None`: no limit
    keepalive: float | None = 60.0  # seconds that an idle connection is kept; `None`: until the server closes it
    ssl: ssl.SSLContext | bool | None = None  # `None`, `True`: the system's certificates; `False`: no check at all
    proxy: str | None = field(default=None, repr=False)  # "http://user:password@host:port"; hidden: it may be secret
    trust_env: bool = True  # read HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY
    local_addr: tuple[str, int] | None = None  # the address to connect from
    uds: str | None = None  # connect to this Unix socket for every origin, bypassing proxies
    happy_eyeballs_delay: float = 0.25  # seconds until the next address is tried in parallel

    def __copy__(self) -> TcpSettings:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> TcpSettings:
        return self

    def __reduce__(self) -> str | tuple[object, ...]:
        if self.proxy is not None and "@" in self.proxy:
            raise TypeError("TcpSettings with a proxy's password are not pickled: create them where they are used")
        return (type(self), tuple(getattr(self, one.name) for one in fields(self)))


def proxies_of(settings: TcpSettings) -> Proxies:
    """Return the proxies from these settings and the environment. Raises `ValueError` for an unusable one."""
    environment: Mapping[str, str] = os.environ if settings.trust_env else {}
    return Proxies(settings.proxy, environment, case_blind=sys.platform == "win32")


class Connector:
    """Opens connections for one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, settings: TcpSettings) -> None:
        """Create a connector. Raises `ValueError` for an unusable proxy."""
        self._loop = loop
        self._settings = settings
        self._proxies = proxies_of(settings)
        self._view = memoryview(bytearray(RECEIVE_BUFFER)) if _reads_at_once(loop) else None

    async def open(self, origin: Origin, *, tunnel: bool = False) -> Connection:
        """Open a new connection to `origin`; the caller applies the timeout. Raises `TransportError`.

        With `tunnel` a proxy is asked for a CONNECT tunnel, as for every ``https`` origin.
        """
        try:
            proxy = None if self._settings.uds else self._proxies.for_origin(origin)
        except ValueError as error:
            raise TransportError("proxy", str(error)) from None
        sock = await self._connect(origin, proxy)
        connection = Connection(self._loop, origin, self._view or memoryview(bytearray(RECEIVE_BUFFER)))
        try:
            await self._attach(connection, sock)
            if proxy is not None and (tunnel or origin.scheme == "https"):
                await _tunnel(connection, origin, proxy)
            elif proxy is not None:
                connection.absolute = True
                connection.credentials = proxy.credentials
            if origin.scheme == "https":
                await self._start_tls(connection, origin.host)
        except BaseException:
            connection.drop()
            raise
        return connection

    async def _attach(self, connection: Connection, sock: socket.socket) -> None:
        try:
            if self._settings.uds:
                await self._loop.create_unix_connection(lambda: connection, sock=sock)
            else:
                await self._loop.create_connection(lambda: connection, sock=sock)
        except OSError as error:
            sock.close()
            raise TransportError("refused", _reason("could not use the connection", error)) from error

    async def _start_tls(self, connection: Connection, host: str) -> None:
        raw = connection.transport
        assert raw is not None
        try:
            transport = await self._loop.start_tls(
                raw,
                connection,
                self._context(),
                server_hostname=host.rstrip("."),
                ssl_handshake_timeout=_NO_TLS_LIMIT,
            )
        except (ssl.SSLError, ssl.CertificateError, ValueError) as error:
            raise TransportError("tls", f"TLS failed: {_tls_reason(error)}") from error
        except OSError as error:
            raise TransportError("reset", "the connection was closed during the TLS handshake") from error
        finally:
            # We must tell the connection of its new transport; after a failure or cancellation the old transport must
            # not be left waiting for an orderly close.
            if connection.transport is raw and sys.exc_info()[0] is not None:
                raw.abort()
        if transport is None or connection.dropped:
            raise TransportError("eof", "the connection was closed during the TLS handshake")
        connection.transport = transport

    def _context(self) -> ssl.SSLContext:
        setting = self._settings.ssl
        if isinstance(setting, ssl.SSLContext):
            return setting
        environment = os.environ
        return _default_context(setting is not False, environment.get("SSL_CERT_FILE"), environment.get("SSL_CERT_DIR"))

    # --- sockets ---

    async def _connect(self, origin: Origin, proxy: Proxy | None) -> socket.socket:
        if self._settings.uds:
            return await self._connect_unix(self._settings.uds)
        host, port = (proxy.host, proxy.port) if proxy is not None else (origin.host, origin.port)
        what = "the proxy" if proxy is not None else "the server"
        addresses = await self._resolve(host, port, what)
        try:
            return await self._connect_any(addresses)
        except OSError as error:
            raise TransportError("refused", _reason(f"could not connect to {what}", error)) from error

    async def _connect_unix(self, path: str) -> socket.socket:
        if not hasattr(socket, "AF_UNIX"):
            raise TransportError("refused", "this system has no Unix sockets")
        try:
            return await self._connect_one((socket.AF_UNIX, path))
        except OSError as error:
            raise TransportError("refused", _reason("could not connect to the Unix socket", error)) from error

    async def _resolve(self, host: str, port: int, what: str) -> list[_Address]:
        try:
            found = _literal(host, port) or await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # gaierror is an OSError; a name no DNS can hold is a UnicodeError
            raise TransportError("dns", f"the name of {what} could not be resolved") from error
        local = self._settings.local_addr
        by_family: dict[int, list[_Address]] = {}
        for family, _, _, _, address in found:
            if local is None or (family == socket.AF_INET6) == (":" in local[0]):
                by_family.setdefault(family, []).append((family, address))
        if not by_family:
            raise TransportError("dns", f"the name of {what} has no usable address")
        # RFC 8305, 4: families take turns, beginning with the one that the resolver prefers.
        turns = chain.from_iterable(zip_longest(*by_family.values()))
        return [address for address in turns if address is not None]

    async def _connect_one(self, target: _Address) -> socket.socket:
        family, address = target
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if family != getattr(socket, "AF_UNIX", None):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._settings.local_addr is not None:
                    sock.bind(self._settings.local_addr)
            await self._loop.sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _connect_any(self, addresses: Sequence[_Address]) -> socket.socket:
        """Return the first connection that succeeds; each further address is tried when the one before failed or is
        slow."""
        if len(addresses) == 1:
            return await self._connect_one(addresses[0])
        waiting = list(reversed(addresses))
        tasks: list[asyncio.Task[socket.socket]] = []
        pending: set[asyncio.Task[socket.socket]] = set()
        try:
            while True:
                if waiting:
                    tasks.append(self._loop.create_task(self._connect_one(waiting.pop())))
                    pending.add(tasks[-1])
                delay = self._settings.happy_eyeballs_delay if waiting else None
                done, pending = await asyncio.wait(pending, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if task.exception() is None:
                        tasks.remove(task)
                        return task.result()
                if not pending and not waiting:
                    raise cast(BaseException, tasks[0].exception())
        finally:
            await _discard(tasks)


def _literal(host: str, port: int) -> list[Any]:
    """Return the resolver's result for a literal address; empty for a name.

    The event loop asks its resolver in the default thread pool, which the program may have filled with other work. A
    literal address needs no thread: AI_NUMERICHOST prevents a lookup.
    """
    if ":" not in host and not host[-1:].isdigit():
        return []
    try:
        # As bytes: text would load the IDNA codec and its tables.
        return socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return []


async def _discard(tasks: list[asyncio.Task[socket.socket]]) -> None:
    """Cancel unneeded attempts; one that has just succeeded closes its socket."""
    for task in tasks:
        task.add_done_callback(_close_result)
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _close_result(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


async def _tunnel(connection: Connection, origin: Origin, proxy: Proxy) -> None:
    """Request a tunnel from the proxy (RFC 9110, 9.3.6)."""
    transport = connection.transport
    assert transport is not None
    bracketed = f"[{origin.host}]" if ":" in origin.host else origin.host
    target = f"{bracketed}:{origin.port}"
    exchange = Exchange(connection, AttemptTimeouts(None, None, None), True, 0.0)
    exchange.tunnel = True
    transport.write(b"".join((request_head("CONNECT", target, target, ()), proxy.credentials.wire(), b"\r\n")))
    try:
        await exchange.head()
    except TransportError as error:
        raise TransportError("proxy", f"the proxy did not answer CONNECT: {error.message}") from None
    if not 200 <= exchange.status < 300:
        raise TransportError("proxy", f"the proxy refused CONNECT with status {exchange.status}")
    if connection.dropped:
        raise TransportError("proxy", "the proxy sent more than an answer to CONNECT, or closed the connection")
    connection.served = 0


@lru_cache(maxsize=8)
def _default_context(verify: bool, *environment: str | None) -> ssl.SSLContext:
    """Return a context with the system's certificates, or those of SSL_CERT_FILE and SSL_CERT_DIR (`environment`, the
    cache key)."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.hostname_checks_common_name = False  # RFC 9525, section 2: only subjectAltName counts
    context.set_alpn_protocols(["http/1.1"])
    return context


def _reads_at_once(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether the loop fills a buffer and reports it in one step, so that connections can share one buffer."""
    if sys.platform == "win32":
        return isinstance(loop, asyncio.SelectorEventLoop)
    return isinstance(loop, asyncio.SelectorEventLoop) or type(loop).__module__.partition(".")[0] == "uvloop"


def _reason(what: str, error: OSError) -> str:
    return f"{what}: {os.strerror(error.errno)}" if error.errno and error.errno > 0 else what


_OTHER_NAME = frozenset({62, 64})  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH


def _tls_reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        where = "; only its subjectAltName counts, not its CN" if error.verify_code in _OTHER_NAME else ""
        return f"the certificate was not accepted ({error.verify_message}{where})"
    reason: str = getattr(error, "reason", None) or type(error).__name__
    # Plain HTTP where the first record of TLS was expected.
    plain = reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
    return f"{reason}: does the server speak plain HTTP? Then its URL begins with http://" if plain else reason

"""The connection pool: idle connections, and requests that wait for one.

Idle connections are used last in, first out; requests are served first come, first served. A connection counts towards
`max_connections_per_host` from the attempt to connect until its socket is closed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from .base import AttemptTimeouts, Origin, TransportError, earlier
from .connect import Connector
from .connection import NEVER, Connection
from .exchange import TIMEOUTS
from .waiting import SLOW, Waiting, live_owner

__all__ = ["Pool"]

RELIEF = 0.2  # seconds without an answer on new connections after which idle ones are dropped
SLOW_QUEUE: float = SLOW  # seconds of waiting for a connection after which the log names the option


class _Host:
    """The state of one origin."""

    __slots__ = ("__weakref__", "answered_at", "connections", "fresh", "idle", "origin", "places", "proven", "waiters")

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.connections: set[Connection] = set()
        self.idle: list[Connection] = []
        # Connections whose first request has no byte of an answer yet: the server may not have accepted them.
        self.fresh: set[Connection] = set()
        self.answered_at = 0.0  # the loop's time at which one of them was last removed
        self.proven = 0  # the number of connections that the server has served at once
        self.places = 0
        # Resolved with a connection, with `None` for permission to open one, or with an error.
        self.waiters: deque[asyncio.Future[Connection | TransportError | None]] = deque()

    def hand_over(self, what: Connection | TransportError | None) -> bool:
        """Hand the result to the first request that still waits, if any."""
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(what)
                return True
        return False

    def prune(self) -> None:
        """Remove finished waiters at both ends (those in the middle are skipped at their turn)."""
        while self.waiters and self.waiters[-1].done():
            self.waiters.pop()
        while self.waiters and self.waiters[0].done():
            self.waiters.popleft()

    def free_place(self) -> None:
        if not self.hand_over(None):
            self.places -= 1

    def starves(self, now: float) -> list[Connection]:
        """Return the idle connections that keep the server from accepting new ones: see `Pool`."""
        left = {connection for connection in self.fresh if _waits_for_its_first_byte(connection)}
        if len(left) < len(self.fresh):
            self.fresh = left
            self.answered(now)
        bound = len(self.connections) - len(left)
        patience = RELIEF if bound >= self.proven else 5 * RELIEF
        since = max([self.answered_at, *[connection.idle_since for connection in self.idle]])
        if not left or not self.idle or now - max(since, min(one.idle_since for one in left)) < patience:
            return []
        return list(self.idle)

    def answered(self, now: float) -> None:
        """Record that a first request was answered, or its connection lost."""
        self.answered_at = now
        self.proven = max(self.proven, len(self.connections) - len(self.fresh))

    # --- deadlock detection ---

    def holders(self) -> Iterable[object]:
        """Return the tasks that read the answers on its connections; `None` for a connection being opened."""
        held: list[object] = []
        for connection in self.connections:
            exchange = connection.current()
            held.append(None if exchange is None else live_owner(exchange.reader))
        return held + [None] * (self.places - len(held))

    def reclaim(self) -> None:
        """Do nothing: the pool of a closed loop is gone."""

    def describe(self) -> str:
        """See `Awaited`."""
        waiting = sum(not waiter.done() for waiter in self.waiters)
        return (
            f"a connection to {self.origin.host}:{self.origin.port}: all {self.places} are in use and {waiting} calls "
            "wait; http_max_connections_per_host sets how many there are, and an open stream is on one until it is "
            "closed"
        )

    def advice(self) -> str:
        """Return the error message for a deadlock."""
        return (
            f"all {self.places} connections to {self.origin.host}:{self.origin.port} are held by tasks that wait for "
            "one themselves (open streams count until they are closed): close a stream first, or raise "
            f"http_max_connections_per_host (now {self.places})"
        )


class Pool:
    """The connections of one event loop.

    Some servers (llama.cpp, others on cpp-httplib, threaded ones in Python) use one thread per connection and have few
    threads. An idle connection keeps its thread for some seconds, while new ones wait. So idle connections of a host
    are dropped when the first requests on new ones got no answer for `RELIEF` seconds, or later if the server has
    served more connections at once than are open now.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, connector: Connector, limit: int | None, keepalive: float | None
    ) -> None:
        """Create a pool of at most `limit` connections per origin; an idle one is kept for `keepalive` seconds."""
        self.loop = loop
        self._connector = connector
        self._limit = limit
        self._keepalive = NEVER if keepalive is None else keepalive
        self._hosts: dict[Origin, _Host] = {}
        self._connections: set[Connection] = set()
        self._opening: set[asyncio.Timeout] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._relief: asyncio.TimerHandle | None = None
        self.closed: bool = False

    def take(self, origin: Origin, now: float) -> Connection | None:
        """Return an idle connection that needs no further check, if any; `now` is the loop's time."""
        host = self._hosts.get(origin)
        while host is not None and host.idle:
            connection = host.idle.pop()
            if connection.dropped or now - connection.idle_since >= self._keepalive:
                connection.drop()
            elif not connection.readable():
                return connection
            elif origin.scheme == "https":
                host.idle.append(connection)  # perhaps only a session ticket: `acquire` checks
                return None
            else:
                connection.drop()
        return None

    async def acquire(self, origin: Origin, clocks: AttemptTimeouts) -> Connection:
        """Return an idle connection or a new one, waiting if the limit is reached. Raises `TransportError`."""
        host = self._hosts.get(origin) or self._hosts.setdefault(origin, _Host(origin))
        waited = False
        while True:
            if self.closed:
                raise TransportError("closed", "the client was closed")
            connection = await self._settled(origin, host)
            if connection is not None:
                return connection
            if self._limit is None or host.places < self._limit:
                host.places += 1
                break
            got = await self._queue(host, clocks, first=waited)
            waited = True
            if got is None:
                break
            if not got.dropped and (origin.scheme == "https" or not got.readable()):
                return got
            got.drop()
        try:
            return self._keep(await self._open(origin, clocks))
        except BaseException:
            host.free_place()
            raise

    async def _settled(self, origin: Origin, host: _Host) -> Connection | None:
        """Return an idle connection, letting the loop read possible session tickets first."""
        while (connection := self.take(origin, self.loop.time())) is None and host.idle:
            connection = host.idle.pop()
            try:
                # The first turn lets the loop see the bytes, the second lets it handle them: by then a connection that
                # received data or its end is dropped.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                self.recycle(connection)
                raise
            if not connection.dropped and not connection.readable():
                return connection
            connection.drop()
        return connection

    async def _queue(self, host: _Host, clocks: AttemptTimeouts, *, first: bool) -> Connection | None:
        waiter: asyncio.Future[Connection | TransportError | None] = self.loop.create_future()
        (host.waiters.appendleft if first else host.waiters.append)(waiter)
        patience = None if clocks.queue is None else self.loop.time() + clocks.queue
        at, clock = earlier(clocks.until, "until", patience, "queue")
        timer = None if at is None else self.loop.call_at(at, _expire, waiter, clock)
        try:
            with Waiting(host, lambda: _end(waiter, TransportError("stuck", host.advice())), SLOW_QUEUE):
                got = await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():
                self._pass_on(host, waiter.result())
            raise
        finally:
            host.prune()
            if timer is not None:
                timer.cancel()
        if isinstance(got, TransportError):
            raise got
        return got

    def _pass_on(self, host: _Host, got: Connection | TransportError | None) -> None:
        """Pass on a connection, or the permission to open one, that a cancelled waiter was given."""
        if got is None:
            host.free_place()
        elif isinstance(got, Connection):
            self.recycle(got)

    async def _open(self, origin: Origin, clocks: AttemptTimeouts) -> Connection:
        end = None if clocks.connect is None else self.loop.time() + clocks.connect
        at, clock = earlier(end, "connect", clocks.until, "until")
        timeout = asyncio.timeout_at(at)
        try:
            async with timeout:
                self._opening.add(timeout)
                connection = await self._connector.open(origin)
        except TimeoutError:
            if self.closed:
                raise TransportError("closed", "the client was closed") from None
            raise TransportError("timeout", TIMEOUTS[clock], clock=clock) from None
        finally:
            self._opening.discard(timeout)
        if self.closed:
            connection.drop()
            raise TransportError("closed", "the client was closed")
        return connection

    def _keep(self, connection: Connection) -> Connection:
        connection.recycle = self.recycle
        connection.lost = self._forget
        self._connections.add(connection)
        host = self._hosts[connection.origin]
        host.connections.add(connection)
        host.fresh.add(connection)
        connection.idle_since = self.loop.time()
        return connection

    def _forget(self, connection: Connection) -> None:
        """Handle a closed socket: another connection may be opened."""
        self._connections.discard(connection)
        host = self._hosts[connection.origin]
        host.connections.discard(connection)
        host.fresh.discard(connection)
        if connection in host.idle:
            host.idle.remove(connection)
        host.free_place()

    def recycle(self, connection: Connection) -> None:
        """Return to the pool a connection whose exchange ended exactly."""
        if connection.dropped or self.closed:
            connection.drop()
            return
        host = self._hosts[connection.origin]
        if host.fresh and connection in host.fresh:
            host.fresh.remove(connection)
            host.answered(self.loop.time())
        if host.waiters and host.hand_over(connection):
            return
        connection.idle_since = self.loop.time()
        host.idle.append(connection)
        if host.fresh and self._relief is None:
            self._relief = self.loop.call_later(RELIEF, self._relieve)
        if self._sweeper is None and self._keepalive < NEVER:
            self._sweeper = self.loop.call_later(self._keepalive, self._sweep)

    def _sweep(self) -> None:
        """Drop connections that were idle for too long, and reschedule for the next one."""
        self._sweeper = None
        now = self.loop.time()
        oldest = NEVER
        for host in self._hosts.values():
            stale = [connection for connection in host.idle if connection.idle_since + self._keepalive <= now]
            host.idle = [connection for connection in host.idle if connection.idle_since + self._keepalive > now]
            for connection in stale:
                connection.drop()
            oldest = min(oldest, *(connection.idle_since for connection in host.idle), NEVER)
        if oldest < NEVER:
            self._sweeper = self.loop.call_at(oldest + self._keepalive, self._sweep)

    def _relieve(self) -> None:
        """Drop idle connections of hosts that do not accept new ones; reschedule while there are both."""
        self._relief = None
        now = self.loop.time()
        for host in self._hosts.values():
            for connection in host.starves(now):
                connection.drop()
                host.idle.remove(connection)
        if any(host.fresh and host.idle for host in self._hosts.values()):
            self._relief = self.loop.call_later(RELIEF / 2, self._relieve)

    def close(self) -> None:
        """Drop every connection; tasks that use, open or await one get a `TransportError` of kind ``"closed"``."""
        self.closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        if self._relief is not None:
            self._relief.cancel()
            self._relief = None
        for timeout in self._opening:
            if not timeout.expired():
                timeout.reschedule(0)
        for host in self._hosts.values():
            host.idle.clear()
            while host.hand_over(TransportError("closed", "the client was closed")):
                pass
        for connection in list(self._connections):
            exchange = connection.current()
            if exchange is not None:
                exchange.fail("closed", "the client was closed")
            connection.drop()


def _waits_for_its_first_byte(connection: Connection) -> bool:
    exchange = connection.current()
    return exchange is not None and not exchange.reused and not exchange.answered and not connection.dropped


def _expire(waiter: asyncio.Future[Connection | TransportError | None], clock: str) -> None:
    _end(waiter, TransportError("timeout", "no connection became free in time", clock=clock))


def _end(waiter: asyncio.Future[Connection | TransportError | None], error: TransportError) -> None:
    if not waiter.done():
        waiter.set_result(error)

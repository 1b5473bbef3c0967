"""An event loop on a fake clock: when nothing but a timer can happen next, the time jumps to that timer.

`FakeClockLoop` runs real sockets, threads and files, but its clock stands still while code runs, however slow the
machine is. It moves in three ways only:

* by `TICK` for each turn of the loop, so that what comes later has a later time;
* to the next timer, at once, when the loop is idle and nothing under way can still wake it;
* with the real clock, a slice at a time, while something outside of the loop is at work: a thread, a process, a host.

Whether the loop is idle is not guessed from a pause. `Outside` reads the kernel's counters of every TCP socket of the
process: bytes that one end has sent and the other has not received, a SYN without an answer, a FIN on its way are work.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import concurrent.futures.thread
import os
import selectors
import socket
import stat
import struct
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Any, NamedTuple, TypeVar

__all__ = ["FakeClockLoop"]

T = TypeVar("T")

TICK = 1e-6  # seconds that a turn of the loop takes
SLICE = 0.005  # real seconds between two looks at what goes on outside
SETTLING = 0.05  # real seconds after which what does not move on the network is taken to stand still
ACKNOWLEDGED = 0.5  # real seconds within which Linux acknowledges what it has received
SYN_AGAIN = 1.3  # real seconds; Linux sends a SYN that nobody answered again after one

# Elsewhere nobody tells what is under way: a slice without an event has to do.
COUNTED = sys.platform == "linux"

# States of TCP, as Linux counts them.
_ESTABLISHED, _SYN_SENT, _FIN_WAIT1, _FIN_WAIT2, _LAST_ACK, _LISTEN, _CLOSING = 1, 2, 4, 5, 9, 10, 11
_ENDING = (_FIN_WAIT1, _LAST_ACK, _CLOSING)  # a FIN is on its way, or waits behind unsent bytes

# Threads that were there before the test: they may still talk to the loop, but over a socket.
_older_threads = weakref.WeakSet(threading.enumerate())


def a_test_begins() -> None:
    """Note the threads that are no work of the test."""
    _older_threads.clear()
    _older_threads.update(threading.enumerate())


class Work(Enum):
    """What may still wake a loop that has nothing to do."""

    NONE = "nothing"
    NETWORK = "bytes that travel between two sockets of this process"
    ELSEWHERE = "a thread, a process or a host that takes real time"


class _Tcp(NamedTuple):
    """One TCP socket of this process, by the kernel's counters."""

    identity: int  # inode
    local: Any
    peer: Any  # None: a listener, or not connected
    state: int
    sent: int
    received: int
    held: bool  # bytes that may be sent wait for an acknowledgement (Nagle's algorithm), which may be delayed
    queued: int  # of a listener: connections that wait to be accepted
    backlog: int  # and how many may


class Outside:
    """Looks for work that is under way outside of the event loop."""

    def __init__(self) -> None:
        self.executing = 0  # functions that run in the loop's executors
        self.known: set[int] = set()  # the inodes of all that the loop has ever waited for
        self._still: dict[Any, float] = {}  # what stood still on the network, since when (real time)

    def look(self, registered: Iterable[selectors.SelectorKey]) -> Work:
        """What may still happen without the loop."""
        threads = [thread for thread in threading.enumerate() if _works(thread)]
        if self.executing or any(thread not in _older_threads for thread in threads):
            return Work.ELSEWHERE
        moving, abroad = _moving(list(_tcp_sockets()), self.known)
        if threads and abroad:
            return Work.ELSEWHERE
        if (abroad or any(_is_pipe(key.fd) for key in registered)) and _has_children():
            return Work.ELSEWHERE
        now = time.monotonic()
        self._still = {key: self._still.get(key, now) for key in moving}
        return Work.NETWORK if any(now - since < moving[key] for key, since in self._still.items()) else Work.NONE


def _moving(sockets: list[_Tcp], known: set[int]) -> tuple[dict[Any, float], bool]:
    """What is under way on the network, and the real time it gets to arrive; and whether a peer is not the loop's own.

    `known` are the loop's sockets: what others do among themselves does not wake it.
    """
    ends = {(one.local, one.peer): one for one in sockets if one.peer is not None}
    full = any(one.state == _LISTEN and one.queued > one.backlog for one in sockets)
    moving: dict[Any, float] = {}
    abroad = False
    for one in sockets:
        other = ends.get((one.peer, one.local)) if one.peer is not None else None
        if one.identity not in known and (other is None or other.identity not in known):
            continue
        if one.state == _SYN_SENT:
            # Where no queue is full, it may have been when the SYN came: that will be sent again.
            moving[one] = SETTLING if full else SYN_AGAIN
        if one.peer is None:
            continue
        if other is None:
            if one.state in (_ESTABLISHED, _FIN_WAIT1, _FIN_WAIT2):
                abroad = True  # or nobody has accepted it yet, or a FIN comes
                moving[one] = SETTLING
            continue
        abroad = abroad or other.identity not in known
        if one.held:
            moving[one, other.received] = ACKNOWLEDGED
        elif one.sent > other.received or one.state in _ENDING:
            moving[one, other.received] = SETTLING
    return moving, abroad


def _works(thread: threading.Thread) -> bool:
    """Whether a thread may do something that the loop waits for; workers of executors are counted by their work."""
    if thread is threading.current_thread():
        return False
    return getattr(thread, "_target", None) is not concurrent.futures.thread._worker  # type: ignore[attr-defined]


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except (ChildProcessError, AttributeError):
        return False
    return True


def _is_pipe(descriptor: int) -> bool:
    return stat.S_ISFIFO(os.fstat(descriptor).st_mode)


def _tcp_sockets() -> Iterator[_Tcp]:
    """Every TCP socket of this process, where the system tells."""
    names = os.listdir("/proc/self/fd") if COUNTED else []
    for name in names:
        try:
            facts = os.fstat(int(name))
            if not stat.S_ISSOCK(facts.st_mode):
                continue
            sock = socket.socket(fileno=int(name))
        except OSError:
            continue  # the listing's own, or closed by another thread meanwhile
        try:
            if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM:
                yield _tcp(sock, facts.st_ino)
        except OSError:
            pass
        finally:
            sock.detach()


def _tcp(sock: socket.socket, identity: int) -> _Tcp:
    """Reads a socket's `struct tcp_info` of ``linux/tcp.h``."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232)
    local = sock.getsockname()[:2]
    try:
        peer = sock.getpeername()[:2]
    except OSError:
        peer = None
    if info[0] == _LISTEN:
        return _Tcp(identity, local, None, info[0], 0, 0, False, *struct.unpack_from("II", info, 24))
    (segment,) = struct.unpack_from("I", info, 16)
    acknowledged, received = struct.unpack_from("QQ", info, 120)
    (unsent,) = struct.unpack_from("I", info, 144)
    sent, again = struct.unpack_from("QQ", info, 200)
    (window,) = struct.unpack_from("I", info, 228)
    held = unsent > 0 and min(unsent, segment) <= window - max(0, sent - again - acknowledged)
    return _Tcp(identity, local, peer, info[0], sent - again, received, held, 0, 0)


class _IdleSelector(selectors.DefaultSelector):
    """Waits for real events only as long as some can come."""

    loop: FakeClockLoop

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = super().register(fileobj, events, data)
        self.loop.outside.known.add(os.fstat(key.fd).st_ino)
        return key

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        loop = self.loop
        loop.now += TICK
        events = super().select(0)
        while not events and (timeout is None or timeout > 0):
            work = loop.outside.look(self.get_map().values())
            if work is Work.NONE and timeout is not None:
                # What arrived while we looked is no longer on its way, and has to be asked for once more.
                events = super().select(0 if COUNTED else SLICE)
                if not events:
                    loop.jump(timeout)
                return events
            began = time.monotonic()
            events = super().select(SLICE if timeout is None else min(timeout, SLICE))
            if work is Work.ELSEWHERE:
                # A machine that stands still for a second takes a slice of the clock, not a second.
                passed = min(time.monotonic() - began, SLICE)
                loop.now += passed
                timeout = None if timeout is None else timeout - passed
        return events


class FakeClockLoop(asyncio.SelectorEventLoop):
    """An event loop whose `time` jumps to the next timer when the loop is idle."""

    _latest = 0.0  # of all loops: a client that is used in several sees one clock

    def __init__(self) -> None:
        self.now = max(time.monotonic(), FakeClockLoop._latest)
        self.outside = Outside()
        self._counting = threading.Lock()
        selector = _IdleSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now

    def jump(self, seconds: float) -> None:
        """To the next timer, which is due in so many seconds."""
        timers: Any = self._scheduled  # type: ignore[attr-defined]
        self.now = max(self.now + seconds, timers[0].when()) if timers and seconds < 3600 else self.now + seconds

    def close(self) -> None:
        FakeClockLoop._latest = max(FakeClockLoop._latest, self.now)
        super().close()

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        self._check_closed()  # type: ignore[attr-defined]
        if executor is None:
            self._check_default_executor()  # type: ignore[attr-defined]
            executor = self._default_executor  # type: ignore[attr-defined]
        if executor is None:
            executor = concurrent.futures.ThreadPoolExecutor(thread_name_prefix="asyncio")
            self.set_default_executor(executor)
        with self._counting:
            self.outside.executing += 1
        working = executor.submit(func, *args)
        # The future's own callback comes first: when the count falls, the loop has been woken.
        future: asyncio.Future[T] = asyncio.wrap_future(working, loop=self)
        working.add_done_callback(self._executed)
        return future

    def _executed(self, working: Any) -> None:
        with self._counting:
            self.outside.executing -= 1

"""The fake clock of the tests: what it skips, and what it must wait for."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import clock
from conftest import run


async def spent(act: Awaitable[Any]) -> float:
    """The seconds that `act` takes by the loop's clock."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await act
    return loop.time() - began


def test_time_jumps_to_the_next_timer() -> None:
    """A day of sleep takes no time, in the order of the timers, and exactly as long as it says."""
    order: list[float] = []

    async def after(seconds: float) -> None:
        await asyncio.sleep(seconds)
        order.append(seconds)

    async def main() -> float:
        return await spent(asyncio.gather(*map(after, (3.0, 0.5, 86_400.0, 2.0))))

    began = time.monotonic()
    assert run(main(), timeout=100_000) == pytest.approx(86_400.0, abs=0.01)
    assert order == [0.5, 2.0, 3.0, 86_400.0]
    assert time.monotonic() - began < 20


def test_time_stands_still_while_code_runs() -> None:
    """A machine that is slow lets no clock run out."""

    async def main() -> None:
        async with asyncio.timeout(0.01):
            time.sleep(0.05)  # noqa: ASYNC251 (the machine's lag)
            await asyncio.sleep(0)

    run(main())


def test_a_deadlock_ends_at_once() -> None:
    """What nothing can wake any more runs into its time limit without waiting for it."""

    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        run(main(), timeout=3_600)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("nodelay", [True, False])
def test_bytes_on_their_way_are_waited_for(nodelay: bool) -> None:
    """No timer fires before bytes that were sent have arrived, those that wait for an acknowledgement among them."""

    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for _ in range(3):
                await reader.readexactly(2)
                writer.write(b"ok")
            await reader.read()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()) as sock:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, nodelay)
            loop = asyncio.get_running_loop()
            for _ in range(3):
                async with asyncio.timeout(0.001):
                    await loop.sock_sendall(sock, b"h")
                    await loop.sock_sendall(sock, b"i")
                    assert await loop.sock_recv(sock, 10) == b"ok"
        server.close()
        await asyncio.sleep(0.001)

    run(main())


def test_a_megabyte_is_waited_for() -> None:
    """And so is what is more than the kernel's buffers take at once, with a reader that pauses."""

    async def main() -> float:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(bytes(8_000_000))
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        loop = asyncio.get_running_loop()
        began = loop.time()
        got = 0
        while data := await reader.read(100_000):
            got += len(data)
            if got % 7 == 0:
                await asyncio.sleep(0.001)
        assert got == 8_000_000
        writer.close()
        server.close()
        return loop.time() - began

    assert run(main()) < 0.5


def _threads(loop: asyncio.AbstractEventLoop) -> Awaitable[Any]:
    done = loop.create_future()

    def work() -> None:
        time.sleep(0.05)
        loop.call_soon_threadsafe(done.set_result, None)

    threading.Thread(target=work).start()
    return done


def _executor(loop: asyncio.AbstractEventLoop) -> Awaitable[Any]:
    return asyncio.to_thread(time.sleep, 0.05)


async def _process(loop: asyncio.AbstractEventLoop) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "import time; time.sleep(0.05); print('hi')", stdout=subprocess.PIPE
    )
    assert await child.communicate() == (b"hi\n", None)


@pytest.mark.parametrize("outside", [_threads, _executor, _process])
def test_what_takes_real_time_gets_it(outside: Callable[[asyncio.AbstractEventLoop], Awaitable[Any]]) -> None:
    """A thread, an executor and a process are waited for by the real clock, though a timer is due much later."""

    async def main() -> None:
        took = await spent(asyncio.wait_for(asyncio.ensure_future(outside(asyncio.get_running_loop())), 20))
        assert 0.005 < took < 19

    run(main())


def test_a_thread_that_does_not_end_is_no_reason_to_wait_for_ever() -> None:
    """The clock goes on meanwhile, and a time limit holds."""
    let_go = threading.Event()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await asyncio.get_running_loop().create_future()

    thread = threading.Thread(target=let_go.wait)
    thread.start()
    try:
        run(main())
    finally:
        let_go.set()
        thread.join()


def test_a_server_in_an_older_thread_gets_real_time() -> None:
    """A thread from before the test is work only while a connection leads to it."""

    def serve() -> None:
        for _ in range(2):
            peer, _ = listener.accept()
            with peer:
                while peer.recv(10):
                    time.sleep(0.05)
                    peer.sendall(b"ok")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        began = time.monotonic()
        await asyncio.sleep(3_000)
        assert time.monotonic() - began < 20
        for _ in range(2):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            async with asyncio.timeout(20):
                writer.write(b"hi")
                assert await reader.readexactly(2) == b"ok"
            writer.close()
            await writer.wait_closed()
        began = time.monotonic()
        await asyncio.sleep(3_000)
        assert time.monotonic() - began < 20
        assert loop.time() > 6_000

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        clock.a_test_begins()
        run(main(), timeout=10_000)
        thread.join(10)
        assert not thread.is_alive()


def test_nobody_accepts() -> None:
    """Connecting to a listener whose queue is full ends with its time limit, after a moment of real time."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as stack:
            for _ in range(3):
                sock = stack.enter_context(socket.socket())
                sock.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    sock.connect(listener.getsockname())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(600):
                    await asyncio.open_connection(*listener.getsockname())

    began = time.monotonic()
    run(main(), timeout=1_000)
    assert time.monotonic() - began < 20


def test_loops_share_one_time() -> None:
    """What one loop has lived through is past in the next: time never goes back."""

    async def main() -> float:
        await asyncio.sleep(1_000)
        return asyncio.get_running_loop().time()

    first = run(main(), timeout=2_000)
    assert run(main(), timeout=2_000) >= first + 1_000

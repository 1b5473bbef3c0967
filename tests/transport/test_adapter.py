"""The border is in the right place: an adapter over another HTTP library is short, and keeps the contract."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import h11
import pytest

from conftest import run
from openaiasync.transport.adapter import AdapterResponse, time_limit
from openaiasync.transport.base import (
    AttemptTimeouts,
    Transport,
    TransportError,
    TransportRequest,
    TransportResponse,
)
from wireserver import CHUNKED, HELLO, Peer, Server, outgoing


class H11Incoming(AdapterResponse):
    """The rest of an answer that h11 reads."""

    def __init__(self, head: h11.Response, receive: Callable[[], Any], writer: asyncio.StreamWriter) -> None:
        super().__init__(head.status_code, b"".join(b"%b: %b\r\n" % pair for pair in head.headers.raw_items()))
        self._receive = receive
        self._writer = writer

    async def _next(self) -> bytes:
        event = await self._receive()
        if isinstance(event, h11.Data):
            return bytes(event.data)
        self._drop()
        return b""

    def _drop(self) -> None:
        self._writer.transport.abort()


class H11Transport:
    """One connection a request, over asyncio's streams and h11."""

    async def send(self, out: TransportRequest, clocks: AttemptTimeouts) -> H11Incoming:
        """See `Transport.send`; bodies are bytes here."""
        try:
            async with asyncio.timeout(clocks.connect):
                reader, writer = await asyncio.open_connection(out.origin.host, out.origin.port)
        except TimeoutError:
            raise TransportError("timeout", "no connection in time", clock="connect") from None
        except OSError as error:
            raise TransportError("refused", "could not connect") from error
        wire = h11.Connection(h11.CLIENT)

        async def receive() -> Any:
            try:
                while (event := wire.next_event()) is h11.NEED_DATA:
                    wire.receive_data(await reader.read(65_536))
                return event
            except h11.RemoteProtocolError as error:
                raise TransportError("eof" if wire.trailing_data[1] else "protocol", "broken answer") from error
            except OSError as error:
                raise TransportError("reset", "the connection was reset") from error

        fields = [("Host", out.origin.host), ("Content-Length", str(len(out.body)))]
        request = h11.Request(
            method=out.method, target=out.target, headers=[*fields, *out.fields, *out.credentials.fields()]
        )
        try:
            async with time_limit(clocks):
                for event in (request, h11.Data(data=out.body), h11.EndOfMessage()):
                    writer.write(wire.send(event) or b"")
                while isinstance(head := await receive(), h11.InformationalResponse):
                    pass
        except BaseException:
            writer.transport.abort()
            raise
        incoming = H11Incoming(head, receive, writer)
        incoming.expire(clocks.until, "until")
        return incoming

    async def aclose(self) -> None:
        """See `Transport.aclose`; connections end with their answers."""


def test_an_adapter_is_short() -> None:
    """Under 60 lines for both classes, docstrings included; and it is a `Transport` to a type checker."""
    transport: Transport = H11Transport()
    send: Callable[..., Any] = transport.send
    assert send is not None
    lines = inspect.getsource(H11Incoming) + inspect.getsource(H11Transport)
    assert len([line for line in lines.splitlines() if line.strip()]) < 60


CLOCKS = AttemptTimeouts(5, 5, None)


def with_server(
    script: Any, clocks: AttemptTimeouts = CLOCKS, expire: float | None = None, cap: int = 1 << 20
) -> bytes:
    async def main() -> bytes:
        async with Server(script) as server:
            try:
                incoming: TransportResponse = await H11Transport().send(outgoing(server.origin), clocks)
                if expire is not None:
                    incoming.expire(asyncio.get_running_loop().time() + expire, "stall")
                body = await incoming.read(cap)
                assert incoming.ended
                assert await incoming.pieces() == []
                return body
            finally:
                await server.settled(0)

    return run(main())


def replying(*parts: bytes, hold: bool = True) -> Any:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(*parts)
        if hold:
            await peer.gone()

    return script


def test_an_adapter_reads_answers() -> None:
    """With a length, chunked, after interim ones."""
    assert with_server(replying(HELLO)) == b"hello"
    assert with_server(replying(CHUNKED, b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n")) == b"abcde"
    assert with_server(replying(b"HTTP/1.1 100 Continue\r\n\r\n", HELLO)) == b"hello"


@pytest.mark.parametrize(
    ("script", "options", "kind", "clock"),
    [
        (replying(), {"clocks": AttemptTimeouts(5, 0.05, None)}, "timeout", "start"),
        (replying(CHUNKED), {"expire": 0.05}, "timeout", "stall"),
        (replying(CHUNKED, b"5\r\nhello\r\n"), {"cap": 4}, "protocol", None),
        (replying(b"SSH-2.0\r\n\r\n"), {}, "protocol", None),
        (replying(CHUNKED, b"5\r\nhe", hold=False), {}, "eof", None),
    ],
)
def test_an_adapter_keeps_clocks_caps_and_causes(
    script: Any, options: dict[str, Any], kind: str, clock: str | None
) -> None:
    """Everything that `AdapterResponse` does for it; and no socket is left."""
    with pytest.raises(TransportError) as caught:
        with_server(script, **options)
    assert (caught.value.kind, caught.value.clock) == (kind, clock)


def test_an_adapter_frees_its_socket_when_cancelled_or_given_up() -> None:
    """While waiting for a head, for a body, and by `abort`, `end` reaching who waits."""

    async def main() -> None:
        for parts in ((), (CHUNKED,)):
            async with Server(replying(*parts)) as server:

                async def call(server: Server = server) -> None:
                    incoming = await H11Transport().send(outgoing(server.origin), CLOCKS)
                    await incoming.pieces()

                task = asyncio.create_task(call())
                await asyncio.sleep(0.05)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await server.settled(0)
        async with Server(replying(CHUNKED)) as server:
            incoming = await H11Transport().send(outgoing(server.origin), CLOCKS)
            task = asyncio.create_task(incoming.pieces())
            await asyncio.sleep(0.02)
            incoming.abort()
            incoming.abort()
            for wait in (task, incoming.pieces()):
                with pytest.raises(TransportError) as caught:
                    await wait
                assert caught.value.kind == "closed"
            await server.settled(0)

    run(main())

"""How an open WebSocket ends: each end is told by its cause, nothing hangs, nothing is left."""

from __future__ import annotations

import asyncio
import gc
import pickle
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

import openaiasync
from conftest import run
from faults.invariants import error_faults
from openaiasync import AsyncOpenAI, WebSocketConnectionClosedError
from openaiasync.realtime.dial import check_options
from realtime.loopback import CREATED, KEY, accept, echo, loopback, say
from wireserver import Peer, Server, until


async def closing(ws: ServerConnection) -> None:
    """Send one event and close with the code that the query asks for."""
    await say(ws, CREATED)
    code = int(str(ws.request.path).partition("code=")[2] if ws.request else 1000)
    await ws.close(code, f"because of {KEY}")


class TestCloseCodes:
    """RFC 6455, section 7.4."""

    def test_1000_is_no_error(self) -> None:
        """Iterating ends after the received messages; `recv` then raises."""

        async def main() -> None:
            async with loopback(closing) as server, server.client() as client:
                async with client.realtime.connect(extra_query={"code": 1000}) as connection:
                    assert [event.type async for event in connection] == ["session.created"]
                    with pytest.raises(WebSocketConnectionClosedError) as caught:
                        await connection.recv()
                    assert (caught.value.close_code, caught.value.close_reason) == (1000, "because of [key]")

        run(main())

    @pytest.mark.parametrize(
        ("code", "side", "retryable", "text"),
        [
            (1001, "network", True, "going away"),
            (1008, "server", False, "was closed"),
            (1011, "server", True, "the server failed"),
            (1013, "server", True, "busy"),
            (4000, "server", False, "was closed"),
        ],
    )
    def test_others_are_errors(self, code: int, side: str, retryable: bool, text: str) -> None:
        """The error follows the received messages, with code, reason and side; `send` raises the same."""

        async def main() -> None:
            async with loopback(closing) as server, server.client() as client:
                async with client.realtime.connect(extra_query={"code": code}) as connection:
                    came: list[str] = []
                    with pytest.raises(WebSocketConnectionClosedError, match=text) as caught:
                        async for event in connection:
                            came.append(event.type)
                    with pytest.raises(WebSocketConnectionClosedError) as unsent:
                        await connection.send({"type": "late"})
            error = caught.value
            assert came == ["session.created"]
            assert (error.close_code, error.side, error.retryable) == (code, side, retryable)
            assert isinstance(error, openaiasync.APIConnectionError)
            assert str(error).startswith("GET ws://127.0.0.1")
            assert not error_faults(error, OSError, KEY)
            assert unsent.value.unsent_messages == ['{"type":"late"}']
            assert pickle.loads(pickle.dumps(unsent.value)).unsent_messages == ['{"type":"late"}']

        run(main())


FRAMES = {
    "nothing, then cut": (b"", 1006, "lost"),
    "half a frame": (b"\x81\x7e\x00", 1006, "lost"),
    "a masked frame": (b"\x81\x81\x00\x00\x00\x00a", 1002, "protocol was broken"),
    "reserved bits": (b"\xf1\x01a", 1002, "protocol was broken"),
    "an unknown opcode": (b"\x83\x01a", 1002, "protocol was broken"),
    "a close of one byte": (b"\x88\x01\x03", 1002, "protocol was broken"),
    "a huge frame": (b"\x81\x7f\x00\x00\x00\x7f\xff\xff\xff\xff", 1009, "too big"),
    "a close without a code": (b"\x88\x00", 1005, "without a reason"),
}


@pytest.mark.parametrize("what", list(FRAMES))
def test_frames_that_lie(what: str) -> None:
    """A server that breaks the protocol, or the connection, is told from one that closes it; nothing is left."""
    raw, code, text = FRAMES[what]

    async def script(peer: Peer) -> None:
        await accept(peer)
        await peer.send(raw)
        if code != 1006:
            await peer.gone()

    async def main() -> None:
        async with Server(script) as server:
            async with AsyncOpenAI(api_key=KEY, base_url=f"http://127.0.0.1:{server.port}") as client:
                options: Any = {"close_timeout": 0.2}
                connection = await client.realtime.connect(websocket_connection_options=options).enter()
                with pytest.raises(WebSocketConnectionClosedError, match=text) as caught:
                    await connection.recv()
                assert caught.value.close_code == code
                await connection.close()
            await server.settled()

    run(main())


def test_a_reset() -> None:
    """A connection that is reset in the middle of a message is lost."""

    async def script(peer: Peer) -> None:
        await accept(peer)
        await peer.send(b"\x81\x7e\x01\x00part of it")
        peer.reset()

    async def main() -> None:
        async with Server(script) as server:
            async with AsyncOpenAI(api_key=KEY, base_url=f"http://127.0.0.1:{server.port}") as client:
                async with client.realtime.connect() as connection:
                    with pytest.raises(WebSocketConnectionClosedError) as caught:
                        await connection.recv()
                    assert caught.value.close_code == 1006

    run(main())


class TestMessages:
    """Sizes and waiting."""

    def test_the_cap(self) -> None:
        """50 MiB unless the caller says otherwise; a message of more ends the connection with 1009."""

        async def large(ws: ServerConnection) -> None:
            await ws.send('{"type":"large","x":"' + "x" * 5000 + '"}')
            await ws.wait_closed()

        assert check_options({})["max_size"] == 50 * 1024 * 1024

        async def main() -> None:
            async with loopback(large) as server, server.client() as client:
                async with client.realtime.connect() as connection:
                    assert len((await connection.recv()).extra["x"]) == 5000
                async with client.realtime.connect(websocket_connection_options={"max_size": 4000}) as connection:
                    with pytest.raises(WebSocketConnectionClosedError, match="max_size") as caught:
                        await connection.recv()
                    assert caught.value.close_code == 1009

        run(main())

    def test_a_cancelled_receiver_loses_nothing(self) -> None:
        """What comes after the cancellation is received by the next."""

        async def main() -> None:
            async with loopback(echo) as server, server.client() as client:
                async with client.realtime.connect() as connection:
                    waiting = asyncio.create_task(connection.recv())
                    await asyncio.sleep(0.01)
                    with pytest.raises(RuntimeError, match="only one may"):
                        await connection.recv()
                    waiting.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await waiting
                    await connection.send({"type": "a"})
                    assert (await connection.recv()).extra["event"].type == "a"

        run(main())


class TestPings:
    """A server that is silent is asked whether it is there."""

    def test_a_server_that_answers_none(self) -> None:
        """The connection ends as a timeout of the clock "ping"; a send says the same."""

        async def script(peer: Peer) -> None:
            await accept(peer)
            await peer.gone()

        async def main() -> None:
            async with Server(script) as server:
                async with AsyncOpenAI(api_key=KEY, base_url=f"http://127.0.0.1:{server.port}") as client:
                    options: Any = {"ping_interval": 0.05, "ping_timeout": 0.05}
                    async with client.realtime.connect(websocket_connection_options=options) as connection:
                        with pytest.raises(
                            openaiasync.APITimeoutError, match=r"did not answer a ping within 0\.05 s"
                        ) as caught:
                            async for _ in connection:
                                pass
                        assert (caught.value.clock, caught.value.retryable) == ("ping", True)
                        with pytest.raises(openaiasync.APITimeoutError):
                            await connection.send({"type": "late"})
                await server.settled()

        run(main())

    def test_a_server_that_answers(self) -> None:
        """Pings that are answered end nothing, and cost no event."""

        async def slow(ws: ServerConnection) -> None:
            await asyncio.sleep(0.3)
            await say(ws, CREATED)
            await ws.wait_closed()

        async def main() -> None:
            async with loopback(slow) as server, server.client() as client:
                options: Any = {"ping_interval": 0.02, "ping_timeout": 20.0}
                async with client.realtime.connect(websocket_connection_options=options) as connection:
                    assert (await connection.recv()).type == "session.created"

        run(main())


class TestLeaving:
    """Who ends it, ends all of it."""

    def test_closing_while_it_is_iterated(self) -> None:
        """The iteration ends quietly, whatever code the caller closes with; closing twice is fine."""

        async def main() -> None:
            async with loopback(echo) as server, server.client() as client:
                connection = await client.realtime.connect().enter()

                async def listen() -> list[Any]:
                    return [event async for event in connection]

                listening = asyncio.create_task(listen())
                await asyncio.sleep(0.01)
                await connection.close(code=4001, reason="enough")
                await connection.close()
                assert await listening == []

        run(main())

    def test_a_server_that_says_no_goodbye(self) -> None:
        """Closing waits for `close_timeout` and no longer."""

        async def script(peer: Peer) -> None:
            await accept(peer)
            await peer.gone()

        async def main() -> None:
            async with Server(script) as server:
                async with AsyncOpenAI(api_key=KEY, base_url=f"http://127.0.0.1:{server.port}") as client:
                    options: Any = {"close_timeout": 0.1}
                    async with client.realtime.connect(websocket_connection_options=options) as connection:
                        assert connection._socket.is_open
                await server.settled()

        run(main(), timeout=9)

    def test_a_cancelled_caller(self) -> None:
        """Leaving the context by cancellation waits for nobody: a silent server is dropped."""

        async def script(peer: Peer) -> None:
            await accept(peer)
            await peer.gone()

        async def main() -> None:
            async with Server(script) as server:
                async with AsyncOpenAI(api_key=KEY, base_url=f"http://127.0.0.1:{server.port}") as client:

                    async def talk() -> None:
                        async with client.realtime.connect() as connection:
                            await connection.recv()

                    talking = asyncio.create_task(talk())
                    await until(lambda: bool(server.open))
                    await asyncio.sleep(0.05)
                    talking.cancel()
                    async with asyncio.timeout(5):  # the server would be waited for 10 s
                        with pytest.raises(asyncio.CancelledError) as caught:
                            await talking
                    assert not error_faults(caught.value, asyncio.CancelledError, KEY)
                await server.settled()

        run(main())

    def test_the_client_is_closed(self) -> None:
        """`aclose` ends open connections at once; who waits on one gets `ClientClosedError`."""

        async def main() -> None:
            async with loopback(echo) as server:
                client = server.client()
                connection = await client.realtime.connect().enter()
                waiting = asyncio.create_task(connection.recv())
                await asyncio.sleep(0.01)
                await client.aclose()
                with pytest.raises(openaiasync.ClientClosedError):
                    await waiting
                with pytest.raises(openaiasync.ClientClosedError):
                    await connection.send({"type": "a"})
                await connection.close()

        run(main())

    @pytest.mark.parametrize("how", ["loop", "garbage"])
    def test_a_connection_that_nobody_closed(self, how: str) -> None:
        """It ends with the event loop, or when nobody holds it any more; nothing warns."""

        async def main() -> Any:
            async with loopback(echo) as server:
                client = server.client()
                connection = await client.realtime.connect().enter()
                await connection.send({"type": "a"})
                await connection.recv()
                if how == "garbage":
                    assert server.server is not None
                    del connection
                    gc.collect()
                    await until(lambda: not server.server or not server.server.connections)
                    return None
                return client, connection

        kept = run(main())
        assert (kept is None) == (how == "garbage")

    def test_a_place_in_flight_is_not_taken(self) -> None:
        """Connections are no requests: with one place in flight, several are open at once."""

        async def main() -> None:
            async with loopback(echo) as server:
                async with openaiasync.Client(api_base=server.url, api_key="k", http_max_in_flight=1) as client:
                    async with client.realtime.connect() as one, client.responses.connect() as two:
                        await one.send({"type": "a"})
                        await two.send({"type": "b"})
                        assert ((await one.recv()).type, (await two.recv()).type) == ("echo", "echo")

        run(main())

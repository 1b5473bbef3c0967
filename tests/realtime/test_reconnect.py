"""A lost connection is made again where the caller asked for it, and where it makes sense."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

import openaiasync
from conftest import run
from faults.invariants import error_faults
from openaiasync import ReconnectingEvent, ReconnectingOverrides, WebSocketConnectionClosedError
from openaiasync.realtime.reconnect import ReconnectPolicy
from openaiasync.realtime.socket import Socket
from realtime.loopback import CREATED, KEY, Loopback, loopback, say
from realtime.test_dial import refusing

QUICK: Any = {"initial_delay": 0.001, "max_delay": 0.002}


def ending(*codes: int, event: dict[str, Any] | None = CREATED) -> Any:
    """A server that sends an event to each connection and closes it with these codes, one after the other."""
    number = iter(codes)

    async def script(ws: ServerConnection) -> None:
        if event is not None:
            await say(ws, event)
        code = next(number, 1000)
        if code == 1006:
            ws.transport.abort()
        else:
            await ws.close(code)

    return script


async def talked(server: Loopback, **options: Any) -> list[str]:
    """The types of all events until the connection ends."""
    async with server.client() as client, client.realtime.connect(model="m", **{**QUICK, **options}) as connection:
        return [str(event.type) async for event in connection]


class TestAgain:
    """With `on_reconnecting`."""

    @pytest.mark.parametrize("code", [1001, 1006, 1011, 1012, 1013])
    def test_events_go_on(self, code: int) -> None:
        """The caller is told of each try, and the iteration goes on with the next connection's events."""
        told: list[ReconnectingEvent] = []

        async def main() -> None:
            async with loopback(ending(code, code)) as server:
                assert await talked(server, on_reconnecting=told.append) == ["session.created"] * 3
            assert len(server.requests) == 3

        run(main())
        assert [(event.attempt, event.max_attempts, event.close_code) for event in told] == [(1, 5, code), (2, 5, code)]
        assert 0.00075 <= told[0].delay <= 0.001 < 0.0015 <= told[1].delay <= 0.002

    def test_a_day_without_the_server(self) -> None:
        """The delay stays the largest one, however many attempts there were."""
        policy = ReconnectPolicy(lambda event: None, 20_000, 0.5, 8.0, {}, {}, attempts=10_000)
        delay = run(policy.next(1006))
        assert delay is not None
        assert 6.0 <= delay <= 8.0

    def test_the_caller_may_change_it(self) -> None:
        """Other parameters and fields from then on; the function may be asynchronous; no `repr` shows the fields."""
        told: list[str] = []

        async def change(event: ReconnectingEvent) -> ReconnectingOverrides | None:
            told.append(f"{event!r} {dict(event.extra_headers)}")
            if len(told) > 1:
                return None
            return {"extra_query": {"resume": "e1"}, "extra_headers": {"X-Resume": KEY}}

        async def main() -> None:
            async with loopback(ending(1011, 1011)) as server:
                await talked(server, on_reconnecting=change, extra_query={"a": 1}, extra_headers={"X-A": "b"})
            assert [request.path for request in server.requests] == [
                "/v1/realtime?model=m&a=1",
                *["/v1/realtime?model=m&resume=e1"] * 2,
            ]
            assert [server.field("X-Resume", number) for number in range(3)] == [None, KEY, KEY]

        run(main())
        assert "{'X-A': 'b'}" in told[0]
        assert KEY in told[1]
        assert KEY not in told[1].partition(")")[0]

    def test_what_is_sent_meanwhile_waits(self) -> None:
        """And goes first over the next connection, in order."""
        got: list[str] = []
        lost = asyncio.Event()

        async def script(ws: ServerConnection) -> None:
            if not lost.is_set():
                lost.set()
                await ws.close(1012)
                return
            async for message in ws:
                got.append(str(message))
                if len(got) == 3:
                    return

        async def main() -> None:
            async with loopback(script) as server, server.client() as client:

                async def told(event: ReconnectingEvent) -> None:
                    for number in range(3):
                        await connection.send({"type": str(number)})

                async with client.realtime.connect(on_reconnecting=told, **QUICK) as connection:
                    assert [event async for event in connection] == []

        run(main())
        assert got == [f'{{"type":"{number}"}}' for number in range(3)]


class TestNoMore:
    """Where it ends all the same."""

    @pytest.mark.parametrize("code", [1002, 1007, 1008, 1009, 4000])
    def test_codes_that_mean_this_client(self, code: int) -> None:
        """Nothing is tried again; the error is the end's."""

        async def main() -> None:
            async with loopback(ending(code)) as server:
                with pytest.raises(WebSocketConnectionClosedError) as caught:
                    await talked(server, on_reconnecting=lambda event: None)
                assert caught.value.close_code == code
            assert len(server.requests) == 1

        run(main())

    @pytest.mark.parametrize("options", [{}, {"on_reconnecting": lambda event: {"abort": True}}])
    def test_the_caller_does_not_want_it(self, options: Any) -> None:
        """Without the function, or when it says `abort`."""

        async def main() -> None:
            async with loopback(ending(1011)) as server:
                with pytest.raises(WebSocketConnectionClosedError) as caught:
                    await talked(server, **options)
                assert caught.value.close_code == 1011
            assert len(server.requests) == 1

        run(main())

    def test_so_many_tries(self) -> None:
        """`max_retries` connections that bring no event but errors; the error is the last end's."""

        async def main() -> None:
            error = {"type": "error", "error": {"type": "t", "message": "full"}}
            async with loopback(ending(*[1013] * 9, event=error)) as server:
                with pytest.raises(WebSocketConnectionClosedError) as caught:
                    await talked(server, on_reconnecting=lambda event: None, max_retries=3)
                assert caught.value.close_code == 1013
            assert len(server.requests) == 4

        run(main())

    def test_a_server_that_refuses(self) -> None:
        """A status that will not change ends it with its error; one that may is tried again."""
        statuses = iter([None, 503, 401])

        def answer(ws: ServerConnection, request: Any) -> Any:
            status = next(statuses)
            return None if status is None else refusing(status)(ws, request)

        async def main() -> None:
            async with loopback(ending(1011), process_request=answer) as server:
                with pytest.raises(openaiasync.AuthenticationError) as caught:
                    await talked(server, on_reconnecting=lambda event: None)
                assert not error_faults(caught.value, OSError, KEY)

        run(main())

    def test_what_the_function_raises(self) -> None:
        """The iteration raises it."""

        async def main() -> None:
            async with loopback(ending(1011)) as server:
                with pytest.raises(ZeroDivisionError):
                    await talked(server, on_reconnecting=lambda event: 1 / 0)

        run(main())

    def test_unsent_messages(self) -> None:
        """What still waits when it is given up is in the error, in order."""

        async def main() -> None:
            async with loopback(ending(1011, event=None)) as server, server.client() as client:

                async def told(event: ReconnectingEvent) -> ReconnectingOverrides:
                    await connection.send_raw("one")
                    await connection.send_raw(b"\xff")
                    return {"abort": True}

                async with client.realtime.connect(on_reconnecting=told, **QUICK) as connection:
                    with pytest.raises(WebSocketConnectionClosedError, match="2 messages were not sent") as caught:
                        async for _ in connection:
                            pass
            error = caught.value
            assert (error.unsent_frames, error.unsent_messages, error.close_code) == (["one", b"\xff"], ["one"], 1011)

        run(main())

    @pytest.mark.parametrize("tries", [1, 2])
    def test_messages_whose_sending_fails_while_reconnecting(
        self, tries: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """They are not sent again, since they may have arrived: the error at the end has them, or else the log."""
        sent: list[str | bytes] = []

        async def send(socket: Socket, data: str | bytes) -> None:
            sent.append(data)
            raise WebSocketConnectionClosedError("lost", unsent_messages=[data])

        async def main() -> list[str]:
            async with loopback(ending(1011)) as server, server.client() as client:

                async def told(event: ReconnectingEvent) -> None:
                    if event.attempt == 1:
                        await connection.send_raw("one")

                connecting = client.realtime.connect(on_reconnecting=told, max_retries=tries, **QUICK)
                async with connecting as connection:
                    monkeypatch.setattr(Socket, "send", send)
                    return [str(event.type) async for event in connection]

        if tries == 1:
            with pytest.raises(WebSocketConnectionClosedError, match="1 messages were not sent") as caught:
                run(main())
            assert caught.value.unsent_frames == ["one"]
        else:
            assert run(main()) == ["session.created"] * 2
            assert "1 of them may not have arrived" in caplog.text
        assert sent == ["one"]

    @pytest.mark.parametrize("how", ["close", "cancel", "aclose"])
    def test_leaving_while_it_waits(self, how: str) -> None:
        """The pause before a try ends with the connection, quietly; a cancelled caller is cancelled."""
        told = asyncio.Event()

        async def main() -> None:
            async with loopback(ending(1011)) as server:
                client = server.client()
                slow: Any = {"initial_delay": 60.0, "max_delay": 60.0}
                connection = await client.realtime.connect(on_reconnecting=lambda event: told.set(), **slow).enter()

                async def listen() -> list[str]:
                    return [str(event.type) async for event in connection]

                listening = asyncio.create_task(listen())
                await told.wait()
                if how == "cancel":
                    listening.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await listening
                elif how == "close":
                    await connection.close()
                    assert await listening == ["session.created"]
                else:
                    await client.aclose()
                    with pytest.raises(openaiasync.ClientClosedError):
                        async with asyncio.timeout(5):
                            await listening
                await connection.close()
                await client.aclose()

        run(main())

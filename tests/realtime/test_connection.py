"""Events: typed when they are known, whole when they are not; handlers; messages sent before there is a connection."""

from __future__ import annotations

import json
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

import openaiasync
from conftest import run
from faults.invariants import error_faults
from openaiasync import APIResponseValidationError, WebSocketQueueFullError
from openaiasync.types.realtime import RealtimeErrorEvent, ResponseTextDeltaEvent, SessionCreatedEvent
from openaiasync.types.realtime.input_audio_buffer_append_event import InputAudioBufferAppendEvent
from realtime.loopback import CREATED, KEY, echo, loopback, say

DELTA = {
    "type": "response.output_text.delta",
    "event_id": "e",
    "response_id": "r",
    "item_id": "i",
    "output_index": 0,
    "content_index": 0,
    "delta": "Hi",
}
ERROR = {"type": "error", "event_id": "e", "error": {"type": "invalid", "message": f"no {KEY}", "code": "bad"}}


class TestEvents:
    """What the server sends."""

    def test_known_ones_are_typed(self) -> None:
        """The generated types of the description; `error` is an event among others, not an exception."""

        async def script(ws: ServerConnection) -> None:
            await say(ws, CREATED, DELTA, ERROR)

        async def main() -> None:
            async with loopback(script) as server, server.client() as client:
                async with client.realtime.connect() as connection:
                    events = [event async for event in connection]
            assert [type(event) for event in events] == [
                SessionCreatedEvent,
                ResponseTextDeltaEvent,
                RealtimeErrorEvent,
            ]
            assert events[1].to_dict() == DELTA
            assert (events[0].session.id, events[2].error.code) == ("s1", "bad")

        run(main())

    def test_others_lose_nothing(self) -> None:
        """An unknown type, missing and ill-typed fields: attributes, as everywhere; `strict` refuses them."""
        stray = [
            {"type": "session.invented", "x": {"y": [1]}},
            {**DELTA, "output_index": "0", "new": 1},
            {"no": "type"},
        ]

        async def script(ws: ServerConnection) -> None:
            await say(ws, *stray)

        async def main() -> None:
            async with loopback(script) as server, server.client() as client:
                async with client.realtime.connect() as connection:
                    unknown, delta, bare = [event async for event in connection]
                assert (unknown.type, unknown.extra["x"].y) == ("session.invented", [1])
                assert isinstance(delta, ResponseTextDeltaEvent)
                assert (delta.output_index, delta.extra) == (0, {"new": 1})
                assert (bare.type, bare.extra) == (None, {"no": "type"})
                strict = client.with_options(strict=True)
                async with strict.realtime.connect() as connection:
                    with pytest.raises(APIResponseValidationError):
                        await connection.recv()

        run(main())

    def test_what_is_no_event(self) -> None:
        """Raises with the message in it, without a key the server echoes; the connection goes on."""

        async def script(ws: ServerConnection) -> None:
            await ws.send(f"oops {KEY}")
            await ws.send(b"\xff\xfe")
            await ws.send("[1]")
            await ws.send(json.dumps(CREATED).encode())

        async def main() -> None:
            async with loopback(script) as server, server.client() as client:
                async with client.realtime.connect() as connection:
                    for text in ("oops", "not JSON", "an array instead of an object"):
                        with pytest.raises(APIResponseValidationError, match=text) as caught:
                            await connection.recv()
                        assert not error_faults(caught.value, OSError, KEY)
                    assert (await connection.recv()).type == "session.created"

        run(main())

    def test_raw_messages(self) -> None:
        """`recv_bytes` returns the received message; `parse_event` takes text and bytes."""

        async def main() -> None:
            async with loopback(echo) as server, server.client() as client:
                async with client.realtime.connect() as connection:
                    await connection.send_raw('{"type": "raw"}')
                    raw = await connection.recv_bytes()
                    assert json.loads(raw) == {"type": "echo", "event": {"type": "raw"}}
                    assert connection.parse_event(raw) == connection.parse_event(raw.decode())

        run(main())


class TestSending:
    """What the caller sends."""

    def test_events_are_objects_or_dicts(self) -> None:
        """Of a client event's type, or plain; what is omitted stays out; what JSON cannot carry is refused."""

        async def main() -> None:
            async with loopback(echo) as server, server.client() as client:
                async with client.realtime.connect() as connection:
                    await connection.send(InputAudioBufferAppendEvent(audio="AAAA"))
                    await connection.send({"type": "x", "event_id": openaiasync.omit, "y": None})
                    with pytest.raises(ValueError, match="NaN"):
                        await connection.send({"type": "x", "y": float("nan")})
                    with pytest.raises(TypeError, match="cannot be sent as JSON"):
                        await connection.send({"type": object()})
                    sent = [(await connection.recv()).to_dict()["event"] for _ in range(2)]
            assert sent == [{"type": "input_audio_buffer.append", "audio": "AAAA"}, {"type": "x", "y": None}]

        run(main())

    def test_before_there_is_a_connection(self) -> None:
        """What is given to the manager goes first, in order; more than `max_queue_size` is refused."""

        async def main() -> None:
            async with loopback(echo) as server, server.client() as client:
                manager = client.realtime.connect(max_queue_size=30)
                manager.send({"type": "a"})
                manager.send({"type": "b"})
                with pytest.raises(WebSocketQueueFullError, match="24 bytes wait, max_queue_size is 30"):
                    manager.send({"type": "c"})
                async with manager as connection:
                    await connection.send({"type": "d"})
                    sent = [(await connection.recv()).to_dict()["event"]["type"] for _ in range(3)]
            assert sent == ["a", "b", "d"]

        run(main())


class TestHandlers:
    """`on`, `once`, `off` and `dispatch_events`."""

    def test_in_order(self) -> None:
        """Handlers of the type, then those of every event; functions and coroutine functions; once is once."""
        called: list[str] = []

        async def script(ws: ServerConnection) -> None:
            await say(ws, CREATED, DELTA, DELTA)

        async def main() -> None:
            async with loopback(script) as server, server.client() as client:
                manager = client.realtime.connect()
                manager.once("response.output_text.delta", lambda event: called.append(f"once {event.delta}"))

                @manager.on("session.created")
                async def created(event: Any) -> None:
                    called.append(f"created {event.session.id}")

                def forgotten(event: Any) -> None:
                    called.append("forgotten")

                assert manager.on("session.created", forgotten) is manager
                assert manager.off("session.created", forgotten) is manager
                async with manager as connection:
                    assert connection.on("event", lambda event: called.append(event.type)) is connection
                    connection.off("nothing", forgotten)
                    await connection.dispatch_events()

        run(main())
        delta = "response.output_text.delta"
        assert called == ["created s1", "session.created", "once Hi", delta, delta]

    def test_an_error_that_is_nested_deeply(self) -> None:
        """It is an `APIError` with the server's words, too."""
        deep = f'{{"type": "error", "error": {{"message": "cut \\ud83d", "more": {"[" * 700}{"]" * 700}}}}}'

        async def script(ws: ServerConnection) -> None:
            await ws.send(deep)

        async def main() -> None:
            async with loopback(script) as server, server.client() as client, client.realtime.connect() as connection:
                with pytest.raises(openaiasync.APIError, match="cut \ufffd"):
                    await connection.dispatch_events()

        run(main())

    def test_errors(self) -> None:
        """An event `error` without a handler raises `APIError`; what a handler raises is raised."""

        async def script(ws: ServerConnection) -> None:
            await say(ws, ERROR, CREATED)

        async def main() -> None:
            async with loopback(script) as server, server.client() as client:
                async with client.realtime.connect() as connection:
                    with pytest.raises(openaiasync.APIError, match=r"no \[key\]") as caught:
                        await connection.dispatch_events()
                    assert caught.value.code == "bad"
                async with client.realtime.connect() as connection:
                    connection.on("error", lambda event: None)
                    connection.on("session.created", lambda event: 1 / 0)
                    with pytest.raises(ZeroDivisionError):
                        await connection.dispatch_events()

        run(main())

"""Streams: every word in order, complete or an error with the received part; nothing is held after the end."""

from __future__ import annotations

import asyncio
import gc
import json
import pickle
from typing import Any

import pytest

from conftest import run
from openaiasync import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    AsyncOpenAI,
    AsyncStream,
    BaseModel,
    Client,
    IncompleteStreamError,
    InternalServerError,
)
from scripted import LAST_CHUNK, STREAM_HEAD, Seen, chunk, event, events, head, json_answer, scripted

HI: Any = [{"role": "user", "content": "hi"}]
HEL, LO, STOP = chunk("Hel"), chunk("lo."), chunk(finish="stop")


def as_chunk(raw: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(raw), raw)


def sends(raw: bytes, *, close: bool = False, reset: bool = False) -> Any:
    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()
        if reset:
            writer.transport.abort()
        elif close:
            writer.close()

    return script


def consume(script: Any, **options: Any) -> tuple[list[str], BaseException | None]:
    """The words that a stream gave, and how it ended."""
    words: list[str] = []

    async def main() -> BaseException | None:
        async with scripted(script) as server:
            async with Client(api_base=server.url, model="m", max_retries=0, **options) as client:
                try:
                    async with client.chat.stream("hi") as stream:
                        async for piece in stream:
                            words.append(piece.text)
                except APIError as error:
                    return error
                finally:
                    places = client._calls.shared.limiter
                    assert places.used == 0
        return None

    return words, run(main())


class TestWhole:
    """Streams that are complete."""

    @pytest.mark.parametrize(
        "raw",
        [
            events([HEL, LO, STOP]),
            events([HEL, LO, STOP], done=False),
            STREAM_HEAD + event(HEL) + event(LO) + event(STOP),  # closed after the finish reason
        ],
    )
    def test_the_ends_that_count(self, raw: bytes) -> None:
        """`[DONE]`, or a finish reason for every choice seen, whatever comes (or does not) after it."""
        words, error = consume(sends(raw, close=True))
        assert error is None
        assert "".join(words) == "Hello."

    def test_the_sum_of_a_stream(self) -> None:
        """`.text` and `.partial` grow, `final` is the whole; `.meta` knows the call; a second pass is an error."""

        async def main() -> None:
            async with scripted() as server, Client(api_base=server.url, model="m") as client:
                async with client.chat.stream("hi") as stream:
                    assert stream.text == ""
                    await anext(stream)
                    assert (stream.text, stream.partial.text) == ("Hel", "Hel")
                    answer = await stream.final()
                assert answer.text == stream.text == "Hello."
                assert answer.choices[0].finish_reason == "stop"
                assert answer.meta.status == stream.meta.status == 200
                with pytest.raises(RuntimeError, match="read once"):
                    [piece async for piece in stream]

        run(main())

    def test_a_second_pass_over_an_official_stream(self) -> None:
        """Raises instead of yielding nothing, after the end, after `close` and after an error; a break is no end."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(
                STREAM_HEAD + event(HEL) + (b"" if b"cut" in seen.body else event(STOP) + event("[DONE]")) + LAST_CHUNK
            )

        async def main() -> None:
            async with scripted(script) as server, Client(api_base=server.url, model="m") as client:

                def create(text: str) -> Any:
                    messages: Any = [{"role": "user", "content": text}]
                    return client.chat.completions.create(messages=messages, model="m", stream=True)

                stream = await create("hi")
                async for _ in stream:
                    break
                assert len([one async for one in stream]) == 1
                async with stream, await create("hi") as closed:  # entering a stream that has ended is no second pass
                    pass
                broken = await create("cut")
                with pytest.raises(IncompleteStreamError):
                    _ = [one async for one in broken]
                for ended in (stream, closed, broken):
                    with pytest.raises(RuntimeError, match="read once; keep its items"):
                        _ = [one async for one in ended]

        run(main())

    def test_nothing_is_sent_before_it_is_asked_for(self) -> None:
        """A stream that is made and dropped costs the server nothing; `final` alone is enough to run it."""

        async def main() -> None:
            async with scripted() as server, Client(api_base=server.url, model="m") as client:
                client.chat.stream("hi")
                await asyncio.sleep(0.05)
                assert server.seen == []
                assert (await client.chat.stream("hi").final()).text == "Hello."

        run(main())

    def test_connections_are_used_again(self) -> None:
        """After `[DONE]` the connection goes back, also when the end of the message comes a little later."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(STREAM_HEAD + event(HEL) + event(STOP) + event("[DONE]"))
            await writer.drain()
            await asyncio.sleep(0.02)
            writer.write(LAST_CHUNK)

        async def main() -> None:
            async with scripted(script) as server, Client(api_base=server.url, model="m") as client:
                for _ in range(5):
                    await client.chat.stream("hi").final()
                assert server.connections == 1

        run(main())

    def test_the_official_stream(self) -> None:
        """`create(stream=True)` gives an `AsyncStream` that can be iterated, entered, closed."""

        async def main() -> None:
            async with scripted() as server, Client(api_base=server.url) as client:
                stream = await client.chat.completions.create(messages=HI, model="m", stream=True)
                assert isinstance(stream, AsyncStream)
                assert stream.response.status_code == 200
                assert [chunk.choices[0].delta.content async for chunk in stream] == ["Hel", "lo.", None]
                async with await client.chat.completions.create(messages=HI, model="m", stream=True) as stream:
                    await anext(stream)
                with pytest.raises(StopAsyncIteration):
                    await anext(stream)
                whole = await client.chat.completions.create(messages=HI, model="m", stream=False)
                assert whole.text == "Hello."

        run(main())


class TestBroken:
    """Streams that are not."""

    @pytest.mark.parametrize(
        ("raw", "how"),
        [
            (STREAM_HEAD + event(HEL), {"close": True}),
            (STREAM_HEAD + event(HEL), {"reset": True}),
            (STREAM_HEAD + event(HEL) + LAST_CHUNK, {}),
            (STREAM_HEAD + event(HEL) + b"5\r\ndata:", {"close": True}),
            (STREAM_HEAD + event(HEL) + b"zz\r\n", {"close": True}),
        ],
    )
    def test_a_cut_stream_never_looks_complete(self, raw: bytes, how: dict[str, bool]) -> None:
        """What came is delivered, and then `IncompleteStreamError` holds it."""
        words, error = consume(sends(raw, **how))
        assert words[0] == "Hel"
        assert type(error) is IncompleteStreamError
        assert error.partial.text == "Hel"
        assert error.retryable

    @pytest.mark.parametrize(
        "raw",
        [
            event({"error": {"message": "out of memory", "code": 500}}),
            event({"object": "error", "message": "out of memory", "code": 500}),
            event({"error": "out of memory"}),
            as_chunk(b'event: error\ndata: {"m":"out of memory"}\n\n'),
            as_chunk(b"event: error\ndata: out of memory\n\n"),
        ],
    )
    def test_an_error_in_mid_stream_raises(self, raw: bytes) -> None:
        """Whatever dialect the error object has, it is an `APIError` after the words that came."""
        words, error = consume(sends(STREAM_HEAD + event(HEL) + raw + LAST_CHUNK))
        assert words == ["Hel"]
        assert type(error) is APIError
        assert "out of memory" in str(error) + str(error.body)

    def test_an_event_that_is_no_json(self) -> None:
        """It raises with the event in the error."""
        words, error = consume(sends(STREAM_HEAD + event(HEL) + event("{oops") + LAST_CHUNK))
        assert words == ["Hel"]
        assert isinstance(error, APIResponseValidationError)
        assert error.response.content == b"{oops"

    @pytest.mark.parametrize(
        "raw",
        [json_answer({"id": "x"}), json_answer({"error": {"message": "no streams here"}}), head(Content_Length="0")],
    )
    def test_no_events_no_stream(self, raw: bytes) -> None:
        """JSON, an error, or nothing where events were asked for raises at once."""
        words, error = consume(sends(raw))
        assert words == []
        assert isinstance(error, APIError)
        assert not isinstance(error, APIConnectionError)

    def test_an_error_status_is_one(self) -> None:
        """A refused stream raises the error of its status."""
        _, error = consume(sends(json_answer({"error": {"message": "m"}}, 500)))
        assert isinstance(error, InternalServerError)

    def test_a_stream_is_tried_again_while_nothing_was_delivered(self) -> None:
        """A break before the first event costs a retry that nobody sees; after it, never."""
        tries = 0

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            nonlocal tries
            tries += 1
            if tries == 1:
                writer.write(STREAM_HEAD + as_chunk(b": hello\n\n"))
                await writer.drain()
                writer.transport.abort()
            else:
                writer.write(events([HEL, LO, STOP]))

        async def main() -> None:
            async with scripted(script) as server, Client(api_base=server.url, model="m") as client:
                assert (await client.chat.stream("hi").final()).text == "Hello."
                assert tries == 2

        run(main())


class TestLeaving:
    """Leaving a stream early frees everything at once."""

    @staticmethod
    async def _forever(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD)
        while True:
            writer.write(event(chunk("tick ")))
            await writer.drain()
            await asyncio.sleep(0.01)

    @pytest.mark.parametrize("way", ["break", "close", "cancel", "collect", "raise"])
    def test_the_server_sees_it_go(self, way: str) -> None:
        """Break, close, cancellation, an exception, garbage collection: socket and place are free."""

        async def main() -> None:
            async with scripted(self._forever) as server, Client(api_base=server.url, model="m") as client:

                async def listen() -> None:
                    async with client.chat.stream("hi") as stream:
                        async for _ in stream:
                            if way == "break":
                                break
                            if way == "close":
                                await stream.close()
                                return
                            if way == "raise":
                                raise KeyError

                if way == "collect":
                    stream = client.chat.stream("hi")
                    await anext(stream)
                    del stream
                    gc.collect()
                else:
                    task = asyncio.create_task(listen())
                    if way == "cancel":
                        await asyncio.sleep(0.1)
                        task.cancel()
                    await asyncio.wait([task])
                    assert task.cancelled() == (way == "cancel")
                    if not task.cancelled() and task.exception():
                        assert way == "raise"
                async with asyncio.timeout(5):
                    while server.open:
                        await asyncio.sleep(0.01)
                assert client._calls.shared.limiter.used == 0

        run(main())

    def test_a_closed_stream_says_so(self) -> None:
        """Reading on after closing is an error, not a hang and not an end."""

        async def main() -> None:
            async with scripted(self._forever) as server, Client(api_base=server.url, model="m") as client:
                stream = client.chat.stream("hi")
                await anext(stream)
                await stream.close()
                with pytest.raises(RuntimeError, match="closed before its end"):
                    await stream.final()

        run(main())


NULLS: Any = {
    "id": "chatcmpl-1",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "m",
    "usage": None,
    "timings": None,
    "choices": [
        {"index": 0, "delta": {"content": "Hi.", "tool_calls": None}, "logprobs": None, "finish_reason": None},
    ],
}
BARE: Any = {"object": "chat.completion.chunk", "speed": {"tps": 3.5}, "choices": [{"delta": {"content": "!"}}]}
LAST: Any = {
    **chunk(finish="stop"),
    "timings": {"predicted_n": 7},
    "choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "token_ids": [5]}],
}


class TestDumps:
    """`to_dict()` of an event returns exactly the received fields, as for whole answers."""

    @pytest.mark.parametrize("door", [Client, AsyncOpenAI])
    def test_of_chunks(self, door: Any) -> None:
        """Nulls that came are there, fields that did not come are not; the same once an event does not conform."""
        sent = [NULLS, NULLS, BARE, NULLS, LAST]
        word = "api_base" if door is Client else "base_url"

        async def main() -> None:
            async with scripted(sends(events(sent))) as server, door(**{word: server.url, "api_key": "k"}) as client:
                stream = await client.chat.completions.create(model="m", messages=HI, stream=True)
                chunks = [one async for one in stream]
                async with client.chat.stream("hi", model="m") as live:
                    lively = [one async for one in live]
            for seen in (chunks, lively):
                assert [one.to_dict() for one in seen] == sent
                assert [json.loads(one.to_json()) for one in seen] == sent
                assert [one.model_dump(exclude_unset=True, by_alias=True) for one in seen] == sent
                assert "timings" in seen[0].model_dump()
                assert "timings" not in seen[2].model_dump()
                assert [one.extra for one in seen] == [
                    {"timings": None},
                    {"timings": None},
                    {"speed": {"tps": 3.5}},
                    {"timings": None},
                    {"timings": {"predicted_n": 7}},
                ]
                assert seen[4].choices[0].extra == {"token_ids": [5]}
                assert seen[2].model_fields_set == {"object", "choices"}
                assert pickle.loads(pickle.dumps(seen[0])).to_dict() == NULLS

        run(main())

    def test_of_other_events(self) -> None:
        """Events of responses, of completions, and of a path that no method knows."""
        created = {"type": "response.created", "sequence_number": 0, "response": {"id": "r", "error": None, "odd": 1}}
        delta = {"type": "response.output_text.delta", "delta": "Hi.", "item_id": "i", "obfuscation": "x"}
        unknown = {"type": "response.new.thing", "value": None}
        done = {
            "type": "response.completed",
            "response": {"id": "r", "status": "completed", "output": [], "user": None},
        }
        sent = [created, delta, unknown, done]

        class Own(BaseModel):
            type: str
            user: str | None = None

        async def main() -> None:
            async with scripted(sends(events(sent, done=False))) as server:
                async with AsyncOpenAI(base_url=server.url, api_key="k") as client:
                    stream = await client.responses.create(model="m", input="hi", stream=True)
                    assert [one.to_dict() async for one in stream] == sent
            plain = [{"type": "a", "user": None}, {"type": "b"}, {"type": "c", "more": None}]
            async with scripted(sends(events(plain))) as server:
                async with AsyncOpenAI(base_url=server.url, api_key="k") as client:
                    own: Any = await client.post("/own", cast_to=Own, body={}, stream=True, stream_cls=AsyncStream[Own])
                    assert [one.to_dict() async for one in own] == plain

        run(main())

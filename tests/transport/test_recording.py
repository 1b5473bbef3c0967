"""Recording at the transport: what a client meets when it is replayed is what it met when it was recorded."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from conftest import run
from cputime import assert_linear
from openaiasync import APIConnectionError, APITimeoutError, AsyncOpenAI, IncompleteStreamError, RateLimitError
from openaiasync.errors import BadRequestError, InternalServerError
from openaiasync.testing import Cassette, CassetteError, FakeAnswer, FakeTransport, RecordingTransport
from openaiasync.transport.base import AttemptTimeouts, Credentials, Origin, TransportRequest
from openaiasync.transport.cassette import RecordMode
from openaiasync.transport.scrubber import Scrubber
from scripted import CHAT as ANSWER
from scripted import chunk

HI: Any = [{"role": "user", "content": "Why is the sky blue?"}]
KEY = "sk-a-key-of-this-test-0123456789"


def client_of(cassette: Cassette, routes: Any = (), **options: Any) -> AsyncOpenAI:
    """A client whose network is a cassette before scripted answers; nothing is scripted for what must not be sent."""
    transport = RecordingTransport(cassette, FakeTransport(routes or {}))
    options = {"api_key": KEY, "max_retries": 0, "base_url": "http://fake/v1", **options}
    return AsyncOpenAI(http_other={"transport": transport}, **options)


def with_text(text: str) -> dict[str, Any]:
    (choice,) = ANSWER["choices"]
    return {**ANSWER, "choices": [{**choice, "message": {"role": "assistant", "content": text}}]}


def json_answer(text: str = "It scatters light.", **more: Any) -> FakeAnswer:
    return FakeAnswer(json=with_text(text), **more)


def record(path: Path, routes: Any, act: Any, mode: RecordMode = "once", **options: Any) -> Any:
    """Run `act` with a client that records; return what it returns."""

    async def main() -> Any:
        cassette = Cassette(path, mode, **options)
        async with client_of(cassette, routes) as client:
            try:
                return await act(client)
            finally:
                cassette.close()

    return run(main())


def replay(path: Path, act: Any, **options: Any) -> Any:
    """Run `act` with a client whose only answers are the recorded ones; every request has to be known."""

    async def main() -> Any:
        cassette = Cassette(path, "none", **options)
        async with client_of(cassette) as client:
            result = await act(client)
        cassette.assert_matched()
        return result

    return run(main())


async def ask(client: AsyncOpenAI) -> str:
    made = await client.chat.completions.create(messages=HI, model="m")
    return made.choices[0].message.content


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


CHAT = "POST /v1/chat/completions"


def test_a_whole_answer_is_replayed(tmp_path: Path) -> None:
    """The second time nothing is sent; the file is one line of format and one of the call."""
    path = tmp_path / "new folder" / "sky.jsonl"
    assert record(path, {CHAT: json_answer(headers={"X-Request-Id": "r1"})}, ask) == "It scatters light."
    header, line = lines_of(path)
    assert header == {"format": "openaiasync-cassette", "version": 1}
    assert line["request"] == {
        "method": "POST",
        "path": "/chat/completions",
        "body": {"json": {"messages": HI, "model": "m"}},
    }
    assert line["response"]["status"] == 200
    assert ["x-request-id", "r1"] in line["response"]["headers"]
    assert replay(path, ask) == "It scatters light."


def test_a_stream_is_replayed_with_its_pauses(tmp_path: Path) -> None:
    """Each event has its time: speed 1 waits as the server did, 2 half as long, 0 not at all; the bytes are equal."""
    path = tmp_path / "stream.jsonl"
    events = [chunk(text) for text in ("It ", "scatters ", "light.")]
    events.append(chunk(finish="stop"))

    async def timed(client: AsyncOpenAI) -> list[tuple[float, str]]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        stream = await client.chat.completions.create(messages=HI, model="m", stream=True)
        return [(round(loop.time() - began, 2), one.choices[0].delta.content or "") async for one in stream]

    recorded = record(path, {CHAT: FakeAnswer(events=events, delay=2.0, pause=[0.5, 1.0, 3.0, 0.25])}, timed)
    assert [at for at, _ in recorded] == [2.5, 3.5, 6.5, 6.75]
    assert len(lines_of(path)[1]["response"]["pieces"]) == 5  # [DONE] is one
    assert replay(path, timed, speed=1) == recorded
    assert [at for at, _ in replay(path, timed, speed=2)] == [1.25, 1.75, 3.25, 3.38]
    at_once = replay(path, timed)
    assert [at for at, _ in at_once] == [0, 0, 0, 0]
    assert [text for _, text in at_once] == [text for _, text in recorded]


def test_errors_are_replayed_as_what_they_were(tmp_path: Path) -> None:
    """A 429 with its headers, and then the answer of the retry; a 500; a reset connection; a timeout."""
    path = tmp_path / "errors.jsonl"
    limited = FakeAnswer(status=429, json={"error": {"message": "slow down"}}, headers={"Retry-After": "7"})

    async def refused(client: AsyncOpenAI) -> tuple[str | None, int]:
        with pytest.raises(RateLimitError, match="slow down") as caught:
            await ask(client)
        assert await ask(client.with_options(max_retries=1)) == "yes"
        with pytest.raises(InternalServerError):
            await ask(client)
        with pytest.raises(APIConnectionError):
            await ask(client)
        with pytest.raises(APITimeoutError):
            await ask(client.with_options(timeout=5))
        return caught.value.response.headers["retry-after"], caught.value.status_code

    answers = [limited, limited, json_answer("yes"), FakeAnswer(status=500), FakeAnswer(error="reset")]
    answers.append(json_answer(delay=60))
    first = record(path, {CHAT: answers}, refused)
    assert first == ("7", 429)
    assert replay(path, refused) == first
    assert [one.get("failure", {}).get("kind") for one in lines_of(path)[1:]] == [None] * 4 + ["reset", "timeout"]


def test_a_cut_stream_is_replayed_as_a_cut(tmp_path: Path) -> None:
    """What came is delivered, then the same error."""
    path = tmp_path / "cut.jsonl"

    async def cut(client: AsyncOpenAI) -> str:
        with pytest.raises(IncompleteStreamError) as caught:
            await client.chat.stream(HI, model="m").final()
        return caught.value.partial.text

    events = [chunk(text) for text in ("It ", "scatters ", "light.")]
    assert record(path, {CHAT: FakeAnswer(events=events, cut_after=2)}, cut) == "It scatters "
    assert replay(path, cut) == "It scatters "
    assert lines_of(path)[1]["response"]["broken"]["kind"] == "eof"


def test_who_left_early_can_leave_again(tmp_path: Path) -> None:
    """A stream that was left has what came until then; one who reads on is told so, and does not hang."""
    path = tmp_path / "left.jsonl"
    events = [chunk(text) for text in ("It ", "scatters ", "light.")]

    async def leave(client: AsyncOpenAI) -> str:
        async with client.chat.stream(HI, model="m") as stream:
            async for piece in stream:
                return piece.text
        return ""

    assert record(path, {CHAT: FakeAnswer(events=events, pause=1)}, leave) == "It "
    assert replay(path, leave) == "It "

    async def stay(client: AsyncOpenAI) -> None:
        with pytest.raises(IncompleteStreamError, match="closed the connection"):
            await client.chat.stream(HI, model="m").final()

    replay(path, stay)


def test_compressed_answers_are_recorded_decoded(tmp_path: Path) -> None:
    """The file can be read; damaged bytes stay what they were, and fail again."""
    path = tmp_path / "gzip.jsonl"
    head = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    body = gzip.compress(json.dumps(with_text("plain text")).encode())
    assert record(path, {CHAT: FakeAnswer(body=body, headers=head)}, ask) == "plain text"
    assert b"plain text" in path.read_bytes()
    assert replay(path, ask) == "plain text"

    async def damaged(client: AsyncOpenAI) -> str:
        with pytest.raises(Exception, match=r"damaged|cut|compress") as caught:
            await ask(client)
        return str(caught.value)

    other = tmp_path / "damaged.jsonl"
    message = record(other, {CHAT: FakeAnswer(body=body[:-20], headers=head)}, damaged)
    assert replay(other, damaged) == message


def test_sounds_are_replayed_to_the_byte(tmp_path: Path) -> None:
    """Bytes that are not text are base64 in the file, whole or piece by piece."""
    path = tmp_path / "sound.jsonl"
    sound = bytes(range(256)) * 40

    async def speak(client: AsyncOpenAI) -> bytes:
        return (await client.audio.speech.create(input="hi", model="m", voice="alloy")).content

    pieces = [sound[:5000], sound[5000:]]
    routes = {"POST /v1/audio/speech": FakeAnswer(body=pieces, headers={"Content-Type": "audio/wav"})}
    assert record(path, routes, speak) == sound
    assert replay(path, speak) == sound


def test_equal_requests_get_their_answers_in_order(tmp_path: Path) -> None:
    """Each answer once; one more request is unmatched, or gets the last one again where that is wanted."""
    path = tmp_path / "twice.jsonl"

    async def twice(client: AsyncOpenAI) -> list[str]:
        return [await ask(client), await ask(client)]

    assert record(path, {CHAT: [json_answer("one"), json_answer("two")]}, twice) == ["one", "two"]
    assert replay(path, twice) == ["one", "two"]

    async def thrice(client: AsyncOpenAI) -> list[str]:
        return [*await twice(client), await ask(client)]

    assert replay(path, thrice, repeat=True) == ["one", "two", "two"]
    with pytest.raises(InternalServerError, match="all 2 recorded answers to this request are used up"):
        replay(path, thrice)


def test_overlapping_requests_keep_the_order_in_which_they_were_sent(tmp_path: Path) -> None:
    """The first request's answer ends last, and is given to the first request again."""
    path = tmp_path / "overlap.jsonl"

    async def both(client: AsyncOpenAI) -> list[str]:
        return await asyncio.gather(ask(client), ask(client))

    answers = [json_answer("slow", delay=5), json_answer("fast")]
    assert record(path, {CHAT: answers}, both) == ["slow", "fast"]
    assert [one["order"] for one in lines_of(path)[1:]] == [2, 1]
    assert replay(path, both) == ["slow", "fast"]


def test_an_unmatched_request_shows_the_difference(tmp_path: Path) -> None:
    """It is refused with status 501 and never retried; the cassette keeps the explanation."""
    path = tmp_path / "sky.jsonl"
    record(path, {CHAT: json_answer()}, ask)

    async def main() -> None:
        cassette = Cassette(path, "none")
        async with client_of(cassette, max_retries=3) as client:
            with pytest.raises(InternalServerError) as caught:
                await client.chat.completions.create(messages=HI, model="other", temperature=0.5)
        (message,) = cassette.unmatched
        assert " ".join(message.split()) in str(caught.value)
        assert caught.value.status_code == 501
        assert '-     "model": "m"' in message
        assert '+     "model": "other"' in message
        assert '+     "temperature": 0.5' in message
        assert "nearest recorded request: interaction 1 of 1" in message
        with pytest.raises(AssertionError, match="no recorded answer: POST /chat/completions"):
            cassette.assert_matched()
        assert [str(one.request) for one in cassette.unused] == ["POST /chat/completions"]

    run(main())


def test_modes(tmp_path: Path) -> None:
    """What each mode sends and what it keeps."""
    path = tmp_path / "modes.jsonl"
    routes = {CHAT: json_answer("first"), "GET /v1/models/m": FakeAnswer(json={"id": "m", "object": "model"})}

    async def model(client: AsyncOpenAI) -> str:
        return (await client.models.retrieve("m")).id

    async def unmatched(client: AsyncOpenAI) -> None:
        with pytest.raises(InternalServerError, match="no recorded answer"):
            await model(client)

    record(path, routes, unmatched, "none")
    assert not path.exists()
    assert record(path, routes, ask, "once") == "first"
    once = path.read_bytes()
    record(path, routes, unmatched, "once")
    assert path.read_bytes() == once
    other = {**routes, CHAT: json_answer("second")}
    assert record(path, other, ask, "new") == "first"  # not asked again
    assert record(path, other, model, "new") == "m"  # added
    assert path.read_bytes().startswith(once)
    assert len(lines_of(path)) == 3
    assert record(path, other, ask, "all") == "second"
    assert len(lines_of(path)) == 2


def test_all_keeps_the_old_file_until_there_is_an_answer(tmp_path: Path) -> None:
    """A server that cannot be reached costs no recording, and is not recorded itself."""
    path = tmp_path / "kept.jsonl"
    record(path, {CHAT: json_answer()}, ask)
    before = path.read_bytes()

    async def refused(client: AsyncOpenAI) -> None:
        with pytest.raises(APIConnectionError):
            await ask(client)

    record(path, {CHAT: FakeAnswer(error="refused")}, refused, "all")
    assert path.read_bytes() == before


def test_a_file_in_use_is_told_at_the_end(tmp_path: Path) -> None:
    """Of two processes that record to one file the second gets its answers, and an error that says what to do."""
    path = tmp_path / "one.jsonl"

    async def main() -> None:
        first, second = Cassette(path, "all"), Cassette(path, "all")
        for cassette in (first, second):
            async with client_of(cassette, {CHAT: json_answer()}) as client:
                await ask(client)
        first.close()
        with pytest.raises(CassetteError, match="recorded by another process"):
            second.close()
        second.close()

    run(main())
    assert len(lines_of(path)) == 2


@pytest.mark.parametrize("body", ["json", "events", "error"])
def test_no_key_of_our_client_is_recorded(body: str, tmp_path: Path) -> None:
    """However it was given: as the key, in header fields or the query of one call, or of all; and echoed anywhere."""
    path = tmp_path / "keys.jsonl"
    keys = {
        "api_key": KEY,
        "X-Default": "a-default-field-of-ours",
        "X-Token": "tok-of-one-call",
        "api-key": "key-in-the-query",
        "organization": "acme-corporation",
        "sig": "signature-of-all",
    }

    async def echo(request: Any) -> FakeAnswer:
        given = " ".join([request.url, *request.headers_with_credentials().values()])
        assert [key for key in keys.values() if key not in given] == []
        head = {"X-Echo": " ".join(keys.values()), "Set-Cookie": "c=cookie-of-the-server"}
        if body == "events":
            return FakeAnswer(events=[chunk(given), chunk(finish="stop")], headers=head)
        if body == "error":
            return FakeAnswer(status=400, json={"error": {"message": given, "param": KEY}}, headers=head)
        return FakeAnswer(json=with_text(given), headers=head)

    async def main() -> None:
        cassette = Cassette(path)
        options: Any = {"organization": keys["organization"], "default_headers": {"X-Default": keys["X-Default"]}}
        options |= {"default_query": {"sig": keys["sig"]}}
        async with client_of(cassette, echo, **options) as client:
            more: Any = {"extra_headers": {"X-Token": keys["X-Token"]}, "extra_query": {"api-key": keys["api-key"]}}
            try:
                made = await client.chat.completions.create(messages=HI, model="m", stream=body == "events", **more)
                if body == "events":
                    assert [one async for one in made]
            except BadRequestError:
                assert body == "error"
        cassette.close()

    run(main())
    text = path.read_text(encoding="utf-8")
    assert [key for key in [*keys.values(), "cookie-of-the-server"] if key in text] == []
    assert "[key]" in text


SPELLED = {
    "chat": (lambda text: {"choices": [{"index": 0, "delta": {"content": text}}]}),
    "second choice": (lambda text: {"choices": [{"index": 1, "delta": {"reasoning_content": text}}]}),
    "tool call": (
        lambda text: {
            "choices": [{"index": 0, "delta": {"tool_calls": [{"index": 1, "function": {"arguments": text}}]}}]
        }
    ),
    "completion": (lambda text: {"choices": [{"index": 0, "text": text}]}),
    "response": (
        lambda text: {"type": "response.output_text.delta", "item_id": "msg_1", "content_index": 0, "delta": text}
    ),
}


@pytest.mark.parametrize("size", [1, 5, 19, 30])
@pytest.mark.parametrize("form", SPELLED)
def test_a_key_that_a_model_spells_is_not_recorded(form: str, size: int) -> None:
    """Over any number of events, plain or in base64; times and number of the events, and other texts, stay."""
    spelled = f"The key is {KEY}, or {base64.b64encode(KEY.encode()).decode()}, and xai-{'0a' * 10} of somebody."
    event = SPELLED[form]

    def encoded(value: Any) -> bytes:
        return b"event: x\ndata: " + json.dumps(value).encode() + b"\n\n"

    other = encoded({"choices": [{"index": 3, "delta": {"content": "another choice"}}], "id": "one"})
    last = b"data: [DONE]\n\n"
    given: list[bytes] = []
    for at in range(0, len(spelled), size):
        given += [encoded(event(spelled[at : at + size])), other]
    scrubber = Scrubber(fields=[("Authorization", f"Bearer {KEY}")])
    cleaned = scrubber.events([*given, last])
    assert len(cleaned) == len(given) + 1
    assert cleaned[1::2] == [other] * (len(given) // 2)
    assert cleaned[-1] == last

    def text_of(value: Any) -> str:
        if isinstance(value, dict):
            names = ("content", "reasoning_content", "arguments", "text", "delta", "choices", "tool_calls", "function")
            return "".join(text_of(value[name]) for name in names if name in value)
        return "".join(map(text_of, value)) if isinstance(value, list) else str(value)

    texts = [text_of(json.loads(one.partition(b"data: ")[2])) for one in cleaned[:-1:2]]
    assert "".join(texts).startswith("The key is [key], or ")
    assert "".join(texts).endswith("and [redacted] of somebody.")
    joined = b"".join(cleaned).decode()
    assert KEY not in "".join(texts) + joined
    assert base64.b64encode(KEY.encode()).decode()[:-4] not in "".join(texts) + joined


def test_a_stream_without_secrets_is_recorded_as_it_is() -> None:
    """Byte for byte, whatever its events are; so are identifiers, of which every event repeats the same."""
    events = [
        b'data: {"id": "chatcmpl-1",  "choices": [{"index": 0, "delta": {"content": "my password"}}]}\n\n',
        b": a comment\n\n",
        b'event: a\ndata: {"delta": \ndata: 1}\n\n',
        b'data: {"delta": ["a", {"b": ["c"]}], "choices": [1, null, {"text": "x"}]}\n\n',
        b"data: [1, 2]\n\n",
        b"data: nonsense\n\n",
        b'data: {"id": "chatcmpl-1",  "choices": [{"index": 0, "delta": {"content": " is long"}}]}\r\n\r\n',
        b"data: " + b"[" * 100_000 + b"\n\n",
        b"data: [DONE]\n\n",
    ]
    assert Scrubber(fields=[("Authorization", f"Bearer {KEY}")]).events(events) == events


def test_texts_of_many_events_are_scrubbed_in_linear_time() -> None:
    """They are joined once."""
    scrubber = Scrubber(fields=[("Authorization", f"Bearer {KEY}")])

    def work(size: int) -> None:
        event = b"data: " + json.dumps(SPELLED["chat"]("word ")).encode() + b"\n\n"
        assert scrubber.events([event] * size) == [event] * size

    assert_linear(work, 1_500)


def test_uploads_are_recorded_and_sent(tmp_path: Path) -> None:
    """A file that is read while it is sent arrives whole, and its content decides what is replayed."""
    path, file = tmp_path / "upload.jsonl", tmp_path / "sound.wav"
    file.write_bytes(b"RIFF" + bytes(3_000_000))
    sizes: list[int] = []

    async def hear(request: Any) -> FakeAnswer:
        sizes.append(len(request.body))
        return FakeAnswer(json={"text": "said"})

    async def act(client: AsyncOpenAI) -> str:
        return (await client.audio.transcriptions.create(file=file, model="m")).text

    assert record(path, hear, act) == "said"
    assert replay(path, act) == "said"
    assert sizes[0] > 3_000_000
    assert path.stat().st_size < 2_000


def test_a_large_stream_is_recorded_in_linear_time(tmp_path: Path) -> None:
    """Events that come in many pieces are put together once."""

    def work(size: int) -> None:
        path = tmp_path / f"{size}.jsonl"
        event = b"data: " + json.dumps(chunk("x" * size)).encode() + b"\n\n"
        pieces = [event[at : at + 1000] for at in range(0, len(event), 1000)]
        pieces += [b"data: " + json.dumps(chunk(finish="stop")).encode() + b"\n\n", b"data: [DONE]\n\n"]

        async def read(client: AsyncOpenAI) -> int:
            stream = await client.chat.completions.create(messages=HI, model="m", stream=True)
            return sum([len(one.choices[0].delta.content or "") async for one in stream])

        head = {"Content-Type": "text/event-stream"}
        assert record(path, {CHAT: FakeAnswer(body=pieces, headers=head)}, read, "all") == size
        assert len(lines_of(path)[1]["response"]["pieces"]) == 3

    assert_linear(work, 200_000)


def test_what_comes_after_the_last_event_is_not_waited_for(tmp_path: Path) -> None:
    """A client may leave after ``[DONE]``: the recording is whole, for clients that read to the end of the message."""
    path = tmp_path / "done.jsonl"

    async def main() -> None:
        cassette = Cassette(path)
        answer = FakeAnswer(events=[chunk("a"), chunk(finish="stop")], hang=True)
        transport = RecordingTransport(cassette, FakeTransport({CHAT: answer}))
        origin = Origin("http", "fake", 80)
        request = TransportRequest(origin, "POST", "/v1/chat/completions", (), Credentials(), b"{}")
        made = await transport.send(request, AttemptTimeouts(None, None, None))
        while b"[DONE]" not in b"".join(await made.pieces()):
            pass
        made.abort()
        cassette.close()

    run(main())
    assert len(lines_of(path)[1]["response"]["pieces"]) == 3
    assert "broken" not in lines_of(path)[1]["response"]


def test_quoted_secrets_are_found_in_linear_time() -> None:
    """A body of backslashes, which marks of quotation begin with, takes no longer than any other."""

    def work(size: int) -> None:
        marks = "\\" * size
        Scrubber().text(f'{marks}"password{marks}":{marks}"{marks}')
        Scrubber().text(
            "x".join(f'{marks[:n]}"password{marks[:n]}":{marks[:n]}"' for n in range(int(size**0.5), 0, -1))
        )

    assert_linear(work, 4_000)


def test_a_stream_that_is_left_after_a_deep_event_is_recorded(tmp_path: Path) -> None:
    """Leaving a stream looks at its last event, which may be nested too deeply to be read."""
    path = tmp_path / "deep.jsonl"

    async def act(client: AsyncOpenAI) -> str:
        async with await client.chat.completions.create(messages=HI, model="m", stream=True) as stream:
            async for event in stream:
                return event.choices[0].delta.content or ""
        return "nothing"

    deep = b'data: {"a": ' + b"[" * 50_000 + b"\n\n"
    events = [chunk("It"), deep, chunk(" scatters")]
    assert record(path, {CHAT: FakeAnswer(events=events, done=False, cut_after=2, hang=True)}, act) == "It"
    assert len(lines_of(path)) == 2

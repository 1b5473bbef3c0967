"""Answers that are bytes, whole and as they come: complete or an error, under the clocks, in every way of reading."""

from __future__ import annotations

import asyncio
import gzip
import os
from pathlib import Path
from typing import Any

import pytest

from conftest import run
from openaiasync import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    APITimeoutError,
    Client,
    ClientClosedError,
    IncompleteStreamError,
    NotFoundError,
)
from openaiasync.core.codec.endpoint import Endpoint
from openaiasync.core.model.meta import Meta, RequestInfo
from openaiasync.engine.binary import BinaryAnswer, ByteStream
from openaiasync.testing import FakeAnswer, FakeTransport
from scripted import LAST_CHUNK, Script, Seen, answer, head, json_answer, scripted

CONTENT = Endpoint("things.content", "GET", "/things/{thing_id}/content", required="thing_id", codec="bytes")
SPEECH = Endpoint("things.speech", "POST", "/speech", required="input", body="json", codec="audio")
SOUND = os.urandom(200_000)


def binary(content: bytes, kind: str = "audio/wav") -> BinaryAnswer:
    raw = f"Content-Type: {kind}\r\n".encode() if kind else b""
    return BinaryAnswer(content, Meta(200, raw, RequestInfo("GET", "http://h", "/x")))


def script_of(*parts: bytes | float) -> Script:
    """Sends bytes as they are and pauses for numbers; closes at a negative one."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            if isinstance(part, bytes):
                writer.write(part)
                await writer.drain()
            elif part < 0:
                writer.close()
            else:
                await asyncio.sleep(part)

    return script


async def asked(client: Client, endpoint: Endpoint = CONTENT) -> BinaryAnswer:
    params = {"thing_id": "t"} if endpoint is CONTENT else {"input": "hi"}
    got: BinaryAnswer = await client._calls.run(endpoint, params)
    return got


def streamed(client: Client, endpoint: Endpoint = CONTENT) -> ByteStream:
    params = {"thing_id": "t"} if endpoint is CONTENT else {"input": "hi"}
    return ByteStream(client._calls, client._calls.request(endpoint, params))


async def read_all(client: Client, endpoint: Endpoint, whole: bool) -> bytes:
    """The bytes of an answer, by either way."""
    if whole:
        return (await asked(client, endpoint)).content
    async with streamed(client, endpoint) as stream:
        return b"".join([piece async for piece in stream])


async def take_all(stream: ByteStream, into: list[bytes]) -> None:
    async for piece in stream:
        into.append(piece)


def with_script(script: Script, act: Any, **options: Any) -> Any:
    async def main() -> Any:
        async with scripted(script) as server, Client(api_base=server.url, **{"max_retries": 0, **options}) as client:
            return await act(client)

    return run(main())


def chunked(*parts: bytes, end: bytes = LAST_CHUNK) -> bytes:
    rows = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return head(Content_Type="audio/mpeg", Transfer_Encoding="chunked") + rows + end


class TestReading:
    """The ways to read a whole answer."""

    def test_the_ways_to_read_it(self) -> None:
        """Every way of the official client gives the same content."""
        it = binary(SOUND)

        async def main() -> None:
            assert await it.aread() == SOUND
            assert b"".join([piece async for piece in it.aiter_bytes(999)]) == SOUND
            assert b"".join([piece async for piece in it.aiter_raw()]) == SOUND
            await it.aclose()

        run(main())
        assert it.content == it.read() == bytes(it) == b"".join(it.iter_bytes()) == SOUND
        assert [len(piece) for piece in it.iter_bytes(150_000)] == [150_000, 50_000]
        assert len(it) == 200_000
        assert it
        assert binary(b"")
        assert repr(it) == "<BinaryAnswer of 200,000 bytes, audio/wav>"
        it.close()
        with pytest.raises(ValueError, match="chunk_size"):
            it.iter_bytes(0)

    def test_text_and_json(self) -> None:
        """Text by the character set that the server named; pieces never cut a character."""
        assert binary("é€".encode(), "text/plain").text == "é€"
        assert binary("é".encode("latin-1"), 'text/plain; charset="ISO-8859-1"').text == "é"
        for name in ("nonsense", "hex", "undefined", "idna", "rot13"):
            assert binary(b"\xff", f"text/plain; charset={name}").text == "\ufffd"
        assert binary(b'{"a": 1}').json() == {"a": 1}
        assert list(binary("é€x".encode()).iter_text(1)) == ["é", "€", "x"]
        assert list(binary(b"a\r\nb\nc").iter_lines()) == ["a", "b", "c"]
        with pytest.raises(ValueError, match="Expecting"):
            binary(b"no").json()

        async def main() -> None:
            assert [line async for line in binary(b"a\nb").aiter_lines()] == ["a", "b"]
            assert "".join([text async for text in binary("é".encode()).aiter_text(1)]) == "é"

        run(main())

    def test_writing_to_a_file(self, tmp_path: Path) -> None:
        """Written when the method returns, whether it is awaited or not; a missing folder is an `OSError`."""
        it = binary(SOUND)
        it.write_to_file(tmp_path / "a")
        it.stream_to_file(str(tmp_path / "b"))

        async def main() -> None:
            await it.write_to_file(tmp_path / "c")
            await it.stream_to_file(tmp_path / "d", chunk_size=10)
            await it.astream_to_file(tmp_path / "e")
            with pytest.raises(FileNotFoundError):
                await it.astream_to_file(tmp_path / "no" / "such")

        run(main())
        assert [path.read_bytes() == SOUND for path in sorted(tmp_path.iterdir())] == [True] * 5

    @pytest.mark.parametrize(
        ("content", "kind", "name", "media_type"),
        [
            (b"RIFF\0\0\0\0WAVEfmt ", "application/octet-stream", "upload.wav", "audio/wav"),
            (b"\x89PNG\r\n\x1a\n", "", "upload.png", "image/png"),
            (b"\1\2\3", "audio/pcm;rate=24000", "upload.pcm", "audio/pcm"),
            (b"\1\2\3", "audio/opus", "upload.ogg", "audio/opus"),
            (b"\1\2\3", "", "upload", None),
        ],
    )
    def test_as_a_file(self, content: bytes, kind: str, name: str, media_type: str | None) -> None:
        """Uploaded again, it is named by what it holds, else by what the server said."""
        assert binary(content, kind).as_file() == (name, content, media_type)


class TestWhole:
    """Calls that answer bytes."""

    def test_what_comes(self) -> None:
        """The content to the last byte, with header fields, status and what is known of the call."""

        async def act(client: Client) -> BinaryAnswer:
            return await asked(client)

        it = with_script(script_of(answer(SOUND, content_type="Audio/WAV; x=y", X_Request_Id="r1")), act)
        assert it.content == SOUND
        assert it.content_type == "audio/wav"
        assert it.headers["x-request-id"] == it.meta.request_id == "r1"
        assert (it.response.status_code, it.response.content, it.meta.tries) == (200, SOUND, 1)

    def test_a_coding_is_undone(self) -> None:
        """Bytes that a server compressed are the bytes before; a damaged coding is an error."""

        async def act(client: Client) -> bytes:
            return (await asked(client)).content

        packed = gzip.compress(b"abc" * 1000)
        assert with_script(script_of(answer(packed, Content_Encoding="gzip")), act) == b"abc" * 1000
        with pytest.raises(APIResponseValidationError):
            with_script(script_of(answer(packed[:-9], Content_Encoding="gzip")), act)

    def test_json_is_content_too(self) -> None:
        """A file may hold anything, an object with an error in it as well."""
        body = b'{"error": {"message": "of a row in a file"}}'

        async def act(client: Client) -> Any:
            return (await asked(client)).content

        assert with_script(script_of(answer(body)), act) == body

    @pytest.mark.parametrize(
        ("raw", "kind", "match"),
        [
            (json_answer({"error": {"message": "no such voice"}}), APIError, "no such voice"),
            (json_answer({"url": "http://elsewhere"}), APIResponseValidationError, "the server sent text"),
            (answer(b"<html>", content_type="text/html"), APIResponseValidationError, "the server sent text"),
            (answer(b"", content_type="audio/mpeg"), APIResponseValidationError, "the server sent nothing"),
        ],
    )
    @pytest.mark.parametrize("whole", [True, False])
    def test_what_is_no_sound_is_refused(self, raw: bytes, kind: type[APIError], match: str, whole: bool) -> None:
        """Where sound was asked for, an error object, a page or nothing raises; whole and as it comes."""

        async def act(client: Client) -> None:
            with pytest.raises(kind, match=match) as caught:
                await read_all(client, SPEECH, whole)
            assert type(caught.value) is kind
            assert caught.value.meta is not None

        with_script(script_of(raw), act)

    def test_a_status_is_an_error(self) -> None:
        """404 raises what it raises everywhere."""

        async def act(client: Client) -> None:
            with pytest.raises(NotFoundError):
                await asked(client)
            with pytest.raises(NotFoundError):
                async with streamed(client):
                    pass

        with_script(script_of(json_answer({"error": {"message": "gone"}}, status=404)), act)

    def test_a_broken_body_is_tried_again(self) -> None:
        """Nothing was delivered, so the call is made again; after the last try it is a connection error."""
        tries = []

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            tries.append(1)
            writer.write(answer(SOUND) if len(tries) == 2 else answer(SOUND)[:1000])
            await writer.drain()
            if len(tries) != 2:
                writer.close()

        async def act(client: Client) -> None:
            assert (await asked(client)).content == SOUND
            with pytest.raises(APIConnectionError):
                await asked(client.with_options(max_retries=0))

        with_script(script, act, max_retries=1)
        assert len(tries) == 3


def test_a_compressed_piece_is_inflated_in_steps() -> None:
    """Other tasks run while a large piece of a streamed body is decompressed, however it is read."""
    coded = FakeAnswer(body=[gzip.compress(SOUND)], headers={"Content-Encoding": "gzip", "Content-Type": "audio/wav"})

    async def read(client: Client, streamed: bool) -> bytes:
        if not streamed:
            async with client.text_to_speech.stream("hi") as stream:
                return b"".join([piece async for piece in stream])
        async with client.audio.speech.with_streaming_response.create(input="hi", voice="a", model="m") as response:
            return await response.read()

    async def main() -> None:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async with Client(
            api_base="http://h/v1", model="m", http_other={"transport": FakeTransport(lambda _: coded)}
        ) as client:
            for streamed in (False, True):
                assert await read(client, streamed) == SOUND  # what is imported at first use
                work = asyncio.create_task(read(client, streamed))
                beside = asyncio.create_task(other())
                sound = await work
                beside.cancel()
                assert sound == SOUND
                assert turns >= 6  # three in which the call waits, and one before each of the four slices but the first
                turns = 0

    run(main())


class TestClocks:
    """One stall period for each 64 KiB, and no other way to live longer."""

    @pytest.mark.parametrize("whole", [True, False])
    def test_a_dripping_server_is_cut_off(self, whole: bool) -> None:
        """A byte now and then does not count as progress."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(head(Content_Type="audio/wav", Content_Length="1000000") + b"x" * 100)
            for _ in range(100):
                writer.write(b"x")
                await asyncio.sleep(0.05)

        async def act(client: Client) -> None:
            began = asyncio.get_running_loop().time()
            with pytest.raises(APITimeoutError) as caught:
                await read_all(client, CONTENT, whole)
            assert caught.value.clock == "stall"
            assert asyncio.get_running_loop().time() - began < 3

        with_script(script, act, http_stall_timeout=0.4)

    @pytest.mark.parametrize("whole", [True, False])
    def test_progress_grants_more_time(self, whole: bool) -> None:
        """An answer that takes many stall periods in all is fine as long as 64 KiB come in each."""
        pieces: list[bytes | float] = [head(Content_Type="audio/wav", Content_Length=str(8 * 70_000))]
        for _ in range(8):
            pieces += [0.15, b"x" * 70_000]

        async def act(client: Client) -> int:
            return len(await read_all(client, CONTENT, whole))

        assert with_script(script_of(*pieces), act, http_stall_timeout=0.6) == 8 * 70_000

    def test_the_deadline_ends_it(self) -> None:
        """No progress outlives the deadline of the call."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(head(Content_Type="audio/wav", Content_Length="100000000"))
            for _ in range(100):
                writer.write(b"x" * 70_000)
                await asyncio.sleep(0.05)

        async def act(client: Client) -> None:
            with pytest.raises(APITimeoutError) as caught:
                await asked(client)
            assert caught.value.clock == "deadline"

        with_script(script, act, http_deadline=0.4)


class TestStream:
    """Bytes as they come."""

    def test_pieces_arrive_while_the_server_still_speaks(self) -> None:
        """The first piece is there before the last is made; all together are the answer."""

        async def act(client: Client) -> None:
            async with streamed(client) as stream:
                assert stream.content_type == "audio/mpeg"
                got = [(piece, asyncio.get_running_loop().time()) async for piece in stream]
            assert b"".join(piece for piece, _ in got) == b"onetwo"
            assert got[-1][1] - got[0][1] > 0.1

        raw = chunked(b"one", b"two")
        with_script(script_of(raw[:-15], 0.2, raw[-15:]), act)

    def test_nothing_is_sent_before_it_is_opened(self) -> None:
        """Made and dropped, a stream has cost nothing; its meta is not there yet."""

        async def act(client: Client) -> None:
            stream = streamed(client)
            with pytest.raises(RuntimeError, match="nothing was sent"):
                _ = stream.meta
            assert "not sent" in repr(stream)
            await stream.close()
            assert [piece async for piece in stream] == []

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            raise AssertionError("something was sent")

        with_script(script, act)

    def test_it_holds_its_place_until_it_is_closed(self) -> None:
        """Another call waits while a stream is open, and goes on when it is left or over."""

        async def act(client: Client) -> None:
            async with streamed(client) as stream:
                await anext(stream)
                waiting = asyncio.create_task(asked(client))
                await asyncio.sleep(0.05)
                assert not waiting.done()
            assert len(await waiting) == len(SOUND)
            stream = streamed(client)
            assert sum([len(piece) async for piece in stream]) == len(SOUND)
            await asked(client)

        with_script(script_of(answer(SOUND)), act, http_max_in_flight=1)

    def test_break_and_close_free_the_connection(self) -> None:
        """Left in the middle, a stream drops its connection at once."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(head(Content_Type="audio/wav", Content_Length="100000000") + b"x" * 1000)
            await writer.drain()
            await asyncio.sleep(20)

        async def main() -> None:
            async with scripted(script) as server, Client(api_base=server.url, max_retries=0) as client:
                async with streamed(client) as stream:
                    async for piece in stream:
                        assert piece
                        break
                assert client._calls.shared.limiter.used == 0
                with pytest.raises(StopAsyncIteration):
                    await anext(stream)
                assert "closed" in repr(stream)

        run(main(), timeout=10)

    def test_it_can_be_written_to_a_file(self, tmp_path: Path) -> None:
        """The file is there when all has come; what breaks off raises and leaves the file as it was."""

        async def act(client: Client) -> None:
            async with streamed(client) as stream:
                await stream.stream_to_file(tmp_path / "sound")

        with_script(script_of(answer(SOUND)), act)
        assert (tmp_path / "sound").read_bytes() == SOUND
        with pytest.raises(IncompleteStreamError):
            with_script(script_of(chunked(b"one", end=b""), 0.05, -1), act)
        assert (tmp_path / "sound").read_bytes() == SOUND
        assert os.listdir(tmp_path) == ["sound"]
        with pytest.raises(IsADirectoryError):
            with_script(script_of(answer(SOUND)), lambda client: streamed(client).stream_to_file(tmp_path))

    def test_a_stream_that_is_forgotten_is_let_go(self) -> None:
        """Garbage collection frees the place."""

        async def act(client: Client) -> None:
            stream = streamed(client)
            await anext(stream)
            assert client._calls.shared.limiter.used == 1
            del stream
            assert client._calls.shared.limiter.used == 0

        with_script(script_of(head(Content_Type="audio/wav", Content_Length="100") + b"x", 5.0), act)

    def test_an_answer_that_breaks_off_raises(self) -> None:
        """The error follows the received bytes; a truncated answer never looks complete."""

        async def act(client: Client) -> bytes:
            got: list[bytes] = []
            with pytest.raises(IncompleteStreamError, match="after 3 bytes"):
                await take_all(streamed(client), got)
            return b"".join(got)

        assert with_script(script_of(chunked(b"one", end=b""), 0.05, -1), act) == b"one"

    def test_what_breaks_before_its_first_byte_is_tried_again(self) -> None:
        """Nothing was delivered: another try, if there is one left."""
        tries = []

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            tries.append(1)
            if len(tries) == 1:
                writer.write(head(Content_Type="audio/wav", Content_Length="100"))
                await writer.drain()
                await asyncio.sleep(0.05)
                writer.close()
            else:
                writer.write(answer(SOUND))

        async def act(client: Client) -> None:
            stream = streamed(client)
            assert b"".join([piece async for piece in stream]) == SOUND
            assert stream.meta.tries == 2

        with_script(script, act, max_retries=1)

    def test_closing_the_client_ends_it(self) -> None:
        """An open stream of a closed client raises `ClientClosedError`."""

        async def act(client: Client) -> None:
            stream = streamed(client)
            await anext(stream)
            await client.aclose()
            with pytest.raises(ClientClosedError):
                await anext(stream)

        with_script(script_of(head(Content_Type="audio/wav", Content_Length="100") + b"x", 5.0), act)

    def test_cancelling_frees_everything(self) -> None:
        """Cancelled while it waits for a piece, a stream leaves nothing behind."""

        async def act(client: Client) -> None:
            task = asyncio.create_task(take_all(streamed(client), []))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert client._calls.shared.limiter.used == 0

        with_script(script_of(head(Content_Type="audio/wav", Content_Length="100") + b"x", 5.0), act)

    def test_a_coding_is_undone_on_the_way(self) -> None:
        """Compressed pieces come out as what they were; a cut coding raises."""
        packed = gzip.compress(SOUND)

        async def act(client: Client) -> bytes:
            return b"".join([piece async for piece in streamed(client)])

        assert with_script(script_of(answer(packed, Content_Encoding="gzip")), act) == SOUND
        with pytest.raises(APIResponseValidationError, match="damaged"):
            with_script(script_of(answer(packed[:-9], Content_Encoding="gzip")), act)

"""The official client itself over the bridge, in each environment's version."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest

openai = pytest.importorskip("openai")

from conftest import run  # noqa: E402
from openaiasync.bridge import transport  # noqa: E402
from openaiasync.bridge.httpx import library_named  # noqa: E402
from scripted import LAST_CHUNK, STREAM_HEAD, Seen, chunk, event, json_answer, scripted  # noqa: E402

from .bridged import official  # noqa: E402
from .replies import Reply  # noqa: E402

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("default")]

ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def test_plain() -> None:
    """An answer is the official class with what the server said."""

    async def main() -> None:
        async with official(Reply("Hello there.")) as (server, client, _):
            answer = await client.chat.completions.create(**ASK)
            assert isinstance(answer, openai.types.chat.ChatCompletion)
            assert answer.choices[0].message.content == "Hello there."
            assert server.requests[0].headers["authorization"] == "Bearer sk-test"
            raw = await client.chat.completions.with_raw_response.create(**ASK)
            assert raw.parse().usage.total_tokens == 5
            assert server.connections == 1

    run(main())


def test_streams() -> None:
    """Streams of both kinds come whole, one after the other over one connection."""

    async def main() -> None:
        async with official(Reply("Hello there.")) as (server, client, _):
            for _ in range(2):
                stream = await client.chat.completions.create(stream=True, **ASK)
                pieces = [one.choices[0].delta.content or "" async for one in stream if one.choices]
                assert "".join(pieces) == "Hello there."
            events = await client.responses.create(model="m", input="hi", stream=True)
            kinds = [one.type async for one in events]
            assert kinds[-1] == "response.completed"
            assert server.connections == 1

    run(main())


def test_embeddings_and_uploads() -> None:
    """Other operations pass too: a form with a file among them."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        assert b"RIFF" * 100_000 in seen.body
        writer.write(json_answer({"text": "spoken"}))

    async def main() -> None:
        async with scripted(script) as server:
            http = library_named(None).AsyncClient(transport=transport())
            async with openai.AsyncOpenAI(base_url=server.url, api_key="k", http_client=http) as client:
                file = ("a.wav", io.BytesIO(b"RIFF" * 100_000))
                answer = await client.audio.transcriptions.create(model="m", file=file)
                assert answer.text == "spoken"

    run(main())


@pytest.mark.parametrize("retries", [0, 2])
def test_a_429(retries: int) -> None:
    """A 429 is the official RateLimitError; the official client does not try again what we tried again already."""

    async def main() -> None:
        async with official(Reply(status=429)) as (server, client, _):
            with pytest.raises(openai.RateLimitError) as caught:
                await client.with_options(max_retries=retries).chat.completions.create(**ASK)
            assert caught.value.code == "rate_limit_exceeded"
            assert caught.value.request_id == "req-1"
            assert len(server.requests) == 3

    run(main())


def test_a_busy_server_is_asked_again() -> None:
    """Our retries give the official client an answer in place of a 429."""

    async def main() -> None:
        async with official(Reply(status=429), Reply(status=503), Reply("There.")) as (server, client, _):
            answer = await client.chat.completions.create(**ASK)
            assert (answer.choices[0].message.content, len(server.requests)) == ("There.", 3)

    run(main())


@pytest.mark.parametrize("how", ["connection", "end", "response"])
def test_a_cut_stream(how: str) -> None:
    """A stream that breaks off, and one that just ends, raise the official APIConnectionError in the loop."""

    async def ends(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + event(chunk("Hel")) + LAST_CHUNK)

    async def read(client: Any) -> list[Any]:
        got: list[Any] = []
        with pytest.raises(openai.APIConnectionError) as caught:
            if how == "response":
                stream = await client.responses.create(model="m", input="hi", stream=True)
            else:
                stream = await client.chat.completions.create(stream=True, **ASK)
            async for one in stream:
                got.append(one)
        # Newer versions wrap what breaks a stream; older ones let it through, and it is of their class by itself.
        broke = caught.value.__cause__ if type(caught.value) is openai.APIConnectionError else caught.value
        assert isinstance(broke, library_named(None).RemoteProtocolError)
        assert str(caught.value.request.url).endswith(("/chat/completions", "/responses"))
        return got

    async def main() -> None:
        if how == "end":
            async with scripted(ends) as server:
                http = library_named(None).AsyncClient(transport=transport())
                async with openai.AsyncOpenAI(base_url=server.url, api_key="k", http_client=http) as client:
                    assert len(await read(client)) == 1
            return
        async with official(Reply("Hello there, and much more.", cut=True)) as (_, client, _):
            assert await read(client)

    run(main())


def test_nobody_there() -> None:
    """A refused connection is the official APIConnectionError, with ours in its chain of causes."""

    async def main() -> None:
        async with official(Reply("x"), max_retries=0) as (_, client, _):
            away = client.with_options(base_url="http://127.0.0.1:9/v1")
            with pytest.raises(openai.APIConnectionError) as caught:
                await away.chat.completions.create(**ASK)
            assert isinstance(caught.value.__cause__, library_named(None).ConnectError)

    run(main())


def test_a_silent_server() -> None:
    """The official `timeout=` holds, and ends in the official APITimeoutError, before an answer and in a stream."""

    async def silent(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if seen.json().get("stream"):
            writer.write(STREAM_HEAD + event(chunk("Hel")))
            await writer.drain()
        await asyncio.sleep(3600)

    async def main() -> None:
        async with scripted(silent) as server:
            http = library_named(None).AsyncClient(transport=transport())
            client = openai.AsyncOpenAI(base_url=server.url, api_key="k", http_client=http, max_retries=0)
            async with client:
                with pytest.raises(openai.APITimeoutError):
                    await client.chat.completions.create(timeout=0.3, **ASK)
                with pytest.raises(openai.APITimeoutError):
                    stream = await client.chat.completions.create(stream=True, timeout=0.3, **ASK)
                    async for _ in stream:
                        pass

    run(main())


def test_leaving_a_stream_early() -> None:
    """A stream that is left gives back its place in flight."""

    async def main() -> None:
        async with official(Reply("Hello there, all of you."), http_max_in_flight=1) as (_, client, _):
            for _ in range(3):
                stream = await client.chat.completions.create(stream=True, **ASK)
                async for _ in stream:
                    break
                await stream.close()

    run(main())

"""What a caller's own HTTP client raises: the official client's classes of errors, with the cause and its words."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import traceback
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from conftest import run
from openaiasync import APIConnectionError, APITimeoutError, AsyncOpenAI, NotFoundError
from scripted import Seen, chunk, event, head, scripted

httpx2 = pytest.importorskip("httpx2")

KEY = "sk-secret-of-the-client"
MESSAGES: Any = [{"role": "user", "content": "hi"}]
TIMEOUTS = ("ConnectTimeout", "PoolTimeout", "WriteTimeout", "ReadTimeout", "TimeoutException")
OTHERS = ("ConnectError", "ReadError", "WriteError", "RemoteProtocolError", "DecodingError")


def client_of(handler: Callable[[Any], Any]) -> AsyncOpenAI:
    carrier = httpx2.AsyncClient(transport=httpx2.MockTransport(handler))
    return AsyncOpenAI(api_key=KEY, max_retries=0, http_client=carrier)


def is_timeout(name: str) -> type[Exception]:
    return APITimeoutError if name in TIMEOUTS else APIConnectionError


@pytest.mark.parametrize("name", [*TIMEOUTS, *OTHERS])
def test_what_is_raised_before_an_answer(name: str) -> None:
    """A timeout is an `APITimeoutError`, all else an `APIConnectionError`; `__cause__` is what the client raised."""
    raised = getattr(httpx2, name)("words of the network")

    def handler(request: Any) -> Any:
        assert request.headers["authorization"] == f"Bearer {KEY}"
        raised.request = request
        raise raised

    async def main() -> None:
        async with client_of(handler) as client:
            with pytest.raises(APIConnectionError) as caught:
                await client.models.list()
        assert "authorization" not in raised.request.headers
        assert type(caught.value) is is_timeout(name)
        assert caught.value.__cause__ is raised
        assert f"{name} in http_client: words of the network" in str(caught.value)
        assert KEY not in "".join(
            traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
        )

    run(main())


@pytest.mark.parametrize("name", ["ReadTimeout", "ReadError", "RemoteProtocolError"])
@pytest.mark.parametrize("form", ["stream", "whole", "bytes"])
def test_what_is_raised_in_mid_answer(name: str, form: str) -> None:
    """Cut short after the head: the same classes and causes, whichever way the answer is read."""
    raised = getattr(httpx2, name)("words of the network")

    async def body() -> AsyncIterator[bytes]:
        yield event(chunk("a")) if form == "stream" else b'{"id": '
        raise raised

    def handler(request: Any) -> Any:
        kind = {"stream": "text/event-stream", "whole": "application/json", "bytes": "application/octet-stream"}[form]
        return httpx2.Response(200, headers={"content-type": kind}, content=body())

    async def main() -> None:
        async with client_of(handler) as client:
            with pytest.raises(APIConnectionError) as caught:
                if form == "stream":
                    async for _ in await client.chat.completions.create(model="m", messages=MESSAGES, stream=True):
                        pass
                elif form == "whole":
                    await client.models.retrieve("m")
                else:
                    async with client.files.with_streaming_response.content("f") as response:
                        async for _ in response.iter_bytes():
                            pass
        assert isinstance(caught.value, is_timeout(name))
        assert caught.value.__cause__ is raised

    run(main())


def test_a_refused_connection_has_its_cause() -> None:
    """Without a client of the caller's, `__cause__` is the operating system's error."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"

        async def main() -> None:
            async with AsyncOpenAI(api_key=KEY, max_retries=0, base_url=address) as client:
                with pytest.raises(APIConnectionError) as caught:
                    await client.models.list()
            assert isinstance(caught.value.__cause__, ConnectionRefusedError)

        run(main())


@pytest.mark.parametrize("coding", [None, "gzip"])
def test_an_answer_that_was_read_before(coding: str | None) -> None:
    """A mock transport's ready response, whole, streamed or binary, coded or not, is an answer as any other."""
    encode = gzip.compress if coding else bytes
    headers = {"content-encoding": coding} if coding else {}
    events = b"data: " + json.dumps(chunk("a", "stop")).encode() + b"\n\ndata: [DONE]\n\n"
    answers: dict[str, tuple[str, bytes]] = {
        "/v1/chat/completions": ("text/event-stream", events),
        "/v1/models/m": ("application/json", b'{"id": "m", "object": "model", "created": 1, "owned_by": "o"}'),
        "/v1/files/f/content": ("application/octet-stream", b"\x00bytes"),
        "/v1/files/empty/content": ("application/octet-stream", b""),
    }

    def handler(request: Any) -> Any:
        kind, body = answers[request.url.path]
        return httpx2.Response(200, headers={"content-type": kind, **headers}, content=encode(body))

    async def main() -> None:
        async with client_of(handler) as client:
            assert (await client.models.retrieve("m")).id == "m"
            assert (await client.files.content("f")).content == b"\x00bytes"
            assert (await client.files.content("empty")).content == b""
            stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
            assert [one.choices[0].delta.content async for one in stream] == ["a"]

    run(main())


def test_an_answer_that_an_event_hook_read() -> None:
    """A hook of the caller's client may read the answer, which is there for us all the same."""
    seen: list[bytes] = []

    async def read(response: Any) -> None:
        seen.append(await response.aread())

    async def body() -> AsyncIterator[bytes]:
        yield b'{"id": "m", "object": "model",'
        yield b' "created": 1, "owned_by": "o"}'

    async def main() -> None:
        carrier = httpx2.AsyncClient(
            transport=httpx2.MockTransport(lambda request: httpx2.Response(200, content=body())),
            event_hooks={"response": [read]},
        )
        async with AsyncOpenAI(api_key=KEY, max_retries=0, http_client=carrier) as client:
            assert (await client.models.retrieve("m")).owned_by == "o"
        assert len(seen) == 1

    run(main())


def test_an_error_that_was_read_before() -> None:
    """So is an error."""

    async def main() -> None:
        async with client_of(
            lambda request: httpx2.Response(404, json={"error": {"message": "no such model"}})
        ) as client:
            with pytest.raises(NotFoundError, match="no such model") as caught:
                await client.models.retrieve("m")
        assert caught.value.response.json() == {"error": {"message": "no such model"}}

    run(main())


def test_an_answer_as_the_librarys_response() -> None:
    """``cast_to=httpx2.Response`` gives one from any transport; its request is shown without the key."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        body = gzip.compress(b"not JSON")
        writer.write(head(Content_Encoding="gzip", Content_Length=str(len(body)), X_More="1") + body)

    async def main() -> None:
        async with scripted(script) as server, AsyncOpenAI(base_url=server.url, api_key=KEY) as client:
            response = await client.post("/odd", body={"a": 1}, cast_to=httpx2.Response)
            raw = await client.with_raw_response.get("/odd", cast_to=bytes)
            assert raw.parse(to=httpx2.Response).text == "not JSON"
        assert isinstance(response, httpx2.Response)
        assert (response.status_code, response.content, response.headers["x-more"]) == (200, b"not JSON", "1")
        assert (response.request.method, str(response.request.url)) == ("POST", f"{server.url}/odd")
        assert "authorization" not in response.request.headers
        assert response.raise_for_status() is response

    run(main())

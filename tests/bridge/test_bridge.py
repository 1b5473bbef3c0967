"""`openaiasync.bridge.bridge`: an HTTP client's requests over our engine, against real sockets."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
from typing import Any

import httpx2
import pytest

import wireserver
from conftest import run
from openaiasync import Client, ConfigurationError, Limits
from openaiasync.bridge import transport
from scripted import CHAT, STREAM_HEAD, Seen, answer, chat, chunk, event, head, json_answer, scripted

from .bridging import bridged, cut, in_turn, stuck

BUSY = json_answer({"error": {"message": "busy", "type": "server_error", "code": "busy"}}, 503, Retry_After="0")


def test_a_request_arrives_as_it_would_without_the_bridge() -> None:
    """Method, target, header fields and body are the HTTP client's own; nothing is added, nothing lost."""

    async def ask(http: httpx2.AsyncClient) -> None:
        async with http:
            await http.post("/chat/completions?x=a%20b&x=2", json={"a": "ä"}, headers={"X-One": "1", "api-key": "k"})
            await http.get("/models", headers=[("X-Two", "1"), ("X-Two", "2"), ("Accept-Encoding", "identity")])
            await http.request("DELETE", "/files/f-1", headers={"Authorization": "Bearer sk-test"})

    async def main() -> None:
        async with scripted() as server:
            await ask(bridged(server.url))
            ours, server.seen[:] = list(server.seen), []
            plain = httpx2.AsyncClient(base_url=server.url, headers={"Accept-Encoding": "gzip, deflate"})
            await ask(plain)
            assert len(ours) == 3
            for one, other in zip(ours, server.seen, strict=True):
                other.headers.pop("connection")
                other.headers["x-two"] = "1, 2" if "x-two" in other.headers else ""
                one.headers.setdefault("x-two", "")
                assert (one.method, one.target, one.body) == (other.method, other.target, other.body)
                assert one.headers == other.headers

    run(main())


def test_an_answer_comes_out_whole() -> None:
    """Status, fields and JSON are the server's; one connection serves several requests."""

    async def main() -> None:
        async with scripted(in_turn(json_answer(CHAT, X_Request_Id="r-1"))) as server, bridged(server.url) as http:
            for _ in range(3):
                got = await http.post("/chat/completions", json={})
                assert (got.status_code, got.json(), got.headers["x-request-id"]) == (200, CHAT, "r-1")
                assert got.elapsed.total_seconds() >= 0
            assert server.connections == 1

    run(main())


@pytest.mark.parametrize("retries", [0, 2])
def test_error_statuses_are_answers(retries: int) -> None:
    """A status error is an answer with its body; where we have tried again ourselves, nobody else is to do so."""

    async def main() -> None:
        raw = json_answer({"error": {"message": "no"}}, 418, X_Request_Id="r", X_Should_Retry="true")
        async with scripted(in_turn(raw)) as server, bridged(server.url, max_retries=retries) as http:
            got = await http.get("/models")
            assert (got.status_code, got.json()) == (418, {"error": {"message": "no"}})
            assert got.headers["x-request-id"] == "r"
            assert got.headers["x-should-retry"] == ("false" if retries else "true")
            assert len(server.seen) == 1 + retries

    run(main())


def test_a_busy_server_is_asked_again() -> None:
    """503 and then an answer is an answer; so is JSON that breaks off once."""

    async def main() -> None:
        torn = cut(head(Content_Type="application/json", Content_Length="100") + b'{"id"')
        async with scripted(in_turn(BUSY, torn, chat)) as server, bridged(server.url, max_retries=2) as http:
            assert (await http.post("/chat/completions", json={})).json() == CHAT
            assert len(server.seen) == 3

    run(main())


def test_tries_are_not_multiplied() -> None:
    """What the official client tries again after a connection error, we try once."""

    async def main() -> None:
        async with scripted(in_turn(BUSY)) as server, bridged(server.url, max_retries=2) as http:
            for count, sent in (("0", 3), ("1", 1)):
                server.seen.clear()
                got = await http.get("/models", headers={"x-stainless-retry-count": count})
                assert (got.status_code, len(server.seen)) == (503, sent)

    run(main())


def test_torn_json_raises() -> None:
    """A JSON body that never comes whole is a RemoteProtocolError with the request on it."""

    async def main() -> None:
        torn = cut(head(Content_Type="application/json", Content_Length="100") + b'{"id"')
        async with scripted(torn) as server, bridged(server.url) as http:
            with pytest.raises(httpx2.RemoteProtocolError) as caught:
                await http.get("/models")
            assert caught.value.request.url.path == "/v1/models"

    run(main())


def test_nobody_there_is_a_connect_error() -> None:
    """Refused connections, and TLS with a server that speaks none, are ConnectErrors."""

    async def main() -> None:
        async with wireserver.Server(lambda peer: peer.send(wireserver.HELLO)) as server, bridged() as http:
            port = server.port
            with pytest.raises(httpx2.ConnectError):
                await http.get(f"https://127.0.0.1:{port}/")
        async with bridged() as http:
            with pytest.raises(httpx2.ConnectError):
                await http.get(f"http://127.0.0.1:{port}/")

    run(main())


def test_a_handshake_that_never_ends_is_a_connect_timeout() -> None:
    """The connect timeout is that of the request, or the bridge's own where that is shorter."""

    async def main() -> None:
        async with wireserver.Server(wireserver.Peer.gone) as server:
            url = f"https://127.0.0.1:{server.port}/v1"
            for words, seconds in (({}, 0.1), ({"http_connect_timeout": 0.1}, 30.0)):
                async with bridged(url, httpx2.Timeout(30.0, connect=seconds), **words) as http:
                    with pytest.raises(httpx2.ConnectTimeout):
                        await http.get("/models")
            await server.settled()

    run(main())


@pytest.mark.parametrize(
    "raw",
    [b"", b"HTTP/1.1 200 OK\r\nX-", head(Content_Type="application/json", Content_Length="9") + b"{"],
    ids=["silence", "half a head", "half a body"],
)
@pytest.mark.parametrize("own", [False, True])
def test_a_silent_server_is_a_read_timeout(raw: bytes, own: bool) -> None:
    """Wherever the answer stops, the read timeout ends the wait: the request's, or the bridge's where it is shorter."""

    async def main() -> None:
        words = {"http_timeout": 0.1, "http_stall_timeout": 0.1} if own else {}
        async with scripted(stuck(raw)) as server:
            async with bridged(server.url, httpx2.Timeout(30.0, read=30.0 if own else 0.1), **words) as http:
                with pytest.raises(httpx2.ReadTimeout):
                    await http.get("/models")

    run(main())


def test_the_deadline_ends_a_call() -> None:
    """`http_deadline` holds over all tries."""

    async def main() -> None:
        async with scripted(stuck()) as server:
            async with bridged(server.url, http_deadline=0.1, max_retries=5) as http:
                with pytest.raises(httpx2.ReadTimeout):
                    await http.get("/models")

    run(main())


def test_places_in_flight() -> None:
    """No more calls at once than there are places; who waits longer than `pool` allows gets a PoolTimeout."""

    async def slow(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.02)
        writer.write(json_answer(CHAT))

    async def main() -> None:
        async with scripted(slow) as server, bridged(server.url, http_max_in_flight=2) as http:
            await asyncio.gather(*(http.post("/chat/completions", json={}) for _ in range(8)))
            assert server.peak == 2
        async with scripted(stuck()) as server, bridged(server.url, http_max_in_flight=1) as http:
            first = asyncio.create_task(http.get("/models"))
            await wireserver.until(lambda: server.in_flight == 1)
            with pytest.raises(httpx2.PoolTimeout):
                await http.get("/models", timeout=httpx2.Timeout(30.0, pool=0.05))
            first.cancel()
            await asyncio.wait([first])

    run(main())


def test_a_queue_timeout_of_its_own() -> None:
    """`queue_timeout` holds in place of the request's `pool`, and waiting that could never end is a PoolTimeout too."""

    async def main() -> None:
        async with scripted(stuck(STREAM_HEAD + event(chunk("a")))) as server:
            async with bridged(server.url, http_max_in_flight=1, http_other={"queue_timeout": 0.05}) as http:
                async with http.stream("POST", "/chat/completions", json={"stream": True}):
                    with pytest.raises(httpx2.PoolTimeout, match="held by tasks"):
                        await http.get("/models")
                    with pytest.raises(httpx2.PoolTimeout, match="became free"):
                        await asyncio.create_task(http.get("/models"))

    run(main())


def test_limits_are_shared_with_clients() -> None:
    """One `Limits` bounds what a `Client` and a bridge send together."""

    async def slow(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.02)
        writer.write(json_answer(CHAT))

    async def main() -> None:
        limits = Limits(max_in_flight=2)
        async with scripted(slow) as server, bridged(server.url, limits=limits) as http:
            async with Client(api_base=server.url, api_key="k", model="m", limits=limits) as client:
                ours = [client.chat("hi") for _ in range(5)]
                theirs = [http.post("/chat/completions", json={}) for _ in range(5)]
                await asyncio.gather(*ours, *theirs)
            assert (server.peak, len(server.seen)) == (2, 10)

    run(main())


@pytest.mark.parametrize("when", ["before the head", "in the stream"])
def test_cancelling_frees_socket_and_place(when: str) -> None:
    """A cancelled caller leaves no connection and no place in flight behind."""

    async def main() -> None:
        raw = b"" if when == "before the head" else STREAM_HEAD + event(chunk("a"))
        async with scripted(in_turn(stuck(raw), chat)) as server:
            async with bridged(server.url, http_max_in_flight=1) as http:
                got: list[str] = []

                async def read() -> None:
                    async with http.stream("POST", "/chat/completions", json={"stream": True}) as response:
                        async for line in response.aiter_lines():
                            got.append(line)

                task = asyncio.create_task(read())
                await wireserver.until(lambda: bool(got) if raw else server.in_flight == 1)
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled()
                await http.post("/chat/completions", json={})
                assert server.connections == 2

    run(main())


def test_an_answer_nobody_refers_to_is_let_go() -> None:
    """A stream that is dropped without being closed gives its connection and its place back."""

    async def main() -> None:
        async with scripted(in_turn(stuck(STREAM_HEAD + event(chunk("a"))), chat)) as server:
            bridge = transport(http_max_in_flight=1)
            response = await bridge.handle_async_request(httpx2.Request("GET", f"{server.url}/models"))
            del response
            gc.collect()
            got = await bridge.handle_async_request(httpx2.Request("GET", f"{server.url}/models"))
            assert got.status_code == 200
            await bridge.aclose()

    run(main())


def test_closing_ends_calls_under_way() -> None:
    """`aclose` ends a waiting call with a ReadError; a call after it is a ConnectError."""

    async def main() -> None:
        async with scripted(stuck()) as server:
            bridge = transport()
            request = httpx2.Request("GET", f"{server.url}/models")
            task = asyncio.create_task(bridge.handle_async_request(request))
            await wireserver.until(lambda: server.in_flight == 1)
            await bridge.aclose()
            with pytest.raises(httpx2.ReadError):
                await task
            with pytest.raises(httpx2.ConnectError):
                await bridge.handle_async_request(request)
            await bridge.aclose()

    run(main())


def test_several_event_loops() -> None:
    """One transport serves several event loops, one after the other."""
    bridge = transport(max_retries=0)

    async def main() -> int:
        async with scripted() as server:
            got = await bridge.handle_async_request(httpx2.Request("GET", f"{server.url}/models"))
            return int(got.status_code)

    assert [run(main()) for _ in range(3)] == [200] * 3


def test_redirects_are_left_to_the_http_client() -> None:
    """A redirect is an answer; a client that follows redirects follows it."""

    async def main() -> None:
        moved = head(307, Location="/v1/there", Content_Length="0")
        async with scripted(in_turn(moved, moved, chat)) as server, bridged(server.url, max_retries=2) as http:
            assert (await http.post("/here", json={})).status_code == 307
            got = await http.post("/here", json={"a": 1}, follow_redirects=True)
            assert (got.status_code, got.url.path) == (200, "/v1/there")
            assert server.seen[-1].json() == {"a": 1}

    run(main())


def test_codings_are_undone() -> None:
    """Gzip is undone under our caps, of JSON and other bodies, and unknown codings are DecodingErrors."""

    async def main() -> None:
        packed, sound = gzip.compress(json.dumps(CHAT).encode()), gzip.compress(b"RIFF" * 50_000)
        scripts = (
            answer(packed, Content_Encoding="gzip"),
            answer(sound, content_type="audio/wav", Content_Encoding="gzip"),
            answer(packed[:-9], Content_Encoding="gzip"),
            answer(packed, Content_Encoding="zstd"),
            answer(packed, content_type="audio/wav", Content_Encoding="zstd"),
        )
        async with scripted(in_turn(*scripts)) as server, bridged(server.url) as http:
            assert (await http.get("/a")).json() == CHAT
            assert (await http.get("/a")).content == b"RIFF" * 50_000
            for _ in range(3):
                with pytest.raises(httpx2.DecodingError):
                    await http.get("/a")

    run(main())


def test_long_bodies_come_as_they_come() -> None:
    """What is no JSON is read as the caller reads it; when it breaks off, that raises."""

    async def main() -> None:
        sound = answer(b"x" * 400_000, content_type="audio/wav")
        async with scripted(in_turn(sound, cut(sound[:-1]))) as server, bridged(server.url, max_retries=2) as http:
            assert len((await http.get("/a")).content) == 400_000
            with pytest.raises(httpx2.RemoteProtocolError):
                await http.get("/a")
            assert len(server.seen) == 2

    run(main())


def test_answers_without_a_body() -> None:
    """HEAD and 204 have none, and their connection is used again."""

    async def main() -> None:
        none = head(204)
        async with scripted(in_turn(head(Content_Length="5", Content_Type="text/plain"), none)) as server:
            async with bridged(server.url) as http:
                assert (await http.head("/a")).headers["content-length"] == "5"
                assert (await http.delete("/a")).content == b""
                assert server.connections == 1

    run(main())


def test_what_cannot_be_sent_is_refused() -> None:
    """Another scheme, a Host that is not the URL's, and fields that no head can carry are typed errors."""

    async def main() -> None:
        async with scripted() as server, bridged(server.url) as http:
            with pytest.raises(httpx2.UnsupportedProtocol):
                await http.get("ws://127.0.0.1/x")
            with pytest.raises(httpx2.LocalProtocolError):
                await http._transport.handle_async_request(httpx2.Request("GET", "http:///x"))
            with pytest.raises(httpx2.LocalProtocolError):
                await http.get("/models", headers={"Host": "elsewhere.example"})
            with pytest.raises(httpx2.LocalProtocolError) as caught:
                await http.get("/models", headers={"Authorization": "Bearer sk-\x00secret"})
            assert "secret" not in str(caught.value)
            assert server.seen == []

    run(main())


WRONG: list[tuple[dict[str, Any], type[Exception]]] = [
    ({"http_max_inflight": 1}, TypeError),
    ({"model": "m"}, TypeError),
    ({"http_timeout": 0}, ConfigurationError),
    ({"http_max_in_flight": 0}, ConfigurationError),
    ({"http_other": {"colour": 1}}, TypeError),
    ({"max_retries": -1}, ConfigurationError),
    ({"library": "requests"}, ValueError),
]


@pytest.mark.parametrize(("words", "error"), WRONG, ids=lambda value: str(value))
def test_wrong_words_are_told_at_once(words: dict[str, Any], error: type[Exception]) -> None:
    """What cannot work is an error at construction."""
    with pytest.raises(error):
        transport(**words)

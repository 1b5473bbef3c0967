"""Opening a WebSocket: where it goes, with what, through what, and every way in which a server may refuse."""

from __future__ import annotations

import asyncio
import http
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Response

import openaiasync
from conftest import run
from faults.harness import LogText
from faults.invariants import error_faults
from openaiasync import AsyncOpenAI, Client
from realtime.loopback import CREATED, KEY, Loopback, echo, loopback, say
from wireserver import Peer, Server, client_context, server_context

PASSWORD = "the-password-of-a-proxy"


async def greet(ws: ServerConnection) -> None:
    await say(ws, CREATED)
    await ws.wait_closed()


WHERE: dict[str, tuple[Callable[[AsyncOpenAI], Any], str]] = {
    "realtime": (lambda client: client.realtime.connect(model="m 1"), "/v1/realtime?model=m%201"),
    "a call": (lambda client: client.realtime.connect(call_id="c"), "/v1/realtime?call_id=c"),
    "beta.realtime": (lambda client: client.beta.realtime.connect(model="m"), "/v1/realtime?model=m"),
    "translations": (
        lambda client: client.realtime.translations.connect(model="m"),
        "/v1/realtime/translations?model=m",
    ),
    "responses": (lambda client: client.responses.connect(), "/v1/responses"),
    "beta.responses": (lambda client: client.beta.responses.connect(), "/v1/responses"),
    "live": (lambda client: client.live.connect(), "/v1/live/sessions"),
    "live.forks": (lambda client: client.live.forks.connect(session_id="s/1"), "/v1/live/sessions/s%2F1/fork"),
    "live.sideband": (
        lambda client: client.live.sideband.connect(session_id="s", graceful_close=True),
        "/v1/live/sessions/s/attach?graceful_close=true",
    ),
}


class TestWhere:
    """URL and header fields."""

    @pytest.mark.parametrize("kind", list(WHERE))
    def test_every_kind_has_its_path(self, kind: str) -> None:
        """Path, query and key are those of the official client."""
        connect, path = WHERE[kind]

        async def main() -> None:
            async with loopback(greet) as server, server.client(project="p") as client:
                async with connect(client) as connection:
                    assert connection.parse_event(json.dumps(CREATED)).type == "session.created"
                assert server.path == path
                assert server.field("Authorization") == f"Bearer {KEY}"
                assert server.field("OpenAI-Project") == "p"
                assert server.field("OpenAI-Beta") == ("realtime=v1" if kind == "beta.realtime" else None)

        run(main())

    def test_what_the_caller_adds(self) -> None:
        """`extra_query` and `extra_headers` win over the client's defaults and the method's own; `omit` takes away."""

        async def main() -> None:
            async with loopback(greet) as server:
                headers = {"X-Team": "a", "X-Other": "b"}
                async with server.client(default_query={"v": 1, "w": 2}, default_headers=headers) as client:
                    extra: Any = {"X-Team": "c", "User-Agent": "mine", "X-Other": openaiasync.omit}
                    options: Any = {"extra_query": {"w": 3, "model": "n"}, "extra_headers": extra}
                    async with client.realtime.connect(model="m", **options):
                        pass
            assert server.path == "/v1/realtime?v=1&model=n&w=3"
            assert (server.field("X-Team"), server.field("X-Other")) == ("c", None)
            assert server.requests[0].headers.get_all("User-Agent") == ["mine"]

        run(main())

    @pytest.mark.parametrize("scheme", ["ws", "http"])
    def test_a_base_of_its_own(self, scheme: str) -> None:
        """`websocket_base_url` is where WebSockets go; it is checked when the client is made."""

        async def main() -> None:
            async with loopback(greet) as server:
                base = f"{scheme}://127.0.0.1:{server.port}/sockets?x=1"
                other = AsyncOpenAI(api_key=KEY, base_url="http://127.0.0.1:1/v1", websocket_base_url=base)
                async with other, other.with_options(default_query={"v": 2}).realtime.connect(model="m"):
                    pass
            assert server.path == "/sockets/realtime?x=1&v=2&model=m"

        run(main())
        with pytest.raises(openaiasync.ConfigurationError, match="absolute http"):
            AsyncOpenAI(api_key="k", websocket_base_url="ftp://host")

    def test_words_that_do_not_exist(self) -> None:
        """A misspelt option is a `TypeError` that names the nearest, before anything is connected."""
        client = AsyncOpenAI(api_key="k", base_url="http://127.0.0.1:1")
        wrong: Any = {"max_retry": 2}
        with pytest.raises(TypeError, match="no parameter 'max_retry'; did you mean 'max_retries'"):
            client.realtime.connect(model="m", **wrong)
        with pytest.raises(TypeError, match="no 'maxsize'; did you mean 'max_size'"):
            client.responses.connect(websocket_connection_options={"maxsize": 1})  # type: ignore[typeddict-unknown-key]
        with pytest.raises(openaiasync.ConfigurationError, match="deflate"):
            client.responses.connect(websocket_connection_options={"compression": "zip"})
        with pytest.raises(ValueError, match="session_id"):
            client.live.forks.connect(session_id="..")

    def test_the_library_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where `websockets` is not installed, entering says what to install."""
        for name in ("websockets.asyncio.client", "websockets.client"):
            monkeypatch.setitem(sys.modules, name, None)

        async def main() -> None:
            async with Client(api_base="http://127.0.0.1:1", api_key="k") as client:
                with pytest.raises(openaiasync.ConfigurationError, match=r"pip install .*\[realtime\]"):
                    await client.realtime.connect(model="m").enter()

        run(main())


def refusing(status: int, body: bytes = b"", **fields: str) -> Callable[[ServerConnection, Any], Response]:
    names = {"Content-Type": "application/json", "Content-Length": str(len(body)), **fields}

    def answer(ws: ServerConnection, request: Any) -> Response:
        headers = Headers({name.replace("_", "-"): value for name, value in names.items()})
        return Response(status, http.HTTPStatus(status).phrase, headers, body)

    return answer


class TestRefused:
    """The server answers the upgrade with something else."""

    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (400, openaiasync.BadRequestError),
            (401, openaiasync.AuthenticationError),
            (403, openaiasync.PermissionDeniedError),
            (404, openaiasync.NotFoundError),
            (429, openaiasync.RateLimitError),
            (503, openaiasync.InternalServerError),
            (200, openaiasync.APIStatusError),
        ],
    )
    def test_a_status_is_the_error_it_always_is(self, status: int, kind: type[openaiasync.APIStatusError]) -> None:
        """Class, message, code and request id as for any call; nothing stays open."""
        body = json.dumps({"error": {"message": f"not with {KEY}", "code": "nope"}}).encode()

        async def main() -> None:
            refuse = refusing(status, body, X_Request_Id="r-1")
            async with loopback(greet, process_request=refuse) as server, server.client() as client:
                with pytest.raises(openaiasync.APIStatusError) as caught:
                    await client.realtime.connect(model="m").enter()
            error = caught.value
            assert type(error) is kind
            assert (error.status_code, error.code, error.request_id) == (status, "nope", "r-1")
            assert "not with [key]" in str(error)
            assert str(error).startswith(f"{status} from GET ws://127.0.0.1")
            assert error.meta is not None
            assert error.meta.headers["x-request-id"] == "r-1"
            assert not error_faults(error, OSError, KEY)

        run(main())

    def test_redirects(self) -> None:
        """Within the origin they are followed, by path or by URL; the key goes to no other; too many are refused."""
        seen: list[str] = []

        async def main() -> None:
            async with loopback(greet) as other:

                def lead(ws: ServerConnection, request: Any) -> Response | None:
                    seen.append(request.path)
                    where = {
                        "/v1/realtime": "/v1/here",
                        "/v1/here": f"ws{server.url[4:]}/it%20is",
                        "/v1/responses": f"{other.url}/stolen",
                        "/v1/live/sessions": "#",
                    }
                    led = where.get(request.path.partition("?")[0])
                    return None if led is None else refusing(307, Location=led)(ws, request)

                async with loopback(greet, process_request=lead) as server, server.client() as client:
                    async with client.realtime.connect(model="m") as connection:
                        assert (await connection.recv()).type == "session.created"
                    with pytest.raises(openaiasync.APIStatusError, match="307") as caught:
                        await client.responses.connect().enter()
                    assert not error_faults(caught.value, OSError, KEY)
                    few = client.with_options(http_max_redirects=2)
                    with pytest.raises(openaiasync.APIStatusError, match="307"):
                        await few.live.connect().enter()
                assert other.requests == []
            assert seen == [
                "/v1/realtime?model=m",
                "/v1/here",
                "/v1/it%20is",
                "/v1/responses",
                *["/v1/live/sessions"] * 3,
            ]

        run(main())


ACCEPTS = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
LIES = {
    "closed at once": (b"", "network", "closed the connection before"),
    "half a head": (ACCEPTS, "network", "closed the connection before"),
    "no HTTP": (b"\x00\x01\x02 nothing of the kind\r\n\r\n", "server", "not a WebSocket handshake"),
    "wrong accept": (ACCEPTS + b"Sec-WebSocket-Accept: AAAA\r\n\r\n", "server", "not a WebSocket handshake"),
    "no accept": (ACCEPTS + b"\r\n", "server", "not a WebSocket handshake"),
    "another protocol": (b"HTTP/1.1 101 X\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", "server", "not a WebSocket"),
    "an endless head": (b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 9000 + b"\r\n" * 2, "server", "not a WebSocket"),
}


class TestLying:
    """Servers that speak something else, half of it, or nothing."""

    @pytest.mark.parametrize("lie", list(LIES))
    def test_no_handshake(self, lie: str) -> None:
        """Each is a connection error that says who is at fault; no socket is left."""
        raw, side, text = LIES[lie]

        async def script(peer: Peer) -> None:
            await peer.head()
            await peer.send(raw)

        async def main() -> None:
            async with Server(script) as server:
                base = f"http://127.0.0.1:{server.port}/v1"
                async with AsyncOpenAI(api_key=KEY, base_url=base) as client:
                    with pytest.raises(openaiasync.APIConnectionError, match=text) as caught:
                        await client.realtime.connect(model="m").enter()
                    assert (caught.value.side, type(caught.value)) == (side, openaiasync.APIConnectionError)
                    assert not error_faults(caught.value, OSError, KEY)
                await server.settled()

        run(main())

    def test_nobody_there(self) -> None:
        """A port on which nothing listens."""

        async def main() -> None:
            async with AsyncOpenAI(api_key=KEY, base_url="http://127.0.0.1:1/v1") as client:
                with pytest.raises(openaiasync.APIConnectionError, match="could not connect") as caught:
                    await client.realtime.connect(model="m").enter()
                assert not error_faults(caught.value, OSError, KEY)

        run(main())

    @pytest.mark.parametrize(
        ("options", "websocket", "clock"),
        [
            ({"http_timeout": 0.1}, {}, "start"),
            ({"http_deadline": 0.1}, {}, "deadline"),
            ({}, {"open_timeout": 0.1}, "connect"),
        ],
    )
    def test_a_silent_server(self, options: dict[str, Any], websocket: Any, clock: str) -> None:
        """It takes the request and never answers: the start clock, the deadline or `open_timeout` ends that."""

        async def script(peer: Peer) -> None:
            await peer.head()
            await peer.gone()

        async def main() -> None:
            async with Server(script) as server:
                async with Client(api_base=f"http://127.0.0.1:{server.port}", api_key=KEY, **options) as client:
                    with pytest.raises(openaiasync.APITimeoutError, match=r"0\.1 s") as caught:
                        await client.realtime.connect(model="m", websocket_connection_options=websocket).enter()
                    assert caught.value.clock == clock
                    assert not error_faults(caught.value, OSError, KEY)
                await server.settled()

        run(main())

    def test_one_timeout_for_all_redirects(self) -> None:
        """`open_timeout` is for the whole opening: a server that redirects for ever, each time within it, is left."""

        async def script(peer: Peer) -> None:
            while True:
                await peer.head()
                await asyncio.sleep(0.05)
                await peer.send(b"HTTP/1.1 307 X\r\nLocation: #\r\nContent-Length: 0\r\n\r\n")

        async def main() -> None:
            async with Server(script) as server:
                base = f"http://127.0.0.1:{server.port}"
                async with Client(api_base=base, api_key=KEY, http_max_redirects=1000) as client:
                    opening = client.realtime.connect(model="m", websocket_connection_options={"open_timeout": 0.12})
                    with pytest.raises(openaiasync.APITimeoutError, match=r"no WebSocket open within 0\.12 s") as late:
                        await opening.enter()
                    assert late.value.clock == "connect"
                await server.settled()

        run(main())

    def test_silent_before_tls(self) -> None:
        """A server that never begins TLS is ended by the connect clock."""

        async def main() -> None:
            async with Server(lambda peer: peer.gone()) as server:
                base = f"https://127.0.0.1:{server.port}"
                async with Client(api_base=base, api_key=KEY, http_connect_timeout=0.1) as client:
                    with pytest.raises(openaiasync.APITimeoutError) as caught:
                        await client.responses.connect().enter()
                    assert caught.value.clock == "connect"
                await server.settled()

        run(main())

    @pytest.mark.parametrize("how", ["cancel", "aclose"])
    def test_left_while_it_opens(self, how: str) -> None:
        """A cancelled caller, or a client that is closed, ends the opening at once and leaves nothing."""
        asked = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.head()
            asked.set()
            await peer.gone()

        async def main() -> None:
            async with Server(script) as server:
                client = AsyncOpenAI(api_key=KEY, base_url=f"http://127.0.0.1:{server.port}/v1")
                opening = asyncio.create_task(client.realtime.connect(model="m").enter())
                await asked.wait()
                if how == "cancel":
                    opening.cancel()
                    with pytest.raises(asyncio.CancelledError) as caught:
                        await opening
                    assert not error_faults(caught.value, asyncio.CancelledError, KEY)
                await client.aclose()
                if how == "aclose":
                    with pytest.raises(openaiasync.ClientClosedError):
                        await opening
                await server.settled()
                with pytest.raises(openaiasync.ClientClosedError):
                    await client.realtime.connect(model="m").enter()

        run(main())


async def pipe(peer: Peer, port: int) -> str:
    """Answer CONNECT and pass everything on; the fields of the CONNECT."""
    request = await peer.head()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
        sink.close()

    await asyncio.gather(pump(peer.reader, writer), pump(reader, peer.writer), return_exceptions=True)
    return f"{request.line} {request.fields}"


class TestOnTheWay:
    """TLS, proxies and Unix sockets are those of all calls."""

    @pytest.mark.parametrize("tls", [False, True])
    def test_a_proxy_tunnels(self, tls: bool) -> None:
        """Through CONNECT, with the proxy's password, whether the server speaks TLS or not (RFC 6455, 4.1)."""
        connects: list[str] = []

        async def main() -> None:
            async with loopback(echo, ssl=server_context() if tls else None) as server:

                async def script(peer: Peer) -> None:
                    connects.append(await pipe(peer, server.port))

                async with Server(script) as proxy:
                    other = {"proxy": f"http://user:{PASSWORD}@127.0.0.1:{proxy.port}", "ssl": client_context()}
                    base = f"{'https' if tls else 'http'}://127.0.0.1:{server.port}/v1"
                    async with AsyncOpenAI(api_key=KEY, base_url=base, http_other=other) as client:
                        async with client.realtime.connect(model="m") as connection:
                            await connection.send({"type": "ping"})
                            assert (await connection.recv()).type == "echo"
                    await proxy.settled()
            assert connects[0].startswith(f"CONNECT 127.0.0.1:{server.port} HTTP/1.1")
            assert "Proxy-Authorization" in connects[0]
            assert KEY not in connects[0]

        run(main())

    def test_certificates_are_checked(self) -> None:
        """A server that nobody vouches for is a connection error; `ssl` in `http_other` says otherwise."""

        async def main() -> None:
            async with loopback(greet, ssl=server_context()) as server:
                base = f"https://127.0.0.1:{server.port}/v1"
                async with AsyncOpenAI(api_key=KEY, base_url=base) as client:
                    with pytest.raises(openaiasync.APIConnectionError, match="certificate"):
                        await client.realtime.connect(model="m").enter()
                async with AsyncOpenAI(api_key=KEY, base_url=base, http_other={"ssl": False}) as client:
                    async with client.realtime.connect(model="m") as connection:
                        assert (await connection.recv()).type == "session.created"

        run(main())


def test_a_key_is_shown_nowhere() -> None:
    """Not the log at DEBUG, a repr or what the library underneath keeps, of a connection that works."""

    async def main() -> Loopback:
        async with loopback(greet) as server, server.client() as client:
            manager = client.realtime.connect(model="m", extra_headers={"X-Secret": PASSWORD})
            async with manager as connection:
                await connection.recv()
                texts = [repr(manager), repr(connection), repr(vars(connection)), repr(vars(connection._socket._ws))]
                assert not [text for text in texts if KEY in text or PASSWORD in text]
            return server

    with LogText() as log:
        server = run(main())
    assert server.field("X-Secret") == PASSWORD
    assert any("GET ws://127.0.0.1" in line and "101 in" in line for line in log.lines)
    assert not [line for line in log.lines if KEY in line or PASSWORD in line]

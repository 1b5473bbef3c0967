"""How connections come about: DNS, refusals, TLS, tunnels and Unix sockets, each failure classed by its cause."""

from __future__ import annotations

import asyncio
import base64
import select
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from conftest import run
from openaiasync.transport import connect
from openaiasync.transport.base import (
    AttemptTimeouts,
    Credentials,
    Origin,
    TransportError,
)
from openaiasync.transport.connect import TcpSettings
from openaiasync.transport.tcp import TcpTransport
from wireserver import (
    AUTHORITY,
    CHUNKED,
    CLOCKS,
    HELLO,
    Peer,
    Server,
    client_context,
    outgoing,
    server_context,
    until,
)

SECRET = "sesame-open"
PROXY_FIELD = f"Basic {base64.b64encode(f'user:{SECRET}'.encode()).decode()}"


@asynccontextmanager
async def client(**settings: Any) -> AsyncIterator[TcpTransport]:
    transport = TcpTransport(TcpSettings(**settings))
    try:
        yield transport
    finally:
        await transport.aclose()


async def call(transport: TcpTransport, origin: Origin, clocks: AttemptTimeouts = CLOCKS, **options: Any) -> bytes:
    answer = await transport.send(outgoing(origin, **options), clocks)
    return await answer.read(1 << 20)


async def failure(
    transport: TcpTransport, origin: Origin, clocks: AttemptTimeouts = CLOCKS, **options: Any
) -> TransportError:
    with pytest.raises(TransportError) as caught:
        await call(transport, origin, clocks, **options)
    return caught.value


# --- names and addresses ---


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 64 + ".example", "bad host", "a..b"])
def test_a_name_that_cannot_be_resolved_is_a_dns_error(host: str) -> None:
    """Unknown names and names that no DNS can hold."""

    async def main() -> None:
        async with client() as transport:
            fields = outgoing(Origin("http", host, 80))
            fields.prebuilt = b"POST /x HTTP/1.1\r\nHost: x\r\n"
            with pytest.raises(TransportError) as caught:
                await transport.send(fields, CLOCKS)
            assert (caught.value.kind, caught.value.sent) == ("dns", False)

    run(main())


def test_a_refused_connection_says_why() -> None:
    """It is not a timeout, and nothing was sent."""

    async def main() -> None:
        async with Server() as server:
            origin = server.origin
        async with client() as transport:
            error = await failure(transport, origin)
            assert (error.kind, error.sent, error.clock) == ("refused", False, None)
            assert "refused" in error.message.lower()

    run(main())


def resolver(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    """Make every name have these addresses."""

    async def getaddrinfo(self: Any, host: str, port: int, **_: Any) -> list[Any]:
        found = []
        for address, real in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            found.append((family, socket.SOCK_STREAM, 6, "", (address, real, 0, 0)[: 4 if ":" in address else 2]))
        return found

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize("count", [1, 3])
def test_a_dead_address_is_passed_over(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """One that refuses costs no waiting, whatever its family."""

    async def main() -> None:
        async with Server() as server, client(happy_eyeballs_delay=20.0) as transport:
            dead = socket.socket()
            dead.bind(("127.0.0.1", 0))
            resolver(monkeypatch, *[("127.0.0.1", dead.getsockname()[1])] * count, ("127.0.0.1", server.port))
            assert await call(transport, Origin("http", "some.name", 80)) == b"hello"
            dead.close()

    run(main(), timeout=10)


def test_a_silent_address_is_overtaken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Happy eyeballs: the next address is tried beside one that does not answer, whose socket is closed then."""

    async def main() -> None:
        with socket.socket() as full:
            fillers = fill(full)
            async with Server() as server, client(happy_eyeballs_delay=0.05) as transport:
                resolver(monkeypatch, ("127.0.0.1", full.getsockname()[1]), ("127.0.0.1", server.port))
                assert await call(transport, Origin("http", "some.name", 80)) == b"hello"
            for filler in fillers:
                filler.close()

    run(main(), timeout=10)


def fill(listener: socket.socket) -> list[socket.socket]:
    """Listen so that further connection attempts get no answer."""
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    fillers = []
    for _ in range(3):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
        fillers.append(filler)
    select.select([], fillers[:1], [], 1.0)
    return fillers


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("end", ["connect", "until", "cancel", "closed"])
def test_a_silent_address_ends_by_clock_cancellation_and_close(
    monkeypatch: pytest.MonkeyPatch, count: int, end: str
) -> None:
    """Connecting is limited by its clock and by the try's end, and leaves neither socket nor task."""

    async def main() -> None:
        with socket.socket() as full:
            fillers = fill(full)
            resolver(monkeypatch, *[("127.0.0.1", full.getsockname()[1])] * count)
            loop = asyncio.get_running_loop()
            clocks = AttemptTimeouts(0.1 if end == "connect" else 20, 20, loop.time() + 0.1 if end == "until" else None)
            async with client(happy_eyeballs_delay=0.02) as transport:
                task = asyncio.create_task(call(transport, Origin("http", "some.name", 80), clocks))
                await asyncio.sleep(0.06)
                if end == "cancel":
                    task.cancel()
                elif end == "closed":
                    await transport.aclose()
                (result,) = await asyncio.gather(task, return_exceptions=True)
                if end == "cancel":
                    assert isinstance(result, asyncio.CancelledError)
                else:
                    assert isinstance(result, TransportError)
                    expected = ("closed", None) if end == "closed" else ("timeout", end)
                    assert (result.kind, result.clock) == expected
                assert asyncio.all_tasks() == {asyncio.current_task()}
            for filler in fillers:
                filler.close()

    run(main(), timeout=10)


@pytest.mark.parametrize("end", ["connect", "cancel", "closed"])
def test_slow_dns_ends_by_clock_cancellation_and_close(monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """A resolver that does not answer is under the connect clock too."""

    async def getaddrinfo(self: Any, *_: Any, **__: Any) -> Any:
        await asyncio.sleep(60)

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)

    async def main() -> None:
        async with client() as transport:
            clocks = AttemptTimeouts(0.05 if end == "connect" else None, None, None)
            task = asyncio.create_task(call(transport, Origin("http", "some.name", 80), clocks))
            await asyncio.sleep(0.02)
            if end == "cancel":
                task.cancel()
            elif end == "closed":
                await transport.aclose()
            (result,) = await asyncio.gather(task, return_exceptions=True)
            if end == "cancel":
                assert isinstance(result, asyncio.CancelledError)
            else:
                assert isinstance(result, TransportError)
                assert result.kind == ("timeout" if end == "connect" else "closed")

    run(main(), timeout=10)


def test_the_local_address_can_be_chosen() -> None:
    """The server sees the connection come from it."""

    async def main() -> None:
        async with Server() as server, client(local_addr=("127.0.0.7", 0)) as transport:
            assert await call(transport, server.origin) == b"hello"
            assert server.peers[0].writer.get_extra_info("peername")[0] == "127.0.0.7"

    run(main())


def test_a_unix_socket_stands_for_every_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`uds` connects to the path, past proxies; Host stays the origin's; a missing one is refused."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    path = str(tmp_path / "s")
    hosts: list[str | None] = []

    async def script(peer: Peer) -> None:
        while True:
            hosts.append((await peer.request()).field("host"))
            await peer.send(HELLO)

    async def main() -> None:
        async with Server(script, uds=path) as server, client(uds=path) as transport:
            assert await call(transport, Origin("http", "api.example", 80)) == b"hello"
            assert await call(transport, Origin("http", "api.example", 80)) == b"hello"
            assert len(server.peers) == 1
        async with client(uds=str(tmp_path / "none")) as transport:
            assert (await failure(transport, Origin("http", "api.example", 80))).kind == "refused"

    run(main())
    assert hosts == ["api.example"] * 2


# --- TLS ---


def test_tls_carries_requests_and_connections_are_kept() -> None:
    """Over TLS 1.3 too, where session tickets come after the handshake; ALPN is the context's business."""

    async def main() -> None:
        async with Server(tls=server_context()) as server, client(ssl=client_context()) as transport:
            for _ in range(5):
                assert await call(transport, server.origin) == b"hello"
            assert len(server.peers) == 1
            assert server.peers[0].writer.get_extra_info("ssl_object").version() == "TLSv1.3"
            assert await call(transport, server.origin, body=bytes(3_000_000)) == b"hello"
            await asyncio.gather(*[call(transport, server.origin) for _ in range(20)])

    run(main())


def test_certificates_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """SSL_CERT_FILE and SSL_CERT_DIR say whom to trust; without them a strange authority is not."""

    async def attempt(**settings: Any) -> bytes | TransportError:
        async with Server(tls=server_context()) as server, client(**settings) as transport:
            try:
                return await call(transport, server.origin)
            except TransportError as error:
                return error

    stranger = run(attempt())
    assert isinstance(stranger, TransportError)
    assert stranger.kind == "tls"
    assert "certificate" in stranger.message
    bundle = tmp_path / "bundle.pem"
    AUTHORITY.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    assert run(attempt()) == b"hello"
    other = ssl.create_default_context(cafile=stranger_to_all(tmp_path))
    assert isinstance(run(attempt(ssl=other)), TransportError), "the argument wins"
    monkeypatch.delenv("SSL_CERT_FILE")
    assert isinstance(run(attempt()), TransportError)
    assert run(attempt(ssl=False)) == b"hello"


def stranger_to_all(tmp_path: Path) -> str:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    return str(other)


def test_a_directory_of_certificates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """SSL_CERT_DIR, whose files are named by hash."""
    import subprocess

    pem = tmp_path / "ca.pem"
    AUTHORITY.cert_pem.write_to_path(str(pem))
    made = subprocess.run(
        ["openssl", "x509", "-hash", "-noout", "-in", str(pem)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip("openssl's command is not here")
    pem.rename(tmp_path / f"{made.stdout.strip()}.0")
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))

    async def main() -> None:
        async with Server(tls=server_context()) as server, client() as transport:
            assert await call(transport, server.origin) == b"hello"

    run(main())


def test_the_default_context_asks_for_http_1_1() -> None:
    """ALPN names HTTP/1.1, so that a server which prefers HTTP/2 does not speak it."""
    context = server_context()
    context.set_alpn_protocols(["h2", "http/1.1"])

    async def main() -> None:
        async with Server(tls=context) as server, client(ssl=False) as transport:
            assert await call(transport, server.origin) == b"hello"
            assert server.peers[0].writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"

    run(main())


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_tls_failures_are_told_apart() -> None:
    """A wrong name, a server without TLS, and one that closes during the handshake."""

    async def plain(peer: Peer) -> None:
        await peer.reader.read(10)
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def closes(peer: Peer) -> None:
        await peer.reader.read(10)

    async def resets(peer: Peer) -> None:
        await peer.reader.read(10)
        peer.reset()

    async def main() -> None:
        async with Server(tls=server_context("other.example")) as server, client(ssl=client_context()) as transport:
            error = await failure(transport, server.origin)
            assert (error.kind, error.sent) == ("tls", False)
            assert "certificate" in error.message
            await server.settled(0)
        for script, kinds in ((plain, {"tls"}), (closes, {"tls", "eof", "reset"}), (resets, {"reset"})):
            async with Server(script) as server, client(ssl=client_context()) as transport:
                error = await failure(transport, server.origin._replace(scheme="https"))
                assert error.kind in kinds
                assert not error.sent
                await server.settled(0)

    run(main())


@pytest.mark.parametrize("end", ["connect", "cancel", "closed"])
def test_a_tls_handshake_that_stalls_leaves_no_socket(end: str) -> None:
    """It is under the connect clock; cancelled or closed, the socket is gone at once."""

    async def script(peer: Peer) -> None:
        await peer.gone()

    async def main() -> None:
        async with Server(script) as server, client(ssl=client_context()) as transport:
            origin = server.origin._replace(scheme="https")
            task = asyncio.create_task(
                call(transport, origin, AttemptTimeouts(0.1 if end == "connect" else 20, 5, None))
            )
            await until(lambda: server.open == 1)
            await asyncio.sleep(0.03)
            if end == "cancel":
                task.cancel()
            elif end == "closed":
                await transport.aclose()
            (result,) = await asyncio.gather(task, return_exceptions=True)
            if end == "cancel":
                assert isinstance(result, asyncio.CancelledError)
            else:
                assert isinstance(result, TransportError)
                assert (result.kind, result.clock) == (("timeout", "connect") if end == "connect" else ("closed", None))
            await server.settled(0, timeout=2)

    run(main())


def test_a_frozen_tls_peer_holds_no_socket() -> None:
    """A peer that no longer takes part in TLS does not keep a dropped connection waiting for its good-bye."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED)
        peer.writer.transport.pause_reading()
        poll = select.poll()
        poll.register(peer.writer.get_extra_info("socket").fileno(), select.POLLRDHUP)
        await until(lambda: bool(poll.poll(0)))

    async def main() -> None:
        async with Server(script, tls=server_context()) as server, client(ssl=client_context()) as transport:
            answer = await transport.send(outgoing(server.origin), CLOCKS)
            answer.abort()
            await server.settled(0, timeout=2)

    run(main())


def test_a_body_until_close_over_tls_needs_the_close_to_be_genuine() -> None:
    """RFC 9112, 9.8: without TLS's closure alert, a body that lasts until close may have been cut by anybody."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nhalf of it")
        if peer.number == 0:
            peer.writer.transport.abort()

    async def main() -> None:
        async with Server(script, tls=server_context()) as server, client(ssl=client_context()) as transport:
            assert (await failure(transport, server.origin)).kind in ("eof", "reset")
            assert await call(transport, server.origin) == b"half of it"

    run(main())


# --- proxies ---


def proxy(seen: list[Any], refuse: bytes | None = None, junk: bytes = b"") -> Any:
    """A proxy: tunnels for CONNECT, ``hello`` for everything else."""

    async def script(peer: Peer) -> None:
        request = await peer.request()
        seen.append(request)
        if not request.line.startswith("CONNECT"):
            await peer.send(HELLO)
            await script(peer)
        if refuse is not None:
            await peer.send(refuse)
            await peer.gone()
            return
        host, _, port = request.line.split()[1].rpartition(":")
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        await peer.send(b"HTTP/1.0 200 Connection established\r\nX-Proxy: y\r\n\r\n" + junk)

        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65_536):
                target.write(data)
            target.close()

        try:
            await asyncio.gather(pump(peer.reader, writer), pump(reader, peer.writer))
        finally:
            writer.transport.abort()

    return script


def test_http_goes_through_a_proxy_in_absolute_form() -> None:
    """Whole URL in the request line, Proxy-Authorization with it, and the connection is kept."""
    seen: list[Any] = []

    async def main() -> None:
        async with Server(proxy(seen)) as server:
            async with client(proxy=f"http://user:{SECRET}@127.0.0.1:{server.port}") as transport:
                origin = Origin("http", "api.example", 8000)
                key = Credentials([("Authorization", "Bearer k")])
                assert await call(transport, origin, target="/v1/x?y=z", credentials=key) == b"hello"
                assert await call(transport, Origin("http", "api.example", 80), method="GET", body=b"") == b"hello"
            await server.settled(0)

    run(main())
    assert [request.line for request in seen] == [
        "POST http://api.example:8000/v1/x?y=z HTTP/1.1",
        "GET http://api.example/x HTTP/1.1",
    ]
    assert seen[0].field("host") == "api.example:8000"
    assert seen[0].field("proxy-authorization") == PROXY_FIELD
    assert seen[0].field("authorization") == "Bearer k"


def test_https_goes_through_a_tunnel() -> None:
    """CONNECT with the proxy's credentials, then TLS with the server; the proxy never sees the request."""
    seen: list[Any] = []
    got: list[Any] = []

    async def script(peer: Peer) -> None:
        while True:
            got.append(await peer.request())
            await peer.send(HELLO)

    async def main() -> None:
        async with Server(proxy(seen)) as middle, Server(script, tls=server_context()) as server:
            url = f"user:{SECRET}@127.0.0.1:{middle.port}"
            async with client(proxy=url, ssl=client_context()) as transport:
                key = Credentials([("Authorization", "Bearer k")])
                for _ in range(3):
                    assert await call(transport, server.origin, credentials=key) == b"hello"
                assert len(middle.peers) == len(server.peers) == 1
            await middle.settled(0)
            await server.settled(0)
            (request,) = seen
            assert request.line == f"CONNECT 127.0.0.1:{server.port} HTTP/1.1"
        assert request.field("proxy-authorization") == PROXY_FIELD
        assert request.field("authorization") is None
        assert [r.field("proxy-authorization") for r in got] == [None] * 3
        assert [r.line for r in got] == ["POST /x HTTP/1.1"] * 3

    run(main())


@pytest.mark.parametrize(
    ("refuse", "junk", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 3\r\n\r\nno!", b"", "407"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", b"", "502"),
        (b"SMTP\r\n", b"", "CONNECT"),
        (None, b"junk", "CONNECT"),
    ],
)
def test_a_proxy_that_refuses_is_a_proxy_error(refuse: bytes | None, junk: bytes, words: str) -> None:
    """Its status is told, its password is not, and bytes before TLS are no answer."""

    async def main() -> TransportError:
        async with Server(proxy([], refuse, junk)) as middle, Server() as server:
            async with client(proxy=f"http://user:{SECRET}@127.0.0.1:{middle.port}") as transport:
                error = await failure(transport, server.origin._replace(scheme="https"))
            await middle.settled(0)
            return error

    error = run(main())
    assert (error.kind, error.sent) == ("proxy", False)
    assert words in error.message
    assert SECRET not in repr(error) + str(error)


def test_a_proxy_that_stalls_is_under_the_connect_clock() -> None:
    """CONNECT without an answer ends, and leaves no socket."""

    async def main() -> None:
        async with Server(Peer.gone) as middle, client(proxy=f"http://127.0.0.1:{middle.port}") as transport:
            error = await failure(transport, Origin("https", "api.example", 443), AttemptTimeouts(0.1, 5, None))
            assert (error.kind, error.clock) == ("timeout", "connect")
            await middle.settled(0)

    run(main())


def test_proxies_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY is used unless NO_PROXY or `trust_env=False` says otherwise; one that cannot be used is an error."""
    seen: list[Any] = []

    async def main() -> None:
        async with Server(proxy(seen)) as middle, Server() as server:
            monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{middle.port}")
            for number, settings in enumerate(({}, {"trust_env": False})):
                async with client(**settings) as transport:
                    await call(transport, server.origin)
                assert (len(middle.peers), len(server.peers)) == (1, number)
            monkeypatch.setenv("NO_PROXY", "127.0.0.0/8")
            async with client() as transport:
                await call(transport, server.origin)
            assert (len(middle.peers), len(server.peers)) == (1, 2)
            monkeypatch.delenv("NO_PROXY")
            monkeypatch.setenv("HTTP_PROXY", f"socks5://user:{SECRET}@127.0.0.1:1")
            async with client() as transport:
                error = await failure(transport, server.origin)
            assert error.kind == "proxy"
            assert "HTTP_PROXY" in error.message
            assert "socks5" in error.message
            assert SECRET not in error.message

    run(main())


def test_settings_hide_the_proxys_password() -> None:
    """Neither their repr nor the error for a bad URL shows it; a bad one is an error at construction."""
    assert SECRET not in repr(TcpSettings(proxy=f"http://user:{SECRET}@h"))
    with pytest.raises(ValueError, match="only http:// proxies") as caught:
        TcpTransport(TcpSettings(proxy=f"socks5://user:{SECRET}@h"))
    assert SECRET not in str(caught.value)


def test_only_loops_that_read_in_one_step_share_a_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows' proactor loop, and on loops nobody has looked at, each connection has a buffer of its own."""

    class Proactor(asyncio.AbstractEventLoop):
        pass

    async def main() -> None:
        assert connect._reads_at_once(asyncio.get_running_loop())
        assert not connect._reads_at_once(Proactor())
        monkeypatch.setattr(connect, "_reads_at_once", lambda loop: False)
        async with Server() as server, client() as transport:
            got = await asyncio.gather(*[call(transport, server.origin) for _ in range(3)])
            assert got == [b"hello"] * 3
            pool: Any = transport._pool
            assert len({id(connection._view) for connection in pool._connections}) == 3

    run(main())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_address_needs_no_resolver(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop's resolver runs in the default thread pool, which may be full of work that never ends."""

    async def refuse(self: Any, *_: Any, **__: Any) -> Any:
        raise AssertionError("the resolver was asked")

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", refuse)

    async def main() -> None:
        async with client() as transport:
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as unused:
                unused.bind((host, 0))
                error = await failure(transport, Origin("http", host, unused.getsockname()[1]))
            assert error.kind == "refused"

    run(main())


@pytest.mark.parametrize("host", ["localhost", "node7", "a.b.c.d3", "1.2.3.4.5"])
def test_names_are_resolved(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that look like an address at their end."""
    asked: list[str] = []

    async def found(self: Any, host: str, port: int, **_: Any) -> Any:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", found)

    async def main() -> None:
        async with client() as transport:
            assert (await failure(transport, Origin("http", host, 80))).kind == "dns"

    run(main())
    assert asked == [host]


def test_a_certificate_with_nothing_but_a_cn_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names count in subjectAltName alone (RFC 9525), and the error says so."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    until = now + datetime.timedelta(days=30)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, until)
    certificate = builder.add_extension(x509.BasicConstraints(True, None), True).sign(key, hashes.SHA256())
    pem, secret = tmp_path / "cn.pem", tmp_path / "cn.key"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    secret.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(pem, secret)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))

    async def main() -> None:
        async with Server(tls=tls) as server, client() as transport:
            with pytest.raises(TransportError, match="only its subjectAltName counts") as caught:
                await call(transport, Origin("https", "localhost", server.port))
            assert caught.value.kind == "tls"

    run(main())

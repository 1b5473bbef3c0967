"""Record and replay for any client: a server that forwards requests to the real one, or answers from a cassette."""

from __future__ import annotations

import os
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from urllib.parse import urlsplit

import msgspec

from ..core.policy.retry import is_lost_idle
from ..storage.disk import StrPath
from ..transport.base import (
    AttemptTimeouts,
    Credentials,
    Origin,
    Transport,
    TransportError,
    TransportRequest,
    TransportResponse,
)
from ..transport.canonical import VOLATILE, Normalize
from ..transport.cassette import Cassette, RecordMode
from ..transport.recording import RecordingTransport
from ..transport.scrubber import secret_fields
from .server import LoopbackServer, ReceivedRequest
from .wire import Peer

__all__ = ["RecordingServer", "environment", "recording", "variables_for"]

DEFAULT_UPSTREAM = "https://api.openai.com/v1"
PLACEHOLDER_KEY = "sk-test"  # for clients that require a key
_TIMEOUTS = AttemptTimeouts(connect=10.0, start=None, until=None)  # the client has its own
_PREFIX = "/v1"  # of this server's base URL
# Fields of one connection (RFC 9110, 7.6.1), and fields that the transport sets.
_HOP_BY_HOP = frozenset(
    {"connection", "expect", "host", "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer",
     "transfer-encoding", "upgrade"}
)  # fmt: skip


class RecordingServer(LoopbackServer):
    """A server that replays responses from a `Cassette`, and forwards requests to the real server to record them.

    Any client can use ``server.url`` as its base URL. `upstream` is the base URL of the real server (default:
    ``OPENAI_BASE_URL``, then OpenAI's); it gets the clients' keys, the file does not. ``with`` runs the server in a
    separate thread, ``async with`` in the running event loop. `requests` is its log, as with a `FakeServer`. It closes
    the cassette on exit.

    An unmatched request that may not be sent is refused with status 501. Leaving the block then raises
    `AssertionError` with the differences from the most similar recorded request. Raises `ValueError` if `upstream` is
    not an http or https URL.
    """

    def __init__(
        self, cassette: Cassette, upstream: str | None = None, *, transport: Transport | None = None, port: int = 0
    ) -> None:
        super().__init__(port=port)
        self.cassette: Cassette = cassette
        self.upstream: str = upstream or os.environ.get("OPENAI_BASE_URL") or DEFAULT_UPSTREAM
        self._origin, self._base = _parsed(self.upstream)
        self._transport = RecordingTransport(cassette, transport, base_urls=self.upstream)
        self._problems: list[str] = []

    async def _respond(self, peer: Peer, request: ReceivedRequest) -> bool:
        if "upgrade" in request.headers:
            return await self._refuse(
                peer, request, 501, "WebSockets (the realtime API) cannot be recorded or replayed"
            )
        try:
            response = await self._send(request)
        except TransportError as error:
            if error.answered or error.sent or error.kind not in ("dns", "refused", "tls", "proxy", "timeout"):
                return await _break(peer, error)
            return await self._refuse(peer, request, 502, f"{self.upstream} cannot be reached: {error.message}")
        request.status = response.status
        request.starts()
        try:
            # Redirects to the real server would bypass this one.
            fields = response.raw_fields.replace(self.upstream.rstrip("/").encode(), self.url.encode())
            bodiless = request.method == "HEAD" or response.status in (204, 304)
            return await _forward(peer, response, fields, bodiless=bodiless)
        except TransportError as error:
            return await _break(peer, error)
        finally:
            response.abort()  # no effect after its end

    async def _send(self, request: ReceivedRequest) -> TransportResponse:
        while True:
            try:
                return await self._transport.send(self._forwarded(request), _TIMEOUTS)
            except TransportError as error:
                if not is_lost_idle(error):
                    raise

    def _forwarded(self, request: ReceivedRequest) -> TransportRequest:
        """Return the request for the real server."""
        pairs = [
            # A body in another coding could not be replayed to clients that do not support it.
            (name, "gzip, deflate" if name.lower() == "accept-encoding" else value)
            for name, value in request.headers.raw_pairs()
            if name.lower() not in _HOP_BY_HOP and name.lower() != "content-length"
        ]
        hidden = secret_fields(pairs)
        target = request.target
        if target.startswith((f"{_PREFIX}/", f"{_PREFIX}?")) or target == _PREFIX:
            target = self._base + target.removeprefix(_PREFIX)
        fields = [pair for pair in pairs if pair not in hidden]
        return TransportRequest(self._origin, request.method, target, fields, Credentials(hidden), request.body)

    async def _refuse(self, peer: Peer, request: ReceivedRequest, status: int, message: str) -> bool:
        self._problems.append(f"{request.method} {request.path}: {message}")
        request.status = status
        error = {"message": message, "type": "recording_error", "param": None, "code": "recording_error"}
        body = msgspec.json.encode({"error": error})
        fields = b"content-type: application/json\r\nx-should-retry: false\r\nconnection: close\r\n"
        await peer.send(_head(status, fields + b"content-length: %d\r\n" % len(body)) + body)
        return False

    def _not_http(self, line: str) -> None:
        self._problems.append(f"bytes that are not a request of HTTP/1.1: {line[:200]!r}")

    def _check(self) -> None:
        if self._problems:
            raise AssertionError("\n".join(self._problems))
        self.cassette.assert_matched()

    async def _shut(self) -> None:
        await self._transport.aclose()
        self.cassette.close()


@contextmanager
def recording(
    path: StrPath,
    mode: RecordMode = "once",
    *,
    upstream: str | None = None,
    speed: float = 0.0,
    repeat: bool = False,
    ignore: Collection[str] = VOLATILE,
    normalize: Normalize | None = None,
    secrets: Sequence[str] = (),
) -> Generator[RecordingServer]:
    """Record or replay the requests of any client within the block.

    Sets ``OPENAI_BASE_URL`` to a `RecordingServer`, and ``OPENAI_API_KEY`` if it is not set. For the options see
    `Cassette`, for `upstream` see `RecordingServer`. ::

        with recording("sky.jsonl"):
            assert my_program("Why is the sky blue?") == "It scatters light."

    In a `unittest.TestCase`: ``self.enterContext(recording("sky.jsonl"))``.
    """
    cassette = Cassette(path, mode, speed=speed, repeat=repeat, ignore=ignore, normalize=normalize, secrets=secrets)
    with RecordingServer(cassette, upstream) as server:
        with environment(variables_for(server.url, os.environ.get("OPENAI_API_KEY") or PLACEHOLDER_KEY)):
            yield server


def variables_for(url: str, key: str) -> dict[str, str]:
    """Return the environment variables that direct clients to a server on this machine, bypassing proxies."""
    found = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": key}
    for name in ("NO_PROXY", "no_proxy"):  # a proxy of the machine would be asked for 127.0.0.1, too
        found[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1"]))
    return found


@contextmanager
def environment(variables: Mapping[str, str]) -> Generator[None]:
    """Set environment variables within the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _parsed(url: str) -> tuple[Origin, str]:
    """Return origin and path of a base URL. Raises `ValueError`, without quoting what may hold a password."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise ValueError("upstream is not a URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("upstream is a base URL: http(s)://host[:port][/path]")
    if "@" in parts.netloc:
        raise ValueError("upstream must not have a password in it: give the key to the client (OPENAI_API_KEY)")
    return Origin(parts.scheme, parts.hostname, port), parts.path.rstrip("/")


def _head(status: int, fields: bytes) -> bytes:
    reason = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Unknown"
    return f"HTTP/1.1 {status} {reason}\r\n".encode() + fields + b"\r\n"


async def _forward(peer: Peer, response: TransportResponse, fields: bytes, *, bodiless: bool) -> bool:
    """Send a response piece by piece in its original framing. Return whether the connection can be kept."""
    lines = [line + b"\r\n" for line in fields.split(b"\r\n") if line]
    names = {line.partition(b":")[0].strip().lower() for line in lines}
    chunked = b"transfer-encoding" in names
    until_close = not (bodiless or chunked or b"content-length" in names)
    kept = [line for line in lines if line.partition(b":")[0].strip().lower() not in (b"connection", b"keep-alive")]
    if until_close:
        kept.append(b"connection: close\r\n")
    await peer.send(_head(response.status, b"".join(kept)))
    while pieces := await response.pieces():
        for piece in filter(None, pieces):
            if not bodiless:
                await peer.send(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
    if chunked and not bodiless:
        await peer.send(b"0\r\n\r\n")
    return not until_close


async def _break(peer: Peer, error: TransportError) -> bool:
    """End the connection as the real server did."""
    if error.kind == "timeout":
        await peer.gone()
    elif error.kind == "reset":
        peer.reset()
    return False

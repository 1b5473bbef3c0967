"""The interface between a call and the network: what a transport must provide, and the one error it may raise.

The engine uses only these names of the package, so that a transport over another library is a small adapter.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import msgspec

from ..core.http.request import authority
from ..core.model.secrets import Secret, of_fields

__all__ = [
    "AttemptTimeouts",
    "Credentials",
    "Origin",
    "Transport",
    "TransportError",
    "TransportRequest",
    "TransportResponse",
    "added_secrets",
    "earlier",
    "over_cap",
]


class Origin(NamedTuple):
    """The origin of a request (RFC 6454). Connections are shared by requests of one origin only."""

    scheme: str  # "http" or "https"
    host: str  # a name or an address, IPv6 without brackets
    port: int


class Credentials:
    """Header fields that must stay hidden: they become bytes only where they are written to the socket.

    `fields()` gives ``(name, value)`` pairs; `repr`, `str`, pickles and copies reveal nothing. The scheme before a
    value (``"Bearer"``) is visible if it is a usual one or the given `scheme`.
    """

    __slots__ = ("__pairs", "__scheme", "__wire")

    def __init__(self, pairs: Sequence[tuple[str, str]] = (), scheme: str = "") -> None:
        self.__pairs = tuple(pairs)
        self.__scheme = scheme
        self.__wire = "".join([f"{name}: {value}\r\n" for name, value in pairs]).encode("latin-1")

    @property
    def shown(self) -> tuple[tuple[str, str], ...]:
        """The visible part of each field: its name, and the scheme before the value, if any."""
        return tuple((name, _scheme(value, self.__scheme)) for name, value in self.__pairs)

    def fields(self) -> tuple[tuple[str, str], ...]:
        return self.__pairs

    def wire(self) -> bytes:
        """Return the fields as HTTP/1.1 field lines, each with its CRLF."""
        return self.__wire

    def secrets(self) -> Iterable[Secret]:
        """Return the secrets to redact where a server echoes them."""
        return of_fields(self.__pairs)

    def __bool__(self) -> bool:
        return bool(self.__pairs)

    def __repr__(self) -> str:
        return "<Credentials: hidden>"

    def __copy__(self) -> Credentials:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Credentials:
        return self

    def __reduce__(self) -> tuple[type[Credentials], tuple[()]]:
        return (Credentials, ())


def _scheme(value: str, known: str) -> str:
    first, found, _ = value.partition(" ")
    return first if found and (first.lower() in ("basic", "bearer", "token") or first == known) else ""


class TransportRequest(msgspec.Struct, eq=False):
    """One request as passed to a transport, once per attempt.

    (A Struct, since one is made for every request: its constructor and its copy are not Python functions.)
    """

    origin: Origin
    method: str
    target: str
    """Origin-form (RFC 9112, section 3.2.1): an absolute path with its query, percent-encoded."""
    fields: Sequence[tuple[str, str]]
    """Every header field except the credentials, the framing (``Content-Length``, ``Transfer-Encoding``) and
    ``Host``."""
    credentials: Credentials
    body: bytes | AsyncIterator[bytes] = b""
    """Bytes, or an asynchronous iterator of pieces of `length` bytes in all."""
    length: int | None = None
    """The length of an iterated body in bytes; `None`: unknown, sent chunked."""
    prebuilt: bytes | None = None
    """Request line, ``Host`` and `fields` ready for the wire, each line with its CRLF; `None`: the transport builds
    them."""

    if TYPE_CHECKING:

        def __copy__(self) -> Self: ...

    @property
    def url(self) -> str:
        """Where it goes, for an HTTP library that takes a URL; it may hold secrets."""
        return f"{self.origin.scheme}://{authority(*self.origin)}{self.target}"

    def fields_to_send(self) -> list[tuple[str, str]]:
        """Return every header field in plain text, credentials and ``Content-Length`` (if it is known) included."""
        length = [] if self.length is None else [("Content-Length", str(self.length))]
        return [*self.fields, *self.credentials.fields(), *length]

    def add_field(self, name: str, value: str) -> None:
        """Add a header field that is not secret and needs no validation."""
        self.fields = (*self.fields, (name, value))
        if self.prebuilt is not None:
            self.prebuilt += f"{name}: {value}\r\n".encode("latin-1")


class AttemptTimeouts(msgspec.Struct, frozen=True):
    """The timeouts of one attempt, in seconds; `None` is "no limit"."""

    connect: float | None  # for DNS, TCP, TLS and proxy together, from the start of each
    start: float | None  # from the request written to the first byte of a final answer's head (1xx do not count)
    until: float | None  # the event loop's time at which this attempt ends, wherever it is
    stall: float | None = None  # from the first byte of a final answer's head to its end; `None`: the same as `start`
    queue: float | None = None  # waiting for a connection while all allowed ones are in use


def earlier(until: float | None, clock: str, other: float | None, other_clock: str) -> tuple[float | None, str]:
    """Return the earlier of two ends with the name of its timeout; `None` is "never", and the first one wins a tie."""
    if other is None or (until is not None and until <= other):
        return until, clock
    return other, other_clock


class TransportError(Exception):
    """Why an exchange failed. It never leaves the library: the engine turns it into the public error.

    `kind` is one of: ``"timeout"`` (and then `clock` is ``"queue"``, ``"connect"``, ``"start"``, ``"stall"`` or
    ``"until"``), ``"stuck"`` (all connections are held by tasks that wait for one), ``"dns"``,
    ``"refused"`` (any failed connect), ``"tls"``, ``"proxy"``, ``"eof"`` (closed before the answer's end),
    ``"reset"``, ``"protocol"`` (bytes that are not HTTP/1.1, or over a cap), ``"upload"`` (the body's source raised:
    it is the `__cause__`), ``"closed"`` (the transport was closed by its owner).
    """

    def __init__(
        self,
        kind: str,
        message: str,
        *,
        clock: str | None = None,
        reused: bool = False,
        sent: bool = False,
        answered: bool = False,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.clock = clock
        self.reused = reused  # the connection had served a request before
        self.sent = sent  # any byte of the request may have left
        self.answered = answered  # any byte of an answer has come
        self.by_caller = False  # a function of the caller's took too long; `message` names it


def over_cap(cap: int) -> str:
    """Return the error message for a body over its cap."""
    return f"the body is over {cap} bytes (max_body in http_other sets the limit for bodies held in memory)"


def added_secrets(transport: object) -> Iterable[Secret]:
    """Return the secrets that a transport adds to requests, such as a proxy's password: its method ``secrets``, if it
    has one, returns them."""
    found: Iterable[Secret] = getattr(transport, "secrets", tuple)()
    return found


class TransportResponse(Protocol):
    """The answer to one `TransportRequest`: its head has arrived, its body may still be arriving.

    It returns its connection to the pool at the exact end of the body; before that only `abort` releases it.
    All waiting raises `TransportError`. Only one task may wait at a time.
    """

    reader: object
    """The task that reads or will read, and so can release the connection. Set by the driver; `None` if unknown.
    A transport whose connections are limited in number finds deadlocks with it."""

    @property
    def status(self) -> int: ...
    @property
    def raw_fields(self) -> bytes:
        """The raw field lines of the head, each with its CRLF, without status line and final empty line."""
        ...

    @property
    def connected(self) -> float:
        """Seconds spent on getting a connection (0.0 for an idle one)."""
        ...

    @property
    def ended(self) -> bool:
        """Whether the whole body has been returned."""
        ...

    @property
    def exact(self) -> bool:
        """Whether the body ended where its framing says; `False` for one that ended with its connection.

        A dying process closes its connections too.
        """
        ...

    def expire(self, at: float | None, clock: str) -> None:
        """Set the read deadline: waiting ends with a timeout of this clock at the loop's time `at` (`None`: never).

        The reader moves it forward at each unit of progress; this costs two assignments.
        """
        ...

    async def pieces(self) -> list[bytes]:
        """Return the pieces of the body received since the last call, waiting for one if needed; ``[]`` at the exact
        end."""
        ...

    async def read(self, cap: int) -> bytes:
        """Return the rest of the body at once; more than `cap` bytes is a ``"protocol"`` error."""
        ...

    def take(self) -> bytes | None:
        """Return the whole body if it arrived with the head and has no content coding; this ends the answer.

        Return `None` otherwise: use `read` or `pieces`. Most small answers need nothing else.
        """
        ...

    def abort(self) -> None:
        """Drop the connection at once (nothing is sent, nothing is awaited); no-op after the end."""
        ...


class Transport(Protocol):
    """A pool of connections for one event loop."""

    def send(self, request: TransportRequest, timeouts: AttemptTimeouts) -> Coroutine[Any, Any, TransportResponse]:
        """Send one request and wait for the head of its final response; usually an asynchronous method.

        After a cancellation or failure it leaves no socket, task or timer behind. Raises `TransportError` only.
        """
        ...

    async def aclose(self) -> None:
        """Drop every connection; exchanges in progress fail with kind ``"closed"``. Idempotent."""
        ...

"""The client's configuration of a call: base URL, header fields, credentials, timeouts."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol, runtime_checkable
from urllib.parse import quote, urljoin, urlsplit

import msgspec

from ..core.codec.encode import merge_queries
from ..core.codec.endpoint import Request
from ..core.http.grammar import is_token
from ..core.model.secrets import Secret, redacted
from ..errors import ConfigurationError
from ..transport.base import AttemptTimeouts, Credentials, Origin

__all__ = [
    "UNSET",
    "URL",
    "BaseURL",
    "CallConfig",
    "CallTimeouts",
    "KeySource",
    "Placing",
    "RenewableKey",
    "Secret",
    "check_field",
    "check_header",
    "default_model",
    "sooner",
    "timeouts_for",
]

UNSET: Any = object()
"""No value, as opposed to `None`, which means "no limit" for a number of seconds."""

_BAD_VALUE = r"[^\t\x20-\x7e\x80-\xff]"
_REFERENCE_SAFE = "!#$%&'()*+,/:;=?@[]~"
_NOT_IN_HOSTS = frozenset('\\"<>^`{|}')
_FRAMING = frozenset(
    {
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-connection",
        "sec-websocket-accept",
        "sec-websocket-extensions",
        "sec-websocket-key",
        "sec-websocket-version",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Fields of framing and routing (RFC 9110, sections 7.2, 7.6.1 and 10.1.1; RFC 9112, section 6). Sent twice, or set by
code that does not write the bytes, they allow request smuggling."""


def default_model(models: Mapping[str, str], methods: Iterable[str]) -> str | None:
    """Return the default model of the first of these methods that has one, or the one for all methods."""
    for method in methods:
        if model := models.get(method):
            return model
    return models.get("") or None


def check_field(value: object, what: str) -> str:
    """Return a header field's value as text, or `ConfigurationError` without quoting it (it may be a secret).

    No control characters and nothing outside Latin-1 (RFC 9110, section 5.5), no space at either end.
    """
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    text = value.reveal() if isinstance(value, Secret) else str(value)
    # Usual values avoid the regular expression, which takes longer to compile than a client takes to construct.
    if not (text.isascii() and text.isprintable()) and re.search(_BAD_VALUE, text):
        del value, text  # no frame of a traceback may hold them
        raise ConfigurationError(f"{what}: it contains a character that header fields cannot carry")
    return text.strip(" \t")


def check_header(name: object, value: object, source: str) -> str:
    """Return the value of a header field that a caller names, as `check_field` returns it.

    Raises `ConfigurationError` also for an invalid name, and for one that only the library sets.
    """
    if not is_token(name):
        # Not quoted: if a line was split in the wrong place, the name contains a part of the value.
        raise ConfigurationError(f"{source}: one of the names is not a valid field name (RFC 9110, section 5.1)")
    if name.lower() in _FRAMING:
        raise ConfigurationError(f"{source}: {name!r} is set by the library and cannot be given")
    return check_field(value, f"{source}: {name!r}")


_PATH_SAFE = "!$%&'()*+,/:;=@~"
KeySource = Secret | Callable[[], Awaitable[str]] | None


@runtime_checkable
class RenewableKey(Protocol):
    """A key function that obtains its tokens over the client's connections, and replaces a refused one."""

    async def __call__(self) -> str:
        """Return a valid token."""
        ...

    def bind(self, shared: Any) -> None:
        """Use these `Connections`."""
        ...

    def renew(self, credentials: Credentials) -> bool:
        """Return whether these refused credentials hold one of its tokens, which is not returned again."""
        ...


def _absolute(url: str) -> str:
    """Return the URL that was probably meant: without user and password, which an error must not show."""
    rest = url.rpartition("@")[2].partition("?")[0]
    if "://" not in rest and re.match(r"[\w.-]+(:\d+)?(/|$)", rest):
        local = rest.startswith(("localhost", "127.", "0.0.0.0"))
        return f"{'http' if local else 'https'}://{rest}, not {rest!r}"
    return "https://host/v1"


class URL(str):
    """An API base as text that ends with a slash; its parts have the names of httpx."""

    __slots__ = ()

    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""
        return urlsplit(self).scheme

    @property
    def host(self) -> str:
        """The name or address."""
        return urlsplit(self).hostname or ""

    @property
    def port(self) -> int | None:
        """The port, unless it is the scheme's default."""
        return urlsplit(self).port

    @property
    def path(self) -> str:
        """The path."""
        return urlsplit(self).path


class BaseURL:
    """A parsed API base: origin, path prefix, and the query of every request.

    Raises `ConfigurationError` for anything but an absolute ``http`` or ``https`` URL. Userinfo in the URL is sent as
    HTTP Basic credentials and shown nowhere.
    """

    __slots__ = ("origin", "path", "query", "root", "userinfo")

    def __init__(self, url: str) -> None:
        if any(sign <= " " or sign == "\x7f" for sign in url):
            raise ConfigurationError("the API base contains a space or a control character")
        try:
            parts = urlsplit(url)
            port = parts.port
            # Characters outside ASCII are percent-encoded in a request line (RFC 3987, section 3.1).
            path, query = quote(parts.path, safe=_PATH_SAFE), quote(parts.query, safe=_PATH_SAFE + "?")
        except ValueError:
            raise ConfigurationError("the API base is not a URL") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(
                f"the API base (api_base, base_url) must be an absolute http or https URL, such as {_absolute(url)}"
            )
        if port == 0:
            raise ConfigurationError("the API base has port 0, to which nothing can be sent")
        if not _NOT_IN_HOSTS.isdisjoint(parts.netloc):
            raise ConfigurationError("the API base's host name contains an invalid character")
        host = _ascii_host(parts.hostname)
        self.origin: Origin = Origin(parts.scheme, host, port or (443 if parts.scheme == "https" else 80))
        self.path: str = path.rstrip("/")
        self.query: str = query
        self.userinfo: Secret | None = None
        if parts.username is not None or parts.password is not None:
            self.userinfo = Secret(parts.netloc.rpartition("@")[0])
        shown = f"[{host}]" if ":" in host else host
        self.root: str = f"{parts.scheme}://{shown}" + (f":{port}" if port else "")

    def as_websocket(self) -> BaseURL:
        """Return this base with ``ws`` or ``wss`` as the scheme that is shown. Its origin stays one of HTTP."""
        made = object.__new__(BaseURL)
        for name in BaseURL.__slots__:
            setattr(made, name, getattr(self, name))
        made.root = f"ws{self.root[4:]}"
        return made

    def target(self, path: str) -> str:
        """Return the origin-form target of a path that belongs to an endpoint, whose query wins over the base's own."""
        if not self.query:
            return self.path + path
        path, _, query = path.partition("?")
        return f"{self.path}{path}?{merge_queries(self.query, query)}"

    def joined(self, target: str, reference: str) -> tuple[BaseURL, str] | None:
        """Return the base and the target that a server's reference leads to, as seen from `target` of this base.

        Characters outside ASCII are percent-encoded, and userinfo is dropped. `None` if it is not an http URL; seen
        from a WebSocket's base, it may be one of a WebSocket.
        """
        websocket = self.root.startswith("ws")
        try:
            parts = urlsplit(urljoin(self.root + target, quote(reference, safe=_REFERENCE_SAFE)))
            scheme = f"http{parts.scheme[2:]}" if websocket and parts.scheme in ("ws", "wss") else parts.scheme
            base = BaseURL(f"{scheme}://{parts.netloc}")
        except ValueError:
            return None
        base.userinfo = None
        if websocket:
            base = base.as_websocket()
        return base, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    def __str__(self) -> str:
        """The URL without userinfo, secret values of its query redacted."""
        return redacted(f"{self.root}{self.path}" + (f"?{self.query}" if self.query else ""))

    def __repr__(self) -> str:
        return f"BaseURL({str(self)!r})"

    def __reduce__(self) -> tuple[type[BaseURL], tuple[str]]:
        return (BaseURL, (str(self),))  # without secrets


def _ascii_host(host: str) -> str:
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        raise ConfigurationError("the API base's host name is not valid") from None


class Placing(Protocol):
    """Maps operations to paths for servers that do not keep all directly below the base: Azure's contain the model."""

    def path(self, path: str, model: object) -> str:
        """Return the path below the base for an operation's own path, perhaps with a query."""
        ...

    def realtime(self, query: Mapping[str, Any]) -> dict[str, Any]:
        """Return the query of a realtime connection, given OpenAI's."""
        ...


class CallConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of one client's calls, built from the client's options."""

    base: BaseURL
    websocket_base: BaseURL | None = None  # the base of WebSockets, if not `base`
    placing: Placing | None = None
    key: KeySource = None
    key_field: str = "Authorization"
    admin_key: Secret | None = None
    webhook_secret: Secret | None = None
    auth_scheme: str = "Bearer"
    fields: tuple[tuple[str, str], ...] = ()  # User-Agent, organisation and the like: nothing secret
    secret_fields: tuple[tuple[str, Secret], ...] = ()  # default header fields of the user: they may be secret
    models: Mapping[str, str] = {}  # client method, or "" for all → model
    max_retries: int = 2
    max_redirects: int = 3
    same_origin: bool = False  # do not follow a redirect to another origin, even without a key and a body
    connect_timeout: float | None = 10.0
    start_timeout: float | None = 120.0
    stall_timeout: float | None = 600.0
    timeout: Any = UNSET  # the official client's option of this name, if it was given: wins over start and stall
    deadline: float | None = None
    queue_timeout: float | None = None
    max_body: int | None = None  # bytes of a whole body in memory, in place of the caps by kind
    repeat_timed_out: bool = False  # also requests that were sent in full and timed out before the answer started
    strict: bool = False
    count_retries: bool = False  # send x-stainless-retry-count
    observers: tuple[Callable[[Any], Any], ...] = ()  # see `observers`

    @property
    def has_timeout(self) -> bool:
        """Whether `timeout` was given."""
        return self.timeout is not UNSET


class CallTimeouts(msgspec.Struct, frozen=True):
    """The timeouts of a call, in seconds; `None` is "no limit". The rules are in `docs/architecture.md`."""

    of_attempt: AttemptTimeouts  # of an attempt that neither `whole` nor a deadline ends
    connect: float | None
    start: float | None
    stall: float | None
    whole: float | None  # one attempt from its start to the end of the answer
    first: float | None  # one attempt from its start to the head, of a stream to its first event
    deadline: float | None  # all attempts and pauses
    queue: float | None = None  # waiting for a slot, and for a connection
    fixed: bool = False  # every attempt runs under `of_attempt`: neither `whole` nor `first` nor `deadline` is set


def timeouts_for(config: CallConfig, request: Request) -> CallTimeouts:
    """Return the timeouts of a call: those of its client, or its own; the official `timeout` wins over both."""
    connect, start, stall = config.connect_timeout, config.start_timeout, config.stall_timeout
    whole = first = None
    if request.has_timeout or config.has_timeout:
        timeout: Any = request.timeout if request.has_timeout else config.timeout
        read = timeout.read if hasattr(timeout, "read") else timeout
        start = stall = read
        if hasattr(timeout, "connect"):
            connect = timeout.connect
        elif read is not None and connect is not None:
            connect = min(connect, read)
        if not request.stream and not request.endpoint.binary:
            whole = read
        else:
            first = read
    deadline = request.deadline if request.has_deadline else config.deadline
    # A stream's start timeout lasts up to its first event: a slow head must not begin another period.
    in_head = sooner(start, stall) if request.stream else stall
    of_attempt = AttemptTimeouts(connect, start, None, in_head, config.queue_timeout)
    fixed = whole is first is deadline is None
    return CallTimeouts(of_attempt, connect, start, stall, whole, first, deadline, config.queue_timeout, fixed)


def sooner(one: float | None, other: float | None) -> float | None:
    """Return the shorter of two times, where `None` is "no limit"."""
    return other if one is None else one if other is None else min(one, other)

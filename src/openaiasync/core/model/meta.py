"""Facts about a call besides its answer: request, status, header fields, request id, attempts, times, rate limits.

They are computed from a few stored values at first access, since most callers read none of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ...lazy import json
from .headers import Headers
from .rate_limits import RateLimit, RateLimits, read_rate_limits
from .secrets import HIDDEN, NO_SECRETS, Secrets, redacted

__all__ = ["Meta", "RateLimit", "RateLimits", "RequestInfo", "ResponseInfo", "curl"]


class RequestInfo:
    """The request of a call, for errors and raw answers: without credentials.

    `url` is absolute and without userinfo; `headers` lacks the fields with the key; `content` is the body, `b""` for
    none and for uploads. `hidden` names the fields left out, each with the scheme before its value ("Bearer" or
    ``""``). Secret values in the URL's query read ``[redacted]``. `secrets` holds the secrets of the attempt, to
    redact them in everything made from its response; they are never shown.
    """

    __slots__ = ("_fields", "base", "content", "hidden", "method", "secrets", "target", "upload")

    def __init__(
        self,
        method: str,
        base: str,
        target: str = "",
        fields: Sequence[tuple[str, str]] = (),
        content: bytes = b"",
        hidden: Sequence[tuple[str, str]] = (),
        upload: bool = False,
        secrets: Secrets = NO_SECRETS,
    ) -> None:
        self.method: str = method
        self.base: str = base  # scheme and authority
        self.target: str = redacted(target) if "?" in target else target  # absolute path and query
        self.secrets: Secrets = secrets
        self._fields = fields
        self.content: bytes = content
        self.hidden: Sequence[tuple[str, str]] = hidden
        self.upload: bool = upload  # whether there was a body that is not in `content`

    @property
    def url(self) -> str:
        """The absolute URL."""
        return self.base + self.target

    @property
    def headers(self) -> Headers:
        """The header fields that were sent, without credentials."""
        return Headers(pairs=tuple(self._fields))

    def with_content(self, content: bytes) -> RequestInfo:
        """Return the same request with another body."""
        return RequestInfo(
            self.method, self.base, self.target, self._fields, content, self.hidden, self.upload, self.secrets
        )

    def cleaned(self, secrets: Secrets) -> RequestInfo:
        """Return the object itself, which holds no secrets."""
        return self

    def read(self) -> bytes:
        """Return the body."""
        return self.content

    def as_curl(self) -> str:
        """Return the request as a curl command for a POSIX shell, without secrets: the key is ``$OPENAI_API_KEY``.

        Other values that may be secret read ``[redacted]``. An upload, and a body that is large or not text, is read
        from standard input.
        """
        return curl(self)

    def __repr__(self) -> str:
        return f"<RequestInfo {self.method} {self.url}>"


class ResponseInfo:
    """A response as received, kept by errors: status, header fields and the raw body, up to a limit."""

    __slots__ = ("content", "headers", "request", "status_code")

    def __init__(self, status_code: int, headers: Headers, request: RequestInfo, content: bytes = b"") -> None:
        self.status_code: int = status_code
        self.headers: Headers = headers
        self.request: RequestInfo = request
        self.content: bytes = content

    @property
    def url(self) -> str:
        """The URL of the response."""
        return self.request.url

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status_code < 300

    @property
    def is_error(self) -> bool:
        """Whether the status is 4xx or 5xx."""
        return 400 <= self.status_code < 600

    @property
    def text(self) -> str:
        """The body as text; bytes that are not UTF-8 are replaced."""
        return self.content.decode("utf-8", "replace")

    def read(self) -> bytes:
        """Return the body."""
        return self.content

    def json(self) -> Any:
        """Return the body parsed as JSON. Raises `ValueError` if it is not JSON."""
        return json.loads(self.content)

    def cleaned(self, secrets: Secrets) -> ResponseInfo:
        """Return the response without secrets that the server echoed."""
        content, headers = secrets.scrub(self.content), self.headers.cleaned(secrets)
        if content is self.content and headers is self.headers:
            return self
        return ResponseInfo(self.status_code, headers, self.request, content)

    def __repr__(self) -> str:
        return f"<ResponseInfo {self.status_code} {self.url}>"


_REQUEST_ID = re.compile(rb"^x-request-id:([^\r\n]*)", re.IGNORECASE | re.MULTILINE)


class Meta:
    """Facts about one call, the `.meta` of every top-level answer and stream.

    Times are in seconds: `queued` (waiting for a slot), `connected` (getting a connection, 0.0 if one was open),
    `first_byte` (from the start of the last attempt to the head of its response), `total` (from the first attempt to
    the end of the answer, retries and pauses included; of an open stream, to its head). `tries` counts all attempts.
    """

    complete: bool = True
    """Whether the answer is complete. Of a stream False until its end, and after it if the server ended it properly but
    without a finish reason or a terminal event."""
    _headers: Headers | None = None

    def __init__(
        self,
        status: int,
        raw_fields: bytes,
        request: RequestInfo,
        tries: int = 1,
        queued: float = 0.0,
        connected: float = 0.0,
        first_byte: float = 0.0,
        total: float = 0.0,
        content: bytes | None = None,
    ) -> None:
        """`content` is the request's body, if `request` is shared by many calls and has none."""
        self.status: int = status
        self._raw_fields = raw_fields
        self._request = request
        self._content = content
        self.tries: int = tries
        self.queued: float = queued
        self.connected: float = connected
        self.first_byte: float = first_byte
        self.total: float = total

    @property
    def request(self) -> RequestInfo:
        """The request of this answer."""
        if self._content is not None:
            self._request, self._content = self._request.with_content(self._content), None
        return self._request

    @property
    def url(self) -> str:
        """The URL of the answer, without userinfo."""
        return self._request.url

    @property
    def headers(self) -> Headers:
        """The response's header fields, without secrets that the server echoed."""
        if self._headers is None:
            self._raw_fields = self._request.secrets.scrub(self._raw_fields)
            self._headers = Headers(self._raw_fields)
        return self._headers

    def cleaned(self, secrets: Secrets) -> Meta:
        """Remove secrets from the header fields, for errors; return itself."""
        self._raw_fields = secrets.scrub(self._request.secrets.scrub(self._raw_fields))
        if self._headers is not None:
            self._headers = self._headers.cleaned(secrets)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_raw_fields": self._request.secrets.scrub(self._raw_fields)}

    @property
    def request_id(self) -> str | None:
        """The server's id of this call (``x-request-id``), to quote when asking for support."""
        if self._headers is None:
            # Read for each row of a job, whose other fields are rarely read.
            found: list[bytes] = re.findall(_REQUEST_ID, self._raw_fields)
            if len(found) < 2:
                return self._request.secrets.scrub(found[0]).decode("latin-1").strip(" \t") if found else None
        return self.headers.get("x-request-id")

    @property
    def has_rate_limits(self) -> bool:
        """Whether any field is about a rate limit. Cheaper than `rate_limits`, which parses all fields."""
        return b"ratelimit" in self._raw_fields.lower()

    @property
    def rate_limits(self) -> RateLimits:
        """The fields about rate limits (``x-ratelimit-*``, ``RateLimit``, ``RateLimit-Policy``) as numbers."""
        return read_rate_limits(self.headers.raw_pairs())

    def as_curl(self) -> str:
        """Return the request as a curl command without secrets, see `RequestInfo.as_curl`."""
        return self.request.as_curl()

    def __repr__(self) -> str:
        return f"<Meta {self.status} {self.request.method} {self.url} tries={self.tries} total={self.total:.3f}s>"


_KEY = "$OPENAI_API_KEY"
_LARGEST = 100_000  # bytes of a body in the command: Linux takes 131,071 in one argument
_KEY_FIELDS = frozenset({"authorization", "api-key", "x-api-key"})
_PLAIN = r"[A-Za-z0-9 :_-]*"


def curl(request: RequestInfo) -> str:
    """Return the curl command of a request, an option on each line; see `RequestInfo.as_curl`."""
    url, parts, flags = redacted(request.url), list[str](), "-sS"
    for name, value in request.headers.raw_pairs():
        field = (name.lower(), value)
        if field == ("accept", "text/event-stream"):
            flags += "N"
        if field[0] == "accept-encoding":  # curl decodes only with this option
            parts.append("--compressed")
        else:
            parts.append(f"-H {_quoted(f'{name}: {value}' if value else f'{name};')}")
    parts += [f"-H {_hidden(name, scheme)}" for name, scheme in request.hidden]
    data, comment = _body(request)
    if data:
        parts.append(data)
    if set("[]{}") & set(url):  # curl would take them for patterns
        flags += "g"
    method = f" -X {_quoted(request.method)}" if request.method != ("POST" if data else "GET") else ""
    return " \\\n  ".join([f"curl {flags}{method} {_quoted(url)}", *parts]) + comment


def _quoted(text: str) -> str:
    import shlex  # the command is rarely needed

    return shlex.quote(text)


def _hidden(name: str, scheme: str) -> str:
    """Return the option for a field whose value is not shown."""
    if name.lower() not in _KEY_FIELDS:
        return _quoted(f"{name}: {HIDDEN}")
    text = f"{name}: {scheme} " if scheme else f"{name}: "
    return f'"{text}{_KEY}"' if re.fullmatch(_PLAIN, text) else f'{_quoted(text)}"{_KEY}"'


def _body(request: RequestInfo) -> tuple[str, str]:
    """Return the option for the body, and a comment about its source."""
    content = request.content
    if request.upload:
        return "--data-binary @-", "  # the upload is read from standard input"
    if not content:
        return "", ""
    if len(content) <= _LARGEST and b"\0" not in content:
        try:
            # With --data-binary a leading @ would name a file.
            text = content.decode()
            return f"--data-{'raw' if text.startswith('@') else 'binary'} {_quoted(text)}", ""
        except UnicodeDecodeError:
            pass
    return "--data-binary @-", f"  # the body of {len(content):,} bytes is read from standard input"

"""What is known of a call beside its answer: status, header fields, request id, tries, times, rate limits.

Everything here is built from a few values that the call stores, and worked out when somebody asks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from .headers import Headers
from .secrets import NO_SECRETS, Secrets, redacted

__all__ = ["Meta", "RateLimit", "RateLimits", "RequestInfo", "ResponseInfo"]


class RequestInfo:
    """The request of a call as errors and raw answers show it: without credentials.

    `url` is absolute and without userinfo; `headers` leaves out what carries the key; `content` is the body, `b""` for
    none and for uploads. `hidden` names what is left out, each with the scheme before the value ("Bearer", or ``""``).
    Secret values of the URL's query read ``[redacted]``. `secrets` is what the attempt was sent with, and is shown to
    nobody: what is made of its answer passes through it.
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
        self.upload: bool = upload  # whether there was a body that `content` does not hold

    @property
    def url(self) -> str:
        """The absolute URL."""
        return self.base + self.target

    @property
    def headers(self) -> Headers:
        """The header fields that were sent, without credentials."""
        return Headers(pairs=tuple(self._fields))

    def with_content(self, content: bytes) -> RequestInfo:
        """The same request with another body."""
        return RequestInfo(
            self.method, self.base, self.target, self._fields, content, self.hidden, self.upload, self.secrets
        )

    def cleaned(self, secrets: Secrets) -> RequestInfo:
        """The same: it is made without secrets."""
        return self

    def read(self) -> bytes:
        """The body."""
        return self.content

    def as_curl(self) -> str:
        """The request as a curl command for a POSIX shell, without secrets: the key is ``$OPENAI_API_KEY``.

        What else may be secret reads ``[redacted]``. An upload, and a body that is large or no text, is to be given on
        standard input.
        """
        from .curl import curl

        return curl(self)

    def __repr__(self) -> str:
        return f"<RequestInfo {self.method} {self.url}>"


class ResponseInfo:
    """An answer as it came, kept by errors: status, header fields and (up to a cap) the raw body."""

    __slots__ = ("content", "headers", "request", "status_code")

    def __init__(self, status_code: int, headers: Headers, request: RequestInfo, content: bytes = b"") -> None:
        self.status_code: int = status_code
        self.headers: Headers = headers
        self.request: RequestInfo = request
        self.content: bytes = content

    @property
    def url(self) -> str:
        """The URL that answered."""
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
        """The body."""
        return self.content

    def json(self) -> Any:
        """The body parsed as JSON; `ValueError` if it is none."""
        return json.loads(self.content)

    def cleaned(self, secrets: Secrets) -> ResponseInfo:
        """The same answer without the secrets that the server echoed."""
        content, headers = secrets.scrub(self.content), self.headers.cleaned(secrets)
        if content is self.content and headers is self.headers:
            return self
        return ResponseInfo(self.status_code, headers, self.request, content)

    def __repr__(self) -> str:
        return f"<ResponseInfo {self.status_code} {self.url}>"


class RateLimit(NamedTuple):
    """One limit as the server tells it: what is allowed, what is left, seconds until it is full again.

    `None` for what it does not tell, or tells in a way that is no number and no duration as "1m30s".
    """

    limit: int | None
    remaining: int | None
    reset: float | None  # seconds until it is full again


class RateLimits(NamedTuple):
    """The ``x-ratelimit-*`` header fields as numbers."""

    requests: RateLimit
    tokens: RateLimit


_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|d|h|m|s)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _duration(text: str | None) -> float | None:
    """Seconds of "6m0s", "20ms", "1.5" as OpenAI-compatible servers write them."""
    if not text or not text.isascii() or len(text) > 99:
        return None
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text.strip():
        return None
    return float(sum(float(number) * _SECONDS[unit] for number, unit in parts))


def _count(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None


class Meta:
    """What is known of one call, on every top-level answer and stream as `.meta`.

    Times are in seconds: `queued` (waiting for a place in flight), `connected` (getting a connection, 0.0 when one was
    open), `first_byte` (from the start of the last try to the answer's head), `total` (from the call's first try to
    the end of the answer, retries and pauses included; of an open stream: up to its head). `tries` counts all tries.
    """

    complete: bool = True
    """Whether all of the answer came. Of a stream `False` until its end, and for good where its server ended it
    properly, but without a word that the answer is complete: a finish reason, a terminal event."""
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
        """`content` is the request's body, where `request` is the same for many calls and has none."""
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
        """The request that was answered."""
        if self._content is not None:
            self._request, self._content = self._request.with_content(self._content), None
        return self._request

    @property
    def url(self) -> str:
        """The URL that answered, without userinfo."""
        return self._request.url

    @property
    def headers(self) -> Headers:
        """The answer's header fields, without secrets that the server echoed."""
        if self._headers is None:
            self._raw_fields = self._request.secrets.scrub(self._raw_fields)
            self._headers = Headers(self._raw_fields)
        return self._headers

    def cleaned(self, secrets: Secrets) -> Meta:
        """The same, the secrets taken out of what came as bytes: for errors, which others look at."""
        self._raw_fields = secrets.scrub(self._request.secrets.scrub(self._raw_fields))
        if self._headers is not None:
            self._headers = self._headers.cleaned(secrets)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_raw_fields": self._request.secrets.scrub(self._raw_fields)}

    @property
    def request_id(self) -> str | None:
        """The server's name for this call (``x-request-id``), to quote when asking for help."""
        return self.headers.get("x-request-id")

    @property
    def has_rate_limits(self) -> bool:
        """Whether there is any ``x-ratelimit-*`` field. It does not parse the others, as `rate_limits` does."""
        return b"x-ratelimit-" in self._raw_fields.lower()

    @property
    def rate_limits(self) -> RateLimits:
        """The ``x-ratelimit-*`` fields of the answer as numbers."""
        get = self.headers.get
        return RateLimits(
            *(
                RateLimit(
                    _count(get(f"x-ratelimit-limit-{what}")),
                    _count(get(f"x-ratelimit-remaining-{what}")),
                    _duration(get(f"x-ratelimit-reset-{what}")),
                )
                for what in ("requests", "tokens")
            )
        )

    def as_curl(self) -> str:
        """The request as a curl command without secrets, see `RequestInfo.as_curl`."""
        return self.request.as_curl()

    def __repr__(self) -> str:
        return f"<Meta {self.status} {self.request.method} {self.url} tries={self.tries} total={self.total:.3f}s>"

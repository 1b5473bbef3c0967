"""Build the bytes and fields of one attempt from a `Request` and the client's configuration."""

from __future__ import annotations

import base64
import copy
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ..core.codec.endpoint import Request
from ..core.model.meta import RequestInfo
from ..core.model.omitted import is_omitted
from ..core.model.secrets import (
    NO_SECRETS,
    Secret,
    Secrets,
    SecretSource,
    of_fields,
    of_query,
)
from ..errors import ConfigurationError
from ..lazy import resolve_annotations
from ..transport.base import Credentials, TransportRequest
from .callback import awaited
from .config import BaseURL, CallConfig, CallTimeouts, check_field, check_header

if TYPE_CHECKING:
    from .codecs import Codec

__all__ = ["PreparedRequest", "RequestBuilder"]

_COUNT = "x-stainless-retry-count"
_JSON: tuple[str, str] = ("Accept", "application/json")
_EVENTS: tuple[str, str] = ("Accept", "text/event-stream")
_ANYTHING: tuple[str, str] = ("Accept", "*/*")
_ASK_FOR_JSON = frozenset({"json", "page", "embeddings"})


class PreparedRequest:
    """The state shared by requests of one kind: one endpoint, streamed or not, with a body or without.

    This is the fast path of requests. The first request of a kind fills in its head, and also `out` if its credentials
    are fixed: every later one is a copy of `out` with another body, found with one lookup.
    """

    __slots__ = ("codec", "head", "info", "names", "out", "timeouts")

    def __init__(self, codec: Codec, timeouts: CallTimeouts) -> None:
        self.codec: Codec = codec
        self.timeouts: CallTimeouts = timeouts
        """The timeouts of calls that set none."""
        self.head: tuple[str, bytes, tuple[tuple[str, str], ...]] | None = None
        """Target, head ready for the wire, and fields."""
        self.out: TransportRequest | None = None
        self.names: frozenset[str] = frozenset()
        """The names of the header fields of `out`, in lower case."""
        self.info: RequestInfo | None = None
        """The view of a request made from `out` that errors and `.meta` show, without its body."""


class RequestBuilder:
    """Builds `TransportRequest` values for one configuration, caching their constant parts."""

    def __init__(self, config: CallConfig, passing: SecretSource = NO_SECRETS) -> None:
        """Create a builder; `passing` returns the secrets that the transports add, such as a proxy's password."""
        self.config = config
        self._static: dict[bool, Credentials] = {}  # by whether it is an administration endpoint
        self.asks: bool = callable(config.key)  # whether the key is obtained for each attempt
        self.secrets: Secrets = Secrets(*_fixed_secrets(config), passing)
        """The secrets that any request of this client may carry; `secrets_of` adds an attempt's own credentials."""
        self._latest: Credentials = Credentials()

    def fixed(self, request: Request) -> Credentials | None:
        """The constant credentials, once made; `None` if `credentials` must be called for each attempt."""
        if request.headers is not None:
            return None
        return self._static.get(self.config.admin_key is not None and request.endpoint.admin)

    async def credentials(self, request: Request) -> Credentials:
        """Return the credentials of one attempt; an asynchronous key function is called again."""
        config = self.config
        admin = config.admin_key is not None and request.endpoint.admin
        known = self._static.get(admin)
        if request.headers is None and known is not None:
            return known
        # Steps that may raise come first: no frame of a traceback may hold a field in plain text.
        extra = None if request.headers is None else _extra(request.headers)
        if extra is not None and _retry_count(extra):  # not secret: it is one of the other fields
            extra = {name: value for name, value in extra.items() if name.lower() != _COUNT}
        pairs: list[tuple[str, str]] = []
        key = config.admin_key if admin else config.key
        by_function = False
        if key is not None and not isinstance(key, Secret):
            by_function = True
            key = _returned_key(await awaited(key, "the api_key function"))
        if isinstance(key, Secret):
            scheme = f"{config.auth_scheme} " if config.auth_scheme else ""
            pairs.append((config.key_field, scheme + key.reveal()))
        elif config.base.userinfo is not None:
            pairs.append(("Authorization", "Basic " + _basic(config.base.userinfo)))
        pairs = _override(pairs, {name: secret.reveal() for name, secret in config.secret_fields})
        if known is None and not by_function:
            known = self._static[admin] = Credentials(pairs, config.auth_scheme)
        if extra is not None:
            return Credentials(_override(pairs, extra), config.auth_scheme)
        if known is None:
            known = self._latest = Credentials(pairs, config.auth_scheme)
        return known

    def hide(self, secret: Secret) -> None:
        """Register a secret that a body contains, so that it is redacted everywhere."""
        self.secrets = Secrets(self.secrets, secret)

    def secrets_of(self, *credentials: Credentials) -> Secrets:
        """Return the secrets of an attempt with these credentials and of earlier attempts."""
        return Secrets(self.secrets, *credentials)

    def scrub(self, raw: bytes) -> bytes:
        """Return bytes from another source than a response, such as a tool's output, with this client's keys
        redacted."""
        return Secrets(self.secrets, self._latest).scrub(raw)

    def fields(self, request: Request) -> tuple[tuple[str, str], ...]:
        """Return every field of a request except credentials, framing and Host."""
        endpoint = request.endpoint
        if request.stream:
            pairs = [_EVENTS]
        else:
            pairs = [_JSON if endpoint.codec in _ASK_FOR_JSON else _ANYTHING]
            if not endpoint.binary:
                pairs.append(("Accept-Encoding", "gzip, deflate"))
        if isinstance(request.body, bytes):
            pairs.append(("Content-Type", "application/json"))
        elif request.body is not None:
            pairs.append(("Content-Type", request.body.content_type))
        if endpoint.static_headers:
            pairs = _override(pairs, dict(endpoint.static_headers))
        pairs.extend(self.config.fields)
        hidden = {name.lower() for name, _ in self.config.secret_fields}
        if request.headers is not None:
            hidden |= {name.lower() for name in request.headers}
            if retry_count := _retry_count(request.headers):
                return (*(pair for pair in pairs if pair[0].lower() not in hidden), *retry_count)
        return tuple(pair for pair in pairs if pair[0].lower() not in hidden)

    def outgoing(
        self,
        request: Request,
        base: BaseURL,
        target: str | None,
        credentials: Credentials,
        prepared: PreparedRequest,
    ) -> TransportRequest:
        """Return the request of one attempt. `target` is the target of a redirect, or `None`."""
        endpoint, body = request.endpoint, request.body
        if target is None and request.headers is None and (body is None or body.__class__ is bytes):
            if request.path != endpoint.path:  # one of thousands of ids
                target = base.target(request.path)
                fields = self.fields(request)
                prebuilt = _head(endpoint.method, target, base, fields)
            else:
                if prepared.head is None:
                    target = base.target(request.path)
                    fields = self.fields(request)
                    prepared.head = (target, _head(endpoint.method, target, base, fields), fields)
                target, prebuilt, fields = prepared.head
                if not self.asks and prepared.out is None:
                    self._prepare(prepared, endpoint.method, credentials)
            return TransportRequest(
                base.origin, endpoint.method, target, fields, credentials, body or b"", None, prebuilt
            )
        if prepared.out is None and request.path == endpoint.path and (body is None or body.__class__ is bytes):
            self._prepare_without(request, base, prepared)
        fields, length = self.fields(request), None
        if body is None:
            body = b""
        elif not isinstance(body, bytes):
            body, length = body.open(), body.length
        target = base.target(request.path) if target is None else target
        return TransportRequest(base.origin, endpoint.method, target, fields, credentials, body, length)

    def _prepare_without(self, request: Request, base: BaseURL, prepared: PreparedRequest) -> None:
        """Cache a request without the header fields of its call, for `extended`."""
        plain = copy.copy(request)
        plain.headers = None
        credentials = self.fixed(plain)
        if credentials is not None and base is self.config.base:
            self.outgoing(plain, base, None, credentials, prepared)

    def extended(self, prepared: PreparedRequest, headers: Mapping[str, Any]) -> TransportRequest | None:
        """Return a prepared request with the header fields of one call, which may be secret.

        `None` if they replace or remove one of its fields. Raises `ConfigurationError` for an invalid field.
        """
        out = prepared.out
        extra = _extra(headers)
        names = {name.lower() for name in extra}
        if out is None or None in extra.values() or _COUNT in names or not prepared.names.isdisjoint(names):
            return None
        out = out.__copy__()
        out.credentials = Credentials((*out.credentials.fields(), *extra.items()), self.config.auth_scheme)
        return out

    def _prepare(self, prepared: PreparedRequest, method: str, credentials: Credentials) -> None:
        """Cache the request for later ones of this kind."""
        assert prepared.head is not None
        base, (target, prebuilt, fields) = self.config.base, prepared.head
        out = TransportRequest(base.origin, method, target, fields, credentials, b"", None, prebuilt)
        self._count(out, 0)
        shown, secrets = credentials.shown, self.secrets_of(credentials)
        prepared.info = RequestInfo(method, base.root, target, out.fields, b"", shown, secrets=secrets)
        prepared.names = frozenset(name.lower() for name, _ in (*out.fields, *credentials.shown))
        prepared.out = out

    def count(self, request: Request, out: TransportRequest, retries: int) -> None:
        """Send the retry count, as the official client does, unless the call sets the field itself."""
        if request.headers is None or not any(name.lower() == _COUNT for name in request.headers):
            self._count(out, retries)

    def _count(self, out: TransportRequest, retries: int) -> None:
        if self.config.count_retries:
            out.fields = (*out.fields, (_COUNT, str(retries)))
            if out.prebuilt is not None:
                out.prebuilt += f"{_COUNT}: {retries}\r\n".encode()

    def info(self, out: TransportRequest, base: BaseURL, secrets: Secrets) -> RequestInfo:
        """Return the view of an attempt that errors and `.meta` show, with these secrets redacted."""
        content, upload = (out.body, False) if isinstance(out.body, bytes) else (b"", True)
        target = out.target
        if base is not self.config.base:  # a redirect's target: the server may have put anything into it
            target = secrets.scrub_url(target)
        return RequestInfo(out.method, base.root, target, out.fields, content, out.credentials.shown, upload, secrets)


def _head(method: str, target: str, base: BaseURL, fields: tuple[tuple[str, str], ...]) -> bytes:
    if not (target.isascii() and target.isprintable()) or " " in target:
        raise ValueError("the path of the request contains characters that must be percent-encoded")
    lines = [f"{method} {target} HTTP/1.1", f"Host: {base.root.partition('://')[2]}"]
    lines.extend(f"{name}: {value}" for name, value in fields)
    return ("\r\n".join(lines) + "\r\n").encode("latin-1")


def _returned_key(value: Any) -> Secret:
    """Return the key that a function returned. Raises `ConfigurationError`, without quoting the value, if it is not a
    key."""
    if isinstance(value, Secret):
        value = value.reveal()
    good = isinstance(value, str) and bool(value)
    secret = Secret(value if good else "")
    del value  # no frame of a traceback may hold it
    if not good:
        raise ConfigurationError("the api_key function did not return a key")
    return Secret(check_field(secret, "the key that api_key returned"))


def _fixed_secrets(config: CallConfig) -> Iterator[SecretSource]:
    """Yield the secrets in a client's configuration that are sent."""
    for key in (config.key, config.admin_key):
        if isinstance(key, Secret):
            yield key
    yield from of_fields((name, secret.reveal()) for name, secret in config.secret_fields)
    for base in (config.base, config.websocket_base):
        if base is not None:
            yield from of_query(base.query)
            if base.userinfo is not None:
                yield from (base.userinfo, Secret(_basic(base.userinfo)), Secret(_password(base.userinfo)))


def _basic(userinfo: Secret) -> str:
    name, _, password = userinfo.reveal().partition(":")
    return base64.b64encode(f"{unquote(name)}:{unquote(password)}".encode()).decode()


def _password(userinfo: Secret) -> str:
    return unquote(userinfo.reveal().partition(":")[2])


def _extra(headers: Mapping[str, Any]) -> dict[str, Any]:
    checked: dict[str, Any] = {}
    for name, value in headers.items():
        omitted = value is None or is_omitted(value)
        text = check_header(name, "" if omitted else value, "extra_headers")
        checked[name] = None if omitted else text
    return checked


def _retry_count(headers: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the retry count that a call sets itself, if any; it may also omit the field."""
    return [
        (name, check_header(name, value, "extra_headers"))
        for name, value in headers.items()
        if name.lower() == _COUNT and value is not None and not is_omitted(value)
    ]


def _override(pairs: list[tuple[str, str]], more: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the pairs, replacing those that `more` names; `None` removes one."""
    names = {name.lower() for name in more}
    kept = [pair for pair in pairs if pair[0].lower() not in names]
    return kept + [(name, value) for name, value in more.items() if value is not None]


resolve_annotations(__name__)

"""Where a redirect may lead: the key and the prompt never cross an origin, and a POST never becomes a GET."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin, urlsplit

from ..core.model.headers import Headers
from ..errors import ConfigurationError
from ..transport.base import TransportResponse
from . import failures
from .config import BaseURL

if TYPE_CHECKING:
    from .call import Call

__all__ = ["follow"]

_URL_SAFE = "!#$%&'()*+,/:;=?@[]~"


def follow(call: Call, incoming: TransportResponse) -> tuple[BaseURL, str]:
    """Base and target of the next request, or `APIStatusError` that says why the redirect is refused.

    RFC 9110, section 15.4: 307 and 308 keep the method; after 301, 302 and 303 other clients send a GET, which for a
    POST would be another request than the one that was asked for.
    """

    call.redirects += 1
    led = _destination(call, incoming)
    if isinstance(led, str):
        raise failures.refused_redirect(call.meta(incoming), led, call.tries, call.elapsed())
    return led


def _destination(call: Call, incoming: TransportResponse) -> tuple[BaseURL, str] | str:
    """Where it leads, or why it is not followed. Apart, since the location may hold a key that the server echoes."""
    config = call.calls.config
    if call.redirects > config.max_redirects:
        return f"the redirect after {config.max_redirects} redirects is not followed (http_max_redirects)"
    location = Headers(incoming.raw_fields).get("location")
    if not location:
        return "a redirect without a Location"
    here = call.base.root + (call.target or call.base.target(call.request.path))
    try:
        parts = urlsplit(urljoin(here, quote(location, safe=_URL_SAFE)))
        base = BaseURL(f"{parts.scheme}://{parts.netloc}")
    except (ValueError, ConfigurationError):
        return "a redirect to something that is no http URL"
    method, body = call.request.endpoint.method, call.request.body
    if method not in ("GET", "HEAD") and incoming.status in (301, 302, 303):
        return f"a {method} is redirected in a way that would make it a GET: set api_base to where it leads"
    if body is not None and not isinstance(body, bytes) and not body.rewindable:
        return "an upload whose file cannot be rewound is not sent again: set api_base to where it leads"
    secret = bool(call.out and call.out.credentials) or body is not None
    if base.origin != call.base.origin:
        if secret:
            return "a redirect to another origin is not followed with a key or a body: set api_base to it"
        if call.base.origin.scheme == "https" and base.origin.scheme == "http":
            return "a redirect from https to http is not followed"
    base.userinfo = None
    return base, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

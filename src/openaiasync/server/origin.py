"""Protection against requests that web pages of other sites send: DNS rebinding, and cross-site forms.

A browser lets any page send simple requests anywhere, such as a form with a file to
``http://127.0.0.1:8000/v1/files``, and a page whose host name resolves to 127.0.0.1 may read the responses as well. The
browser reveals both: it sends the name in ``Host``, and the page in ``Origin`` and ``Sec-Fetch-Site`` (Fetch, section
3.2; Fetch Metadata, section 2.3).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from functools import lru_cache
from urllib.parse import urlsplit

from .errors import HTTPError

__all__ = ["check_host", "check_origin"]

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


def check_host(address: object, host: bytes | None, allowed: Collection[str]) -> None:
    """Raise `HTTPError` (403) for a name of the public DNS if the server was reached over the loopback interface.

    `address` is the server's own, from the ASGI scope. IP addresses, ``localhost`` and names without a dot are
    accepted, since no page of another site can have such a name; other names have to be `allowed`.
    """
    if host is None or not _is_loopback(address):
        return
    name = _public_name(host)
    if name is None or name in allowed:
        return
    raise HTTPError(403, f"This server does not answer to the name {name[:100]!r}.", code="host_not_allowed")


def check_origin(method: str, host: bytes | None, origin: bytes | None, site: bytes | None) -> None:
    """Raise `HTTPError` (403) for a request that changes data and was sent by a page of another site."""
    if method in _READING:
        return
    same = origin is None or (host is not None and _authority(origin) == host.decode("latin-1").lower())
    if (site is not None and site.strip().lower() == b"cross-site") or not same:
        raise HTTPError(403, "Requests from pages of other sites are not allowed.", code="origin_not_allowed")


def _authority(origin: bytes) -> str:
    """Return host and port of an origin in the form of ``Host``, ``""`` for ``null``."""
    try:
        return urlsplit(origin.decode("latin-1").strip().lower()).netloc
    except ValueError:
        return ""


def _name_of(host: str) -> str:
    """Return the name or address of a ``Host`` field, without the port."""
    host = host.strip().lower()
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return name.rstrip(".")


@lru_cache(maxsize=64)  # nearly all requests have the same host
def _public_name(host: bytes) -> str | None:
    """Return the name in a ``Host`` field if it may be one of the public DNS."""
    name = _name_of(host.decode("latin-1"))
    return None if "." not in name or name.endswith(".localhost") or _is_address(name) else name


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=64)  # of a server's own addresses
def _is_loopback(address: object) -> bool:
    try:
        found = ipaddress.ip_address(str(address).partition("%")[0])
    except ValueError:
        return str(address) == "localhost"
    mapped = getattr(found, "ipv4_mapped", None)
    return bool((mapped or found).is_loopback)

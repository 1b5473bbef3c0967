"""HTTP/1.1 requests without I/O (RFC 9112): a head and its framing as bytes, each field on its line."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .grammar import TARGET, field_line, request_line

__all__ = ["authority", "framing", "request_head"]


def authority(scheme: str, host: str, port: int) -> str:
    """Return the value of ``Host`` (RFC 9110, 7.2): IPv6 in brackets, the port unless it is the scheme's default."""
    name = f"[{host}]" if ":" in host else host
    return name if port == (443 if scheme == "https" else 80) else f"{name}:{port}"


def request_head(method: str, target: str, host: str, fields: Iterable[tuple[str, str]]) -> bytes:
    """Return request line, ``Host`` and fields, each with its CRLF, without the empty line that ends a head.

    Raises `ValueError` for anything that could break out of its line; the message does not quote the value.
    """
    line = request_line(method, target)
    if not re.fullmatch(TARGET, host):
        raise ValueError("the host must be printable ASCII without spaces")
    lines = [line, f"Host: {host}\r\n", *(field_line(name, value) for name, value in fields)]
    return "".join(lines).encode("latin-1")


def framing(method: str, length: int | None) -> bytes:
    """Return the field line that frames a request's body; `length` in bytes, `None` for a chunked one.

    Without a body the result is empty for methods that expect none, and a length of 0 for others (RFC 9110, 8.6).
    """
    if length is None:
        return b"Transfer-Encoding: chunked\r\n"
    if length == 0 and method in ("GET", "HEAD", "DELETE", "OPTIONS", "CONNECT"):
        return b""
    return b"Content-Length: %d\r\n" % length

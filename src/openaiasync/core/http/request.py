"""HTTP/1.1 requests without I/O (RFC 9112): head and framing become bytes, and nothing can break out of its line."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["authority", "chunk", "framing", "request_head"]

# Compiled by `re` when they are first asked for: most heads are prebuilt, and a first call should not pay for these.
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_VALUE = r"[\t\x20-\x7e\x80-\xff]*+"
_TARGET = r"[\x21-\x7e]++"


def authority(scheme: str, host: str, port: int) -> str:
    """The value of ``Host``: brackets around IPv6, the port unless it is the scheme's default (RFC 9110, 7.2)."""
    name = f"[{host}]" if ":" in host else host
    return name if port == (443 if scheme == "https" else 80) else f"{name}:{port}"


def request_head(method: str, target: str, host: str, fields: Iterable[tuple[str, str]]) -> bytes:
    """Request line, ``Host`` and fields, each with its CRLF, without the empty line that ends a head.

    Raises `ValueError` for anything that could break out of its line; the message does not quote the value.
    """
    if not re.fullmatch(_TOKEN, method) or not re.fullmatch(_TARGET, target):
        raise ValueError("the request line needs a token as its method and a target in printable ASCII without spaces")
    if not re.fullmatch(_TARGET, host):
        raise ValueError("the host must be printable ASCII without spaces")
    lines = [f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n"]
    for name, value in fields:
        if not re.fullmatch(_TOKEN, name):
            raise ValueError("a header field's name must be a token (RFC 9110, 5.6.2)")
        if not re.fullmatch(_VALUE, value):
            raise ValueError(f"the value of the header field {name} has a control or a non-latin-1 character")
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines).encode("latin-1")


def framing(method: str, length: int | None) -> bytes:
    """The field line that tells how long a request's body is; `length` in bytes, `None` for chunked."""
    if length is None:
        return b"Transfer-Encoding: chunked\r\n"
    if length == 0 and method in ("GET", "HEAD", "DELETE", "OPTIONS", "CONNECT"):
        return b""
    return b"Content-Length: %d\r\n" % length


def chunk(piece: bytes | memoryview) -> bytes:
    """One chunk of a chunked body; an empty piece gives the last one."""
    return b"".join((b"%x\r\n" % len(piece), piece, b"\r\n"))

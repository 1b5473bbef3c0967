"""The grammar of HTTP/1.1 (RFC 9110 and 9112), shared by the client and the server side.

Patterns are plain strings, compiled where they are used or combined into larger ones: most heads that a client writes
are prebuilt, and most responses arrive complete in one read, so a first call should not pay for compiling all of them.
Every repetition is possessive, because no text after one can begin with the repeated characters: no input makes them
backtrack. Errors never quote the peer or the value, which may hold a key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeGuard

__all__ = [
    "CHUNK_EXTENSIONS",
    "CHUNK_SIZE",
    "FIELD_TEXT",
    "MALFORMED",
    "TARGET",
    "TOKEN",
    "TOKEN_BYTES",
    "HTTPGrammarError",
    "chunk",
    "content_length",
    "field_line",
    "field_values",
    "is_token",
    "persists",
    "request_line",
]

TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
"""A method, a field name, a parameter name (RFC 9110, 5.6.2)."""
TOKEN_BYTES = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
FIELD_TEXT = r"[\t\x20-\x7e\x80-\xff]*+"
"""A field value or a reason phrase: visible characters, blanks and obs-text, no control characters (RFC 9110, 5.5)."""
TARGET = r"[\x21-\x7e]++"
"""A request target or an authority: printable ASCII without spaces. Which of its forms it has is not checked."""
CHUNK_SIZE = r"[0-9A-Fa-f]{1,16}+"
CHUNK_EXTENSIONS = rf"[ \t]*+;{FIELD_TEXT}"
"""The extensions after a chunk's size (RFC 9112, 7.1.1). They are not used in practice, so they are not parsed."""
# A bare CR or LF smuggles messages past a proxy that treats it as the end of a line; folded lines are obsolete (RFC
# 9112, 2.2 and 5.2). These are detected before the head is complete, since a head with a bare LF may never have an end.
MALFORMED = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r[^\n]|\r\n[ \t]"


class HTTPGrammarError(ValueError):
    """Bytes that are not HTTP/1.1 as RFC 9112 defines it, or that exceed a limit."""


_token = re.compile(TOKEN).fullmatch
_field_text = re.compile(FIELD_TEXT).fullmatch


def is_token(text: object) -> TypeGuard[str]:
    """Whether a value is a string that may be a method or a field name."""
    return isinstance(text, str) and _token(text) is not None


def request_line(method: str, target: str) -> str:
    """Return a request line with its CRLF. Raises `ValueError` for anything that could break out of it."""
    if not is_token(method) or not re.fullmatch(TARGET, target):
        raise ValueError("the request line needs a token as its method and a target in printable ASCII without spaces")
    return f"{method} {target} HTTP/1.1\r\n"


def field_line(name: str, value: str) -> str:
    """Return a field line with its CRLF. Raises `ValueError`, without the value, for one that could break out of it."""
    if not is_token(name):
        raise ValueError("a header field's name must be a token (RFC 9110, 5.6.2)")
    if not _field_text(value):
        raise ValueError(f"the value of the header field {name} has a control or a non-latin-1 character")
    return f"{name}: {value}\r\n"


def chunk(piece: bytes | memoryview) -> bytes:
    """Return one chunk of a chunked body; an empty piece gives the last one, without trailers."""
    return b"".join((b"%x\r\n" % len(piece), piece, b"\r\n"))


def field_values(lowered: bytes, key: bytes) -> list[bytes]:
    """Return the values of all field lines of one name; `lowered` is a head in lower case, `key` CRLF, name, colon.

    Searching costs less than splitting all of a head: framing depends on three fields of it.
    """
    start = lowered.find(key)
    values: list[bytes] = []
    while start >= 0:
        start += len(key)
        values.append(lowered[start : lowered.find(b"\r", start)].strip(b" \t"))
        start = lowered.find(key, start)
    return values


def content_length(values: Iterable[bytes]) -> int | None:
    """Return the one length that the ``Content-Length`` lines of a message give, `None` without any.

    A list, or repeated lines, of one identical number stand for that number (RFC 9110, 8.6). Raises `HTTPGrammarError`.
    """
    # A sign, an underscore or a blank inside, which Python's `int` accepts, is not a number here: others read it
    # otherwise.
    numbers = {number.strip(b" \t") for value in values for number in value.split(b",")}
    if not numbers:
        return None
    number = numbers.pop()
    if numbers or not number.isdigit() or len(number) > 19:
        raise HTTPGrammarError("a Content-Length that is not one number, or contradicts another")
    return int(number)


def persists(values: Iterable[bytes], *, http_1_0: bool) -> bool:
    """Whether a connection outlives a message with these ``Connection`` lines, in lower case (RFC 9112, 9.3)."""
    options = {option.strip(b" \t") for value in values for option in value.split(b",")}
    # `close` wins over `keep-alive` on any line: keeping a connection that the peer closes loses the next request.
    return b"close" not in options and (not http_1_0 or b"keep-alive" in options)

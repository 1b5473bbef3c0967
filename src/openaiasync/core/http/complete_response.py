"""The usual answer, which comes whole in one read: recognised at once, without a parser's state.

`whole_answer` says `None` to whatever is not plainly usual, and `ResponseParser` looks at that; both make the same of
the same bytes (a property test holds them together).
"""

from __future__ import annotations

import re

__all__ = ["Http1Error", "WholeAnswer", "whole_answer"]

_SHORT = 4_000  # bytes of a head, which then has fewer lines than the cap without being counted
# What a text may not hold is looked for in all of the head at once, which costs a fifth of a check in the pattern.
_USUAL = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9]{2})(?: [^\r\n]*+)?+\r\n((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[^\r\n]*+\r\n)*+)\r\n"
)
# Lowers letters, and makes NUL of what no text may hold.
_LOWERED = bytes(code if code in b"\t\r\n" or 0x20 <= code != 0x7F else 0 for code in bytes(range(256)).lower())


class Http1Error(ValueError):
    """The peer's bytes are not HTTP/1.1 as RFC 9112 wants it, or they are over a cap."""


WholeAnswer = tuple[int, bytes, bytes, bool]
"""Status, field lines, body, and whether that has a content coding. (A named tuple would cost as much as the finds.)"""


def whole_answer(data: bytes) -> WholeAnswer | None:
    """The answer that `data` is from its first byte to its last, if it is of the usual kind; its connection can go on.

    Usual is HTTP/1.1, a final status that has a body, one Content-Length, and none of the fields that change framing or
    persistence (RFC 9112, sections 6 and 9).
    """
    match = _USUAL.match(data)
    if match is None:
        return None
    head = match[0]
    length = len(data) - len(head)
    fields = head.translate(_LOWERED)
    at = fields.find(b"\r\ncontent-length:")
    if (
        at < 0
        or not length
        # Another number is wrong, or written in an odd way.
        or not fields.startswith(b" %d\r" % length, at + 17)
        or fields.find(b"\r\ncontent-length:", at + 17) > 0
        or fields.find(b"\r\ntransfer-encoding:") > 0
        or fields.find(b"\r\nconnection:") > 0
        or 0 in fields
        or len(head) > _SHORT
    ):
        return None
    status = int(match[1])
    if status in (204, 304):
        return None
    return status, match[2], data[-length:], fields.find(b"\r\ncontent-encoding:") > 0

"""HTTP/1.1 answers to bytes, without I/O: the head, and a body framed by length, in chunks, or until close."""

from __future__ import annotations

import time
from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

import msgspec

from .parse import Head

__all__ = ["AnswerFraming", "error_answer"]

_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_BODYLESS: Final = frozenset({204, 304})
_standard: tuple[int, bytes] = (0, b"")


def _standard_fields() -> bytes:
    """Date and Server, made once a second."""
    global _standard
    now = int(time.time())
    if _standard[0] != now:
        _standard = (now, f"date: {formatdate(now, usegmt=True)}\r\nserver: openaiasync\r\n".encode())
    return _standard[1]


def _status_line(status: int) -> bytes:
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def error_answer(status: int, message: str) -> bytes:
    """A whole answer with an OpenAI error object, for what never reaches the application; the connection closes."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    body = msgspec.json.encode({"error": {"message": message, "type": kind, "param": None, "code": None}})
    fields = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
    return _status_line(status) + _standard_fields() + fields + body


class AnswerFraming:
    """Frames one answer. `whole` is the body's size if it is known because the first message is the last.

    `keep_alive` says afterwards whether the connection can carry another request. Raises `RuntimeError` when the
    application's answer cannot be framed: a field with a line break, a body that is not as long as was said.
    """

    __slots__ = ("_chunked", "_owed", "_silent", "head", "keep_alive")

    def __init__(
        self, request: Head, status: int, fields: Iterable[tuple[bytes, bytes]], keep_alive: bool, whole: int | None
    ) -> None:
        bodyless = status in _BODYLESS
        self._silent = bodyless or request.method == "HEAD"
        self._owed: int | None = None  # bytes of body still to come, by Content-Length
        self._chunked = False
        parts = [_status_line(status), _standard_fields()]
        for name, value in fields:
            lower = name.lower()
            if lower == b"transfer-encoding":
                continue
            if lower == b"connection" and value.lower() == b"close":
                keep_alive = False
                continue
            if lower == b"content-length":
                self._owed = int(value)
            parts.append(b"%b: %b\r\n" % (name, value))
        if self._owed is None and not bodyless:
            if whole is not None:
                self._owed = whole
                if whole or not self._silent:
                    parts.append(b"content-length: %d\r\n" % whole)
            elif request.version == "1.1":
                self._chunked = True
                parts.append(b"transfer-encoding: chunked\r\n")
            else:
                keep_alive = False
        if not keep_alive:
            parts.append(b"connection: close\r\n")
        elif request.version == "1.0":
            parts.append(b"connection: keep-alive\r\n")
        parts.append(b"\r\n")
        self.head: bytes = b"".join(parts)
        if self.head.count(b"\n") != len(parts) + 1 or self.head.count(b"\r") != len(parts) + 1:
            raise RuntimeError("a header field holds a line break")
        self.keep_alive: bool = keep_alive

    def body(self, data: bytes, more: bool) -> bytes:
        """A piece of the body as it goes on the wire."""
        if self._silent:
            return b""
        if self._chunked:
            chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            return chunk if more else chunk + b"0\r\n\r\n"
        if self._owed is not None:
            self._owed -= len(data)
            if self._owed < 0 or (self._owed and not more):
                raise RuntimeError("the body is not as long as its Content-Length says")
        return data

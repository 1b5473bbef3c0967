"""The errors of the server: an HTTP status and an OpenAI error object."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, cast

from ..core.http.grammar import FIELD_TEXT, TOKEN

__all__ = ["HTTPError", "described", "http_error_in"]

_NAME: Final = re.compile(TOKEN.encode())
_VALUE: Final = re.compile(FIELD_TEXT.encode())
_LONGEST: Final = 2_000  # characters of an exception that is shown to a client
_MEMBERS: Final = 8  # exceptions of a group that are shown, and levels of groups in groups; in all its square


def _text(value: object) -> str:
    """Return the text of a value with lone surrogates escaped, which UTF-8 cannot encode."""
    return str(value).encode("utf-8", "backslashreplace").decode()


def described(error: BaseException) -> str:
    """Return type, text and notes of an exception, and those of the exceptions in a group, in at most 2,000 characters.

    Never raises, even if the text of the exception does.
    """
    text = "\n".join(islice(_lines(error, 0), _MEMBERS**2))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text)} characters)"


def _lines(error: BaseException, depth: int) -> Iterator[str]:
    group = _group_of(error)
    if group is None:
        # It has a placeholder for a text that cannot be made.
        yield "  " * depth + "".join(traceback.format_exception_only(error)).strip()
        return
    # For a group it would read all groups within, which may have millions of members.
    members = group.exceptions
    count = f"{len(members)} sub-exception{'s' if len(members) > 1 else ''}"
    yield f"{'  ' * depth}{type(error).__name__}: {group.message} ({count})"
    notes: Any = getattr(error, "__notes__", None)
    if isinstance(notes, list):
        yield from (note for note in cast("list[object]", notes) if isinstance(note, str))
    if depth < _MEMBERS:
        for member in members[:_MEMBERS]:
            yield from _lines(member, depth + 1)
        if len(members) > _MEMBERS:
            yield f"{'  ' * (depth + 1)}and {len(members) - _MEMBERS} more"


def _group_of(error: BaseException) -> BaseExceptionGroup[BaseException] | None:
    return cast("BaseExceptionGroup[BaseException]", error) if isinstance(error, BaseExceptionGroup) else None


def http_error_in(error: BaseException) -> HTTPError | None:
    """Return the `HTTPError` that an exception is, or that is all a group holds, as the group of an `asyncio.TaskGroup`
    whose task raised it; `None` for anything else.
    """
    while (group := _group_of(error)) is not None and len(group.exceptions) == 1:
        error = group.exceptions[0]
    return error if isinstance(error, HTTPError) else None


class HTTPError(Exception):
    """An answer with an error object; may be raised anywhere in a handler.

    `status` is from 400 to 599 and `fields` are pairs of bytes without line breaks; otherwise `ValueError` is raised.
    `param` names the parameter at fault; `code` is an identifier for programs, such as ``"model_not_found"``; `fields`
    are additional header fields. `kind` is the object's ``type``, by default derived from the status.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        kind: str | None = None,
        fields: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        if not 400 <= status <= 599:
            raise ValueError(f"an HTTPError has a status from 400 to 599, not {status}")
        for name, value in fields:
            if type(name) is not bytes or type(value) is not bytes:
                raise ValueError(f"the header field {name!r} of an HTTPError and its value have to be bytes")
            if not (_NAME.fullmatch(name) and _VALUE.fullmatch(value)):
                raise ValueError(f"HTTP cannot carry the header field {name!r} of an HTTPError: {value!r}")
        message = _text(message)
        super().__init__(message)
        self.status = status
        self.message = message
        self.param: str | None = None if param is None else _text(param)
        self.code: str | None = None if code is None else _text(code)
        self.kind: str = _text(kind) if kind else ("server_error" if status >= 500 else "invalid_request_error")
        self.fields = fields

    def to_dict(self) -> dict[str, Any]:
        """Return the body of the response."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

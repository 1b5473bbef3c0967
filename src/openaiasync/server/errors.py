"""The errors of the server: an HTTP status and an OpenAI error object."""

from __future__ import annotations

import re
from typing import Any, Final

from ..core.http.grammar import FIELD_TEXT, TOKEN

__all__ = ["HTTPError"]


_NAME: Final = re.compile(TOKEN.encode())
_VALUE: Final = re.compile(FIELD_TEXT.encode())


def _text(value: object) -> str:
    """Return a text that JSON in UTF-8 can carry: no lone surrogates; the value may be another exception."""
    return str(value).encode("utf-8", "backslashreplace").decode()


class HTTPError(Exception):
    """An answer with an error object; may be raised anywhere in a handler.

    `status` is from 400 to 599 and `fields` are pairs of bytes without line breaks; otherwise `ValueError` is raised.
    `param` names the parameter at fault; `code` is an
    identifier for programs, such as ``"model_not_found"``; `fields` are additional header fields. `kind` is the
    object's ``type``, by default derived from the status.
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

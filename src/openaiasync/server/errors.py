"""The errors of the server: an HTTP status and an OpenAI error object."""

from __future__ import annotations

from typing import Any

__all__ = ["HTTPError"]


class HTTPError(Exception):
    """An answer with an error object; may be raised anywhere in a handler.

    `status` is from 400 to 599, otherwise `ValueError` is raised. `param` names the parameter at fault; `code` is an
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
        # A message may be another exception's, or have lone surrogates, which JSON in UTF-8 cannot carry.
        message = str(message).encode("utf-8", "backslashreplace").decode()
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.kind: str = kind or ("server_error" if status >= 500 else "invalid_request_error")
        self.fields = fields

    def to_dict(self) -> dict[str, Any]:
        """Return the body of the response."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

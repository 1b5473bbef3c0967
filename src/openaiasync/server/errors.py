"""What the server says when it will not do what was asked: an HTTP status and an OpenAI error object."""

from __future__ import annotations

from typing import Any

__all__ = ["HTTPError", "wrong_kind"]


class HTTPError(Exception):
    """Raised anywhere in the server to answer with an error object.

    `param` names the request's parameter at fault; `code` is a word a program can act on; `fields` are further header
    fields. `kind` is the object's ``type``; by default it follows from the status.
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
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.kind: str = kind or ("server_error" if status >= 500 else "invalid_request_error")
        self.fields = fields

    def to_dict(self) -> dict[str, Any]:
        """The answer's body."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


def wrong_kind(model: str, use: str) -> HTTPError:
    """The refusal for a model that is there but does something else."""
    return HTTPError(404, f"The model {model!r} does not do {use}.", param="model", code="model_not_supported")

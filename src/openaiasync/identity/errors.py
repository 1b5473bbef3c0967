"""What goes wrong before a token can be exchanged; a refused exchange is an `OAuthError`."""

from __future__ import annotations

from typing import Any

from ..errors import OpenAIError

__all__ = ["SubjectTokenProviderError"]


class SubjectTokenProviderError(OpenAIError):
    """A token provider could not prove who this workload is. `response` is the metadata server's answer, if one came.

    The answer's body is left out: it may hold a token.
    """

    def __init__(self, message: str, *, response: Any = None) -> None:
        super().__init__(message)
        self.response: Any = response

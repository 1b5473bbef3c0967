"""Estimates of a row's tokens before it is sent, by which limits on tokens are booked."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

__all__ = ["MOST_TOKENS", "TokenEstimate", "Usage", "model_of", "usage_of"]

BYTES_A_TOKEN = 4.0  # bytes per token of JSON in English; `TokenEstimate.seen` corrects it for other texts
MEDIA_TOKENS = 1000.0  # tokens for each image or sound inside a body
_MEDIA = re.compile(rb'base64,[A-Za-z0-9+/=]{256,}|"data" ?: ?"[A-Za-z0-9+/=]{256,}')
_MEDIA_SIZE = 2048  # bytes; a smaller body has no image or sound
_RISE, _FALL = 0.9, 0.1


class Usage(NamedTuple):
    """The tokens of one answer by the server's count."""

    input: int
    output: int


MOST_TOKENS = 10**9  # of one answer; a larger count is nonsense, and sums of such counts could not be stored


def usage_of(answer: Any) -> Usage | None:
    """Return the usage in an answer; `None` if it is missing or impossible."""
    usage = getattr(answer, "usage", None)
    if usage is None:
        return None
    spent = getattr(usage, "prompt_tokens", None)
    made = getattr(usage, "completion_tokens", None)
    if spent is None:
        spent, made = getattr(usage, "input_tokens", None), getattr(usage, "output_tokens", None)
    if not isinstance(spent, int) or not 0 <= spent <= MOST_TOKENS:
        return None
    return Usage(spent, made if isinstance(made, int) and 0 <= made <= MOST_TOKENS else 0)


class _Named(msgspec.Struct, gc=False):
    model: Any = None


_named = msgspec.json.Decoder(_Named)


def model_of(body: object) -> str:
    """Return the model that a request's JSON body names, ``""`` if none."""
    if not isinstance(body, bytes):
        return ""
    try:
        model = _named.decode(body).model
    except (ValueError, RecursionError):
        return ""
    return model if isinstance(model, str) else ""


class TokenEstimate:
    """Estimates the tokens of a row, from the size of its body and the 90th percentile of the answers so far.

    `seen` updates both with every answer: the mean number of bytes per token of a prompt, and the moving 90th
    percentile of the output.
    """

    __slots__ = ("_output", "_ratio", "_rows")

    def __init__(self) -> None:
        self._ratio = 1.0 / BYTES_A_TOKEN
        self._output = 0.0
        self._rows = 0

    def of(self, body: object) -> float:
        """Return the tokens of prompt and answer together."""
        return self._size(body) * self._ratio + self._output

    def parts(self, body: object) -> tuple[float, float]:
        """Return the tokens of the prompt, and of the answer."""
        return self._size(body) * self._ratio, self._output

    def _size(self, body: object) -> float:
        if not isinstance(body, bytes):
            return 0.0
        size = float(len(body))
        if size > _MEDIA_SIZE and (found := _MEDIA.findall(body)):
            size += len(found) * MEDIA_TOKENS / self._ratio - sum(map(len, found))
        return size

    def seen(self, body: object, usage: Usage) -> None:
        """Update the estimates with the tokens that a row used."""
        self._rows += 1
        if (size := self._size(body)) > 0 and usage.input > 0:
            self._ratio += (usage.input / size - self._ratio) / min(self._rows, 200)
        if self._rows == 1:
            self._output = float(usage.output)
            return
        step = max(1.0, 0.05 * self._output)
        self._output = max(0.0, self._output + step * (_RISE if usage.output > self._output else -_FALL))

"""What embeddings need beside the general way: vectors are checked, and base64 that the caller named stays text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from ..answers import EmbeddingValue, return_base64
from ..core.endpoint import Request

__all__ = ["NO_VECTOR", "fault"]

NO_VECTOR = "the answer holds no embedding"


def fault(request: Request, answer: Any) -> str:
    """What is wrong with an answer without a single vector, or with what is none; `""` if nothing is.

    Base64 is left as text to who asked for it.
    """
    if not answer.data:
        return NO_VECTOR
    items: Any = answer.data
    if not isinstance(items, list) or not all(map(_is_vector, cast("Sequence[Any]", items))):
        return "an embedding that is no vector"
    if request.as_base64:
        return_base64(answer)
    return ""


def _is_vector(item: Any) -> bool:
    value: Any = getattr(item, "value", None) if isinstance(item, EmbeddingValue) else None
    return isinstance(value, list) or (isinstance(value, bytes) and len(value) % 4 == 0)

"""What embeddings need beside the general way: base64 asked for, and handed back as text only to who named it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from ..answers import EmbeddingValue, return_base64
from ..core.endpoint import Request
from ..omitted import is_omitted

__all__ = ["NO_VECTOR", "fault", "prepare"]

NO_VECTOR = "the answer holds no embedding"


def prepare(params: dict[str, Any]) -> dict[str, Any]:
    """Ask for base64 unless the caller says otherwise: a quarter of the bytes, a tenth of the work."""
    wanted = params.get("encoding_format")
    return {**params, "encoding_format": "base64"} if wanted is None or is_omitted(wanted) else params


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

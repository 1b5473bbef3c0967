"""What answers with embeddings are held to: a vector for each text, in whatever form it came."""

from __future__ import annotations

import binascii
import json
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, cast

from ..core.codec.endpoint import Request
from ..core.model.mixins import EmbeddingValue, return_base64
from ..core.model.plain import is_list

__all__ = ["NO_VECTOR", "as_embeddings", "count_texts", "fault"]

NO_VECTOR = "the answer holds no embedding"
_BLANK = str.maketrans("", "", " \t\r\n")


def count_texts(params: Mapping[str, Any]) -> int:
    """How many texts are to be embedded; 0 where that cannot be told. A list of numbers is one text."""
    texts = params.get("input")
    extra = params.get("extra_body")
    if isinstance(extra, Mapping) and "input" in extra:
        texts = cast("Mapping[str, Any]", extra)["input"]
    if isinstance(texts, str):
        return 1
    if not isinstance(texts, (list, tuple)) or not texts:
        return 0
    items = cast("Sequence[Any]", texts)
    return 1 if isinstance(items[0], int) else len(items)


def fault(request: Request, answer: Any) -> str:
    """What is wrong with an answer that does not hold one vector for each text; `""` if nothing is.

    Vectors in other forms are put right, and base64 is left as text to who asked for it.
    """
    if not answer.data:
        return NO_VECTOR
    items: Any = answer.data
    if not isinstance(items, list) or not all(map(_put_right, cast("Sequence[Any]", items))):
        return "an embedding is not a vector"
    items = cast("Sequence[Any]", items)
    if request.texts and len(items) != request.texts:
        return f"{_counted(len(items), 'vector')} came for {_counted(request.texts, 'text')}"
    # Some servers give all vectors the index 0, which says nothing; the order is that of the texts then.
    places = {item.index for item in items if type(item.index) is int}
    if 1 < len(places) < sum(type(item.index) is int for item in items):
        return "two vectors came for one text"
    if request.as_base64:
        return_base64(answer)
    return ""


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _put_right(item: Any) -> bool:
    """Whether an item holds a vector, after having been read from the other forms that servers send one in."""
    if not isinstance(item, EmbeddingValue):
        return False
    value: Any = cast("Any", item).value
    if isinstance(value, str):
        value = cast("Any", item).value = _from_text(value)
    if isinstance(value, bytes):
        return bool(value) and len(value) % 4 == 0
    if not is_list(value) or not value:
        return False
    numbers = value
    if len(numbers) == 1 and is_list(numbers[0]):  # llama.cpp without pooling, of a single token
        numbers = numbers[0]
        cast("Any", item).value = numbers
    try:
        return bool(array("d", numbers))
    except (TypeError, OverflowError):
        pass
    try:
        cast("Any", item).value = [float(number) for number in numbers]  # numbers in quotes
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _from_text(text: str) -> Any:
    """A vector that came as text: JSON, or base64 with line breaks or without its padding."""
    text = text.translate(_BLANK)
    try:
        if text.startswith("["):
            return json.loads(text)
        return binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
    except (ValueError, RecursionError):
        return text


def as_embeddings(value: Any) -> Any:
    """An answer's plain values where a server sends the bare list of its items, or of its vectors (TEI)."""
    if not is_list(value):
        return value
    items: list[Any] = [
        {"embedding": item, "index": i} if isinstance(item, list) else item for i, item in enumerate(value)
    ]
    return {"object": "list", "data": items}

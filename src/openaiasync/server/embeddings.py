"""Embeddings: texts or token ids in, vectors out as floats or as base64 of little-endian 32-bit floats."""

from __future__ import annotations

import asyncio
import struct
import time
from base64 import b64encode
from typing import Any

from .errors import HTTPError
from .models.base import EmbeddingModel
from .models.tokens import count_tokens

__all__ = ["answer_embeddings"]

_TURN = 0.02  # seconds of work before other calls get their turn


def _inputs(value: Any) -> list[str | list[int]]:
    if isinstance(value, str):
        return [value]
    return [value] if isinstance(value[0], int) else value


async def answer_embeddings(model: EmbeddingModel, body: dict[str, Any]) -> dict[str, Any]:
    """The answer to a checked request. Raises `HTTPError` (400) for an empty or too long input."""
    inputs = _inputs(body["input"])
    dimensions = body.get("dimensions") or model.dimensions
    base64 = body.get("encoding_format") == "base64"
    pack = struct.Struct(f"<{dimensions}f").pack
    data: list[dict[str, Any]] = []
    tokens = 0
    turn = time.monotonic()
    for index, item in enumerate(inputs):
        param = "input" if inputs[0] is body["input"] else f"input[{index}]"
        if not item:
            raise HTTPError(400, f"'{param}' is empty.", param=param, code="invalid_value")
        size = len(item) if isinstance(item, list) else count_tokens(item)
        if size > model.max_tokens:
            message = f"'{param}' has {size} tokens; this model takes {model.max_tokens}."
            raise HTTPError(400, message, param=param, code="context_length_exceeded")
        tokens += size
        vector = model.embed(item, dimensions)
        embedding: Any = b64encode(pack(*vector)).decode() if base64 else vector
        data.append({"object": "embedding", "index": index, "embedding": embedding})
        if time.monotonic() - turn > _TURN:
            await asyncio.sleep(0)
            turn = time.monotonic()
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": model.id, "usage": usage}

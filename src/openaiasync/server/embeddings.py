"""Embeddings, as floats or as base64 of little-endian 32-bit floats; and moderation, which takes texts as well."""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from ..core.model.plain import is_dict, is_list
from ..lazy import resolve_annotations
from .context import RequestContext
from .errors import HTTPError
from .handlers import whole_result
from .ids import random_hex
from .pieces import plain
from .requests import EmbeddingRequest, ModerationRequest
from .tokens import count_texts

if TYPE_CHECKING:
    from .app import Server

__all__ = ["create_embeddings", "create_moderation"]

_CATEGORIES: Final = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm",
    "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic",
)  # fmt: skip
_FLAGGED: Final = 0.5  # the score from which a category counts as true


async def create_embeddings(app: Server, context: RequestContext) -> None:
    """Serve ``POST /embeddings``: the handler returns a vector for each input, or a whole answer."""
    body = await app.read_body(context)
    handler = app.handlers.find("embedding", body["model"])
    request = EmbeddingRequest(body, context)
    for place, item in enumerate(request.inputs):
        if not item:
            param = "input" if request.inputs[0] is body["input"] else f"input[{place}]"
            raise HTTPError(400, f"'{param}' is empty.", param=param, code="invalid_value")
    async with app.admitted(context):
        async with context.presence():
            result = plain(await whole_result(handler, request))
        answer: dict[str, Any] = result if is_dict(result) else {"data": _data(result, len(request.inputs))}
        wanted = request.dimensions
        for item in answer["data"]:
            if wanted is not None and is_list(item["embedding"]) and len(item["embedding"]) != wanted:
                message = f"This model's vectors have {len(item['embedding'])} dimensions, not {wanted}."
                raise HTTPError(400, message, param="dimensions", code="invalid_value")
            if body.get("encoding_format") == "base64" and not isinstance(item["embedding"], str):
                vector = item["embedding"]
                item["embedding"] = b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        if "usage" not in answer:
            tokens = sum(len(one) for one in request.inputs if not isinstance(one, str))
            tokens += count_texts([one for one in request.inputs if isinstance(one, str)])
            answer["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
        app.spend(context, answer["usage"]["total_tokens"])
        await context.send_json({"object": "list", "model": request.model, **answer})


def _data(vectors: Any, expected: int) -> list[dict[str, Any]]:
    # vectors of NumPy and similar libraries
    vectors = vectors.tolist() if hasattr(vectors, "tolist") else list(vectors)
    if len(vectors) != expected:
        raise ValueError(f"the embedding handler returned {len(vectors)} vectors for {expected} inputs")
    return [
        {"object": "embedding", "index": index, "embedding": _vector(one)}
        for index, one in enumerate(cast("Sequence[Any]", vectors))
    ]


def _vector(value: Any) -> list[float]:
    numbers: Any = value.tolist() if hasattr(value, "tolist") else list(value)
    try:
        return msgspec.convert(numbers, list[float])
    except msgspec.ValidationError as error:
        raise TypeError(f"the embedding handler returned a vector that is not a list of numbers: {error}") from None


async def create_moderation(app: Server, context: RequestContext) -> None:
    """Serve ``POST /moderations``: the handler returns scores by category for each input, or a whole answer."""
    body = await app.read_body(context)
    handler = app.handlers.find("moderation", body.get("model") or "")
    request = ModerationRequest(body, context)
    async with app.admitted(context):
        async with context.presence():
            result = plain(await whole_result(handler, request))
        app.spend(context, count_texts([one for one in request.inputs if isinstance(one, str)]))
        if is_dict(result) and "results" in result:
            await context.send_json(result)
            return
        scores: list[dict[str, float]] = list(result) if is_list(result) else [result]
        if len(scores) != len(request.inputs):
            raise ValueError(f"the moderation handler returned {len(scores)} results for {len(request.inputs)} inputs")
        answer = {"id": f"modr-{random_hex()}", "model": request.model or "moderation"}
        await context.send_json({**answer, "results": [_moderation(one) for one in scores]})


def _moderation(scores: dict[str, float]) -> dict[str, Any]:
    names = dict.fromkeys([*_CATEGORIES, *scores])
    found = {name: float(scores.get(name, 0.0)) for name in names}
    categories = {name: score >= _FLAGGED for name, score in found.items()}
    types = {name: ["text"] for name in names}
    return {
        "flagged": any(categories.values()),
        "categories": categories,
        "category_scores": found,
        "category_applied_input_types": types,
    }


resolve_annotations(__name__)

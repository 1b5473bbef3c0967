"""What telemetry says of a request: operation, provider, server, and the parameters that the conventions name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import msgspec

from ..core.codec.endpoint import Request
from .response import clean

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

    from ..engine.call import Call

    Attributes = dict[str, AttributeValue]

__all__ = ["operation_of", "provider_of", "request_attributes"]

# Operations that the conventions name; all others go by the method's own name.
_OPERATIONS = {
    "beta.assistants.create": "create_agent",
    "beta.threads.create_and_run": "invoke_agent",
    "beta.threads.runs.create": "invoke_agent",
    "chat.completions.create": "chat",
    "completions.create": "text_completion",
    "embeddings.create": "embeddings",
    "responses.create": "chat",
    "responses.retrieve": "fetch_response",
    "vector_stores.search": "retrieval",
}
_API_TYPES = {"chat.completions.create": "chat_completions", "responses.create": "responses"}
_PROVIDERS = {
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "amazonaws.com": "aws.bedrock",
    "anthropic.com": "anthropic",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
    "cognitiveservices.azure.com": "azure.ai.openai",
    "cohere.ai": "cohere",
    "cohere.com": "cohere",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "ml.cloud.ibm.com": "ibm.watsonx.ai",
    "models.ai.azure.com": "azure.ai.inference",
    "moonshot.ai": "moonshot_ai",
    "moonshot.cn": "moonshot_ai",
    "openai.azure.com": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.inference",
}
_PARTS = re.compile(rb'; name="(\w+)"')
_LONGEST_FIELD = 1000  # bytes of a form's field that are looked at


class _RequestFacts(msgspec.Struct):
    """The fields of any request that the conventions have attributes for."""

    assistant_id: Any = None
    conversation: Any = None
    dimensions: Any = None
    encoding_format: Any = None
    frequency_penalty: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None
    max_tokens: Any = None
    modalities: Any = None
    model: Any = None
    n: Any = None
    presence_penalty: Any = None
    response_format: Any = None
    seed: Any = None
    service_tier: Any = None
    stop: Any = None
    temperature: Any = None
    text: Any = None
    top_k: Any = None
    top_p: Any = None


_decode = msgspec.json.Decoder(_RequestFacts).decode


def operation_of(request: Request) -> str:
    """``gen_ai.operation.name``."""
    name = request.endpoint.name
    return _OPERATIONS.get(name, name)


def provider_of(host: str) -> str:
    """``gen_ai.provider.name`` by the host; servers that nobody knows speak OpenAI's dialect, so "openai"."""
    while host:
        if host in _PROVIDERS:
            return _PROVIDERS[host]
        host = host.partition(".")[2]
    return "openai"


def request_attributes(call: Call, provider: str) -> Attributes:
    """The attributes of a span at its start."""
    request, origin = call.request, call.base.origin
    asked = _asked(request)
    found: dict[str, Any] = {
        "gen_ai.operation.name": operation_of(request),
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": _text(asked.model),
        "server.address": origin.host,
        "server.port": origin.port,
        "gen_ai.agent.id": _text(asked.assistant_id),
        "gen_ai.conversation.id": _text(_inner(asked.conversation, "id") or asked.conversation),
        "gen_ai.embeddings.dimension.count": _whole(asked.dimensions),
        "gen_ai.output.type": _output_type(request, asked),
        "gen_ai.request.choice.count": None if asked.n == 1 else _whole(asked.n),
        "gen_ai.request.encoding_formats": _texts(asked.encoding_format),
        "gen_ai.request.frequency_penalty": _number(asked.frequency_penalty),
        "gen_ai.request.max_tokens": next(
            filter(None, map(_whole, (asked.max_completion_tokens, asked.max_output_tokens, asked.max_tokens))), None
        ),
        "gen_ai.request.presence_penalty": _number(asked.presence_penalty),
        "gen_ai.request.seed": _whole(asked.seed),
        "gen_ai.request.stop_sequences": _texts(asked.stop),
        "gen_ai.request.stream": request.stream or None,
        "gen_ai.request.temperature": _number(asked.temperature),
        "gen_ai.request.top_k": _number(asked.top_k),
        "gen_ai.request.top_p": _number(asked.top_p),
    }
    if request.endpoint.name == "vector_stores.search":
        found["gen_ai.data_source.id"] = request.path.split("/")[2]
    if provider == "openai":
        found["openai.api.type"] = _API_TYPES.get(request.endpoint.name)
        found["openai.request.service_tier"] = None if asked.service_tier == "auto" else _text(asked.service_tier)
    return {name: value for name, value in found.items() if value is not None}


def _asked(request: Request) -> _RequestFacts:
    body = request.body
    if isinstance(body, bytes):
        try:
            return _decode(body)
        except msgspec.DecodeError:
            return _RequestFacts()  # extra_body may be anything
    asked = _RequestFacts()
    for part in getattr(body, "parts", ()):
        name, content = _PARTS.search(part.head), part.content
        if name is not None and isinstance(content, bytes) and len(content) < _LONGEST_FIELD:
            field = name[1].decode()
            if field in ("model", "response_format"):
                setattr(asked, field, content.decode("utf-8", "replace"))
    return asked


def _output_type(request: Request, asked: _RequestFacts) -> str | None:
    name = request.endpoint.name
    if name.startswith("images."):
        return "image"
    if name == "audio.speech.create" or "audio" in (_texts(asked.modalities) or ()):
        return "speech"
    kind = _inner(asked.response_format, "type") or _inner(_inner(asked.text, "format"), "type")
    if kind in ("json_object", "json_schema"):
        return "json"
    return "text" if kind == "text" else None


def _inner(value: Any, name: str) -> Any:
    return cast("dict[str, Any]", value).get(name) if isinstance(value, dict) else None


def _text(value: Any) -> str | None:
    return clean(value) if isinstance(value, str) and value else None


def _texts(value: Any) -> list[str] | None:
    if isinstance(value, str):
        return [clean(value)]
    if isinstance(value, list):
        return [clean(text) for text in cast("Sequence[Any]", value) if isinstance(text, str)]
    return None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None

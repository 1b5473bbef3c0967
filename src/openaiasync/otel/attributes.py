"""The attributes of spans and metrics, from requests and from answers, whole or event by event.

Names are those of the semantic conventions for generative AI. Answers may be non-conforming, so every type is checked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import msgspec

from ..core.codec.endpoint import Request
from ..lazy import resolve_annotations

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

    from ..engine.call import Call

    Attributes = dict[str, AttributeValue]

__all__ = ["ResponseFacts", "clean", "operation_of", "provider_of", "request_attributes"]

# Operations that the conventions name; all others have the method's name.
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
_LONGEST_FIELD = 1000  # bytes: longer fields of a form are not read


class _RequestFacts(msgspec.Struct):
    """The request fields that have attributes in the conventions."""

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
    """Return ``gen_ai.operation.name``."""
    name = request.endpoint.name
    return _OPERATIONS.get(name, name)


def provider_of(host: str) -> str:
    """Return ``gen_ai.provider.name`` for a host; "openai" for unknown servers, which speak its API."""
    while host:
        if host in _PROVIDERS:
            return _PROVIDERS[host]
        host = host.partition(".")[2]
    return "openai"


def request_attributes(call: Call, provider: str) -> Attributes:
    """Return the attributes of a span at its start."""
    request, origin = call.request, call.base.origin
    facts = _facts(request)
    found: dict[str, Any] = {
        "gen_ai.operation.name": operation_of(request),
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": _text(facts.model),
        "server.address": origin.host,
        "server.port": origin.port,
        "gen_ai.agent.id": _text(facts.assistant_id),
        "gen_ai.conversation.id": _text(_inner(facts.conversation, "id") or facts.conversation),
        "gen_ai.embeddings.dimension.count": _whole(facts.dimensions),
        "gen_ai.output.type": _output_type(request, facts),
        "gen_ai.request.choice.count": None if facts.n == 1 else _whole(facts.n),
        "gen_ai.request.encoding_formats": _texts(facts.encoding_format),
        "gen_ai.request.frequency_penalty": _number(facts.frequency_penalty),
        "gen_ai.request.max_tokens": next(
            filter(None, map(_whole, (facts.max_completion_tokens, facts.max_output_tokens, facts.max_tokens))), None
        ),
        "gen_ai.request.presence_penalty": _number(facts.presence_penalty),
        "gen_ai.request.seed": _whole(facts.seed),
        "gen_ai.request.stop_sequences": _texts(facts.stop),
        "gen_ai.request.stream": request.stream or None,
        "gen_ai.request.temperature": _number(facts.temperature),
        "gen_ai.request.top_k": _number(facts.top_k),
        "gen_ai.request.top_p": _number(facts.top_p),
    }
    if request.endpoint.name == "vector_stores.search":
        found["gen_ai.data_source.id"] = request.path.split("/")[2]
    if provider == "openai":
        found["openai.api.type"] = _API_TYPES.get(request.endpoint.name)
        found["openai.request.service_tier"] = None if facts.service_tier == "auto" else _text(facts.service_tier)
    return {name: value for name, value in found.items() if value is not None}


def _facts(request: Request) -> _RequestFacts:
    body = request.body
    if isinstance(body, bytes):
        try:
            return _decode(body)
        except msgspec.DecodeError:
            return _RequestFacts()  # `extra_body` can replace the body by any value
    facts = _RequestFacts()
    for part in getattr(body, "parts", ()):
        name, content = _PARTS.search(part.head), part.content
        if name is not None and isinstance(content, bytes) and len(content) < _LONGEST_FIELD:
            field = name[1].decode()
            if field in ("model", "response_format"):
                setattr(facts, field, content.decode("utf-8", "replace"))
    return facts


def _output_type(request: Request, facts: _RequestFacts) -> str | None:
    name = request.endpoint.name
    if name.startswith("images."):
        return "image"
    if name == "audio.speech.create" or "audio" in (_texts(facts.modalities) or ()):
        return "speech"
    kind = _inner(facts.response_format, "type") or _inner(_inner(facts.text, "format"), "type")
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


# ---------------------------------------------------------------- answers

# Details of `usage`, and their names in the conventions.
_OF_INPUT = {
    "cached_tokens": "gen_ai.usage.cache_read.input_tokens",
    "cache_write_tokens": "gen_ai.usage.cache_creation.input_tokens",
    "audio_tokens": "gen_ai.usage.audio.input_tokens",
    "image_tokens": "gen_ai.usage.image.input_tokens",
    "text_tokens": "gen_ai.usage.text.input_tokens",
}
_OF_OUTPUT = {
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
    "audio_tokens": "gen_ai.usage.audio.output_tokens",
    "text_tokens": "gen_ai.usage.text.output_tokens",
}


class ResponseFacts:
    """The attributes of an answer, or of a stream's events so far."""

    def __init__(self) -> None:
        self.id: str | None = None
        self.model: str | None = None
        self.service_tier: str | None = None
        self.fingerprint: str | None = None
        self.input_tokens: int | None = None
        self.output_tokens: int | None = None
        self._reasons: dict[int, str] = {}
        self._usage: Any = None

    def take(self, item: Any) -> None:
        """Add an answer, a chunk or an event."""
        inner = getattr(item, "response", None)
        if inner is not None and str(getattr(item, "type", "")).startswith("response."):
            item = inner
        if self.id is None:
            self.id = _text(getattr(item, "id", None))
        if self.model is None:
            self.model = _text(getattr(item, "model", None))
        self.service_tier = _text(getattr(item, "service_tier", None)) or self.service_tier
        self.fingerprint = _text(getattr(item, "system_fingerprint", None)) or self.fingerprint
        choices: Any = getattr(item, "choices", None)
        if isinstance(choices, list):
            for at, choice in enumerate(cast("Sequence[Any]", choices)):
                self._take_reason(getattr(choice, "index", at), getattr(choice, "finish_reason", None))
        elif getattr(item, "object", None) == "response":
            why = getattr(getattr(item, "incomplete_details", None), "reason", None)
            status: Any = getattr(item, "status", None)
            if status not in ("in_progress", "queued"):
                self._take_reason(0, why or status)
        usage: Any = getattr(item, "usage", None)
        if usage is not None:
            self._usage = usage
            self.input_tokens = _first(usage, "prompt_tokens", "input_tokens")
            self.output_tokens = _first(usage, "completion_tokens", "output_tokens")

    def _take_reason(self, at: Any, reason: Any) -> None:
        if isinstance(reason, str) and isinstance(at, int):
            self._reasons[at] = clean(reason)

    def attributes(self, provider: str, usage: bool) -> Attributes:
        """Return the attributes of a span at its end; without `usage`, those of tokens are left out."""
        found: dict[str, Any] = {
            "gen_ai.response.id": self.id,
            "gen_ai.response.model": self.model,
            "gen_ai.response.finish_reasons": [self._reasons[at] for at in sorted(self._reasons)] or None,
        }
        if provider == "openai":
            found["openai.response.service_tier"] = self.service_tier
            found["openai.response.system_fingerprint"] = self.fingerprint
        if usage and self._usage is not None:
            found["gen_ai.usage.input_tokens"] = self.input_tokens
            found["gen_ai.usage.output_tokens"] = self.output_tokens
            found |= _details(self._usage, _OF_INPUT, "prompt_tokens_details", "input_tokens_details")
            found |= _details(self._usage, _OF_OUTPUT, "completion_tokens_details", "output_tokens_details")
        return {name: value for name, value in found.items() if value is not None}


def _details(usage: Any, names: dict[str, str], *where: str) -> dict[str, int | None]:
    details = next((found for name in where if (found := getattr(usage, name, None)) is not None), None)
    return {attribute: _first(details, name) for name, attribute in names.items()}


def _first(holder: Any, *names: str) -> int | None:
    """Return the first of these attributes that is a whole number."""
    for name in names:
        value: Any = getattr(holder, name, None)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def clean(text: str) -> str:
    """Return the text as valid UTF-8: an exporter would lose its whole batch over one lone surrogate."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


resolve_annotations(__name__)

"""What telemetry says of an answer, whole or as its events come. Answers may stray: nothing here trusts a type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

    Attributes = dict[str, AttributeValue]

__all__ = ["ResponseFacts", "clean"]

# Names of details in the two dialects of `usage`, and what the conventions call them.
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
    """What an answer, or the events of a stream so far, said about itself."""

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
        """Note what an answer, a chunk or an event says."""
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
        """The attributes of a span at its end; without `usage` those of tokens are left out."""
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
    return {told: _first(details, name) for name, told in names.items()}


def _first(holder: Any, *names: str) -> int | None:
    """The first of these attributes that is a count."""
    for name in names:
        value: Any = getattr(holder, name, None)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def clean(text: str) -> str:
    """The text as UTF-8 can carry it: one lone surrogate would cost an exporter its whole batch."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _text(value: Any) -> str | None:
    return clean(value) if isinstance(value, str) and value else None

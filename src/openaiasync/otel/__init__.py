"""OpenTelemetry: spans and metrics of a client's calls, by the semantic conventions for generative AI.

Needs the extra ``otel`` (``opentelemetry-api``). What is emitted is listed in `docs/telemetry.md`.
"""

from __future__ import annotations

try:
    import opentelemetry.trace  # noqa: F401  # only to say what is missing
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "telemetry needs OpenTelemetry's API: pip install 'openaiasync[otel]'", name="opentelemetry"
    ) from None

from .telemetry import instrument, uninstrument

__all__ = ["instrument", "uninstrument"]

"""OpenTelemetry: spans and metrics of a client's calls, by the semantic conventions for generative AI.

Needs the extra ``otel`` (``opentelemetry-api``). What is emitted is listed in `docs/telemetry.md`.
"""

from __future__ import annotations

from .telemetry import instrument, uninstrument

__all__ = ["instrument", "uninstrument"]

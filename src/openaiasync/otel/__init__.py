"""OpenTelemetry: spans and metrics of a client's calls, by the semantic conventions for generative AI.

Needs the extra ``otel`` (``opentelemetry-api``). What is emitted is listed in `docs/telemetry.md`.
"""

from __future__ import annotations

try:
    from .telemetry import instrument, uninstrument
except ModuleNotFoundError as _missing:
    if (_missing.name or "").partition(".")[0] != "opentelemetry":
        raise
    from ..installation import install_command

    raise ModuleNotFoundError(
        f"telemetry needs OpenTelemetry's API: {install_command('otel')}", name="opentelemetry"
    ) from None

__all__ = ["instrument", "uninstrument"]

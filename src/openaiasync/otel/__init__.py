"""OpenTelemetry:
    from .telemetry import instrument, uninstrument
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "opentelemetry":
        raise
    raise ModuleNotFoundError(
        "telemetry needs OpenTelemetry's API: pip install 'openaiasync[otel]'", name="opentelemetry"
    ) from None

__all__ = ["instrument", "uninstrument"]

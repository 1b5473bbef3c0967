"""A client whose calls are measured: the SDK in memory, read back as plain values."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from conftest import run
from openaiasync import Client
from openaiasync.otel import instrument
from scripted import Scripted, chat, scripted

HI: Any = [{"role": "user", "content": "hi"}]


class Measured:
    """Where spans and metrics go."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(sampler=sampler)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        self.meters = MeterProvider([self._reader])

    def instrument(self, client: Client, **options: Any) -> None:
        instrument(client, tracer_provider=self.tracers, meter_provider=self.meters, **options)

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans that ended, in the order they did."""
        return list(self._exporter.get_finished_spans())

    @property
    def span(self) -> ReadableSpan:
        """The only one."""
        (span,) = self.spans
        return span

    def points(self, name: str) -> list[Any]:
        """The data points of a metric."""
        data = self._reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def shutdown(self) -> None:
        self.tracers.shutdown()
        self.meters.shutdown()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    """A span's attributes; sequences as lists."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in (span.attributes or {}).items()}


def measured(
    act: Callable[[Client, Scripted, Measured], Awaitable[None]],
    script: Any = chat,
    *,
    sampler: Sampler | None = None,
    options: dict[str, Any] | None = None,
    real_clock: bool = False,
    **telemetry: Any,
) -> Measured:
    """Run `act` with an instrumented client of a scripted server; nothing is held afterwards."""
    into = Measured(sampler)

    async def main() -> None:
        async with scripted(script) as server:
            async with Client(api_base=server.url, model="m", api_key="sk-secret", **(options or {})) as client:
                into.instrument(client, **telemetry)
                await act(client, server, into)
                assert client._calls.shared.limiter.used == 0

    run(main(), real_clock=real_clock)
    return into

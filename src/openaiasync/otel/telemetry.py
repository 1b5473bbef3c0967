"""`instrument`: a client's calls as spans and metrics."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

from opentelemetry import context, metrics, propagate, trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from ..client import Client
from ..core.model.meta import Meta
from ..core.model.secrets import redacted
from ..engine.log import logger
from ..engine.observers import CallObserver, Outcome
from ..errors import APIStatusError, APITimeoutError, OpenAIError
from ..lazy import resolve_annotations
from ..version import __version__
from .attributes import ResponseFacts, clean, provider_of, request_attributes
from .content import Gathered, input_attributes

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram, Meter, MeterProvider
    from opentelemetry.trace import TracerProvider
    from opentelemetry.util.types import AttributeValue

    from ..engine.call import Call

__all__ = ["instrument", "uninstrument"]

P = ParamSpec("P")

_CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_ON_SPANS = frozenset({"true", "1", "span_only", "span_and_event"})
_TOKENS = [4**power for power in range(14)]
_SECONDS = [0.01 * 2**power for power in range(14)]
_OF_METRICS = (
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "server.address",
    "server.port",
)


def instrument(
    client: Client,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    capture_content: bool | None = None,
    propagate_context: bool = True,
    provider: str | None = None,
) -> None:
    """Emit a span and metrics for each call of this client, and of those that `with_options` makes from it afterwards.

    Args:
        client: a `Client` or `AsyncOpenAI`. Instrumenting it again replaces the options.
        tracer_provider: used in place of the global one.
        meter_provider: used in place of the global one.
        capture_content: record prompts and answers on spans. Default: whether
            ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` enables it ("true", "SPAN_ONLY", "SPAN_AND_EVENT").
        propagate_context: send the span's context (``traceparent``) with each attempt, by the global propagator, as
            instrumentations of HTTP clients do. It may carry baggage too: disable it if that is confidential.
        provider: ``gen_ai.provider.name``. Default: by the server's host, "openai" for unknown ones.

    Raises `TypeError` for an object that is not a client.
    """
    if capture_content is None:
        capture_content = os.environ.get(_CAPTURE, "").strip().lower() in _ON_SPANS
    telemetry = Telemetry(tracer_provider, meter_provider, capture_content, propagate_context, provider)
    _observe(client, telemetry)


def uninstrument(client: Client) -> None:
    """Stop emitting telemetry for this client's calls. Does nothing for a client that is not instrumented."""
    _observe(client, None)


def _observe(client: Client, telemetry: Telemetry | None) -> None:
    if not isinstance(client, Client):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may be untyped
        raise TypeError(f"only a Client or an AsyncOpenAI can be instrumented, not {type(client).__name__}")
    client._change(telemetry=() if telemetry is None else (telemetry,))  # pyright: ignore[reportPrivateUsage]


class Telemetry:
    """An observer of calls: the tracer, the instruments, and what to record."""

    def __init__(
        self,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
        capture: bool,
        propagates: bool,
        provider: str | None,
    ) -> None:
        self.tracer: trace.Tracer = trace.get_tracer("openaiasync", __version__, tracer_provider)
        meter = metrics.get_meter("openaiasync", __version__, meter_provider)
        self.capture = capture
        self.propagates = propagates
        self.provider = provider
        self.tokens: Histogram = _histogram(
            meter, "token.usage", "{token}", "Number of input and output tokens used.", _TOKENS
        )
        self.duration: Histogram = _histogram(meter, "operation.duration", "s", "GenAI operation duration.", _SECONDS)
        first = "Time from the request to the first chunk of a stream."
        self.first: Histogram = _histogram(meter, "operation.time_to_first_chunk", "s", first, _SECONDS)
        between = "Time from one chunk of a stream to the next."
        self.between: Histogram = _histogram(meter, "operation.time_per_output_chunk", "s", between, _SECONDS)

    def __call__(self, call: Call) -> CallObserver:
        try:
            return _SpanObserver(self, call)
        except Exception:
            logger.warning("telemetry of a call failed", exc_info=True)
            return CallObserver()

    def __repr__(self) -> str:
        return "<Telemetry>"


def _histogram(meter: Meter, name: str, unit: str, description: str, bounds: list[Any]) -> Histogram:
    name = f"gen_ai.client.{name}"
    try:
        return meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=bounds)
    except TypeError:  # an older API
        return meter.create_histogram(name, unit, description)


def _safely(
    method: Callable[Concatenate[_SpanObserver, P], None],
) -> Callable[Concatenate[_SpanObserver, P], None]:
    """Log exceptions of `method`: telemetry must not fail a call."""

    @functools.wraps(method)
    def wrapper(self: _SpanObserver, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception:
            logger.warning("telemetry of a call failed", exc_info=True)

    return wrapper


class _SpanObserver(CallObserver):
    """One call as a span."""

    def __init__(self, telemetry: Telemetry, call: Call) -> None:
        self._telemetry = telemetry
        self._call = call
        self._provider = telemetry.provider or provider_of(call.base.origin.host)
        attributes = request_attributes(call, self._provider)
        self._labels: dict[str, AttributeValue] = {name: attributes[name] for name in _OF_METRICS if name in attributes}
        if telemetry.capture:
            attributes |= input_attributes(call.request)
        operation = attributes["gen_ai.operation.name"]
        target = attributes.get("gen_ai.request.model") or attributes.get("gen_ai.data_source.id")
        name = " ".join(str(part) for part in (operation, target) if part)
        self._span = telemetry.tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)
        self._context = trace.set_span_in_context(self._span, context.get_current())
        self._facts = ResponseFacts()
        self._gathered = Gathered(call.request) if telemetry.capture and self._span.is_recording() else None
        self._counts_tokens = operation != "fetch_response"
        self._began = call.loop.time()
        self._last = 0.0  # loop time of the last chunk
        self._first: float | None = None  # seconds to the first chunk

    @_safely
    def sending(self, call: Call) -> None:
        if self._telemetry.propagates:
            fields: dict[str, str] = {}
            propagate.inject(fields, self._context)
            requested = {name.lower() for name in call.requested_headers}
            call.extra.update({name: value for name, value in fields.items() if name.lower() not in requested})

    @_safely
    def retrying(self, error: OpenAIError, pause: float) -> None:
        self._span.add_event("openaiasync.retry", {**_error_attributes(error), "openaiasync.retry.pause": pause})

    @_safely
    def item(self, item: object) -> None:
        now = self._call.loop.time()
        if self._first is None:
            self._first = now - (self._call.began or self._began)
        else:
            self._telemetry.between.record(now - self._last, self._all_labels())
        self._last = now
        if item is not None:
            self._take(item)

    def _take(self, item: object) -> None:
        self._facts.take(item)
        if self._gathered is not None:
            self._gathered.take(item)

    @_safely
    def answered(self, meta: Meta, made: Callable[[], Any]) -> None:
        if not self._call.request.stream:
            answer = made()
            if answer is not None:
                self._take(answer)

    @_safely
    def ended(self, outcome: Outcome, error: BaseException | None) -> None:
        call, span, telemetry = self._call, self._span, self._telemetry
        try:
            self._describe(outcome, error)
        finally:
            span.end()
        labels = self._all_labels()
        if self._first is not None:
            telemetry.first.record(self._first, labels)
        if self._counts_tokens:
            for kind, count in (("input", self._facts.input_tokens), ("output", self._facts.output_tokens)):
                if count is not None:
                    telemetry.tokens.record(count, {**labels, "gen_ai.token.type": kind})
        if self._provider == "openai" and self._facts.service_tier is not None:
            labels["openai.response.service_tier"] = self._facts.service_tier
        if error is not None:
            labels["error.type"] = _error_type(error)
        telemetry.duration.record(call.loop.time() - (call.began or self._began), labels)

    def _describe(self, outcome: Outcome, error: BaseException | None) -> None:
        """Set the attributes of the span at its end."""
        call, span = self._call, self._span
        if not span.is_recording():
            return
        attributes = self._facts.attributes(self._provider, self._counts_tokens)
        if self._first is not None:
            attributes["gen_ai.response.time_to_first_chunk"] = self._first
        if call.attempts > 1:
            attributes["http.request.resend_count"] = call.attempts - 1
        if call.queued > 0:
            attributes["openaiasync.queued"] = call.queued
        if outcome == "closed":
            attributes["openaiasync.closed_early"] = True
        if self._gathered is not None:
            attributes |= self._gathered.attributes()
        if error is not None:
            attributes |= _error_attributes(error)
            span.set_status(Status(StatusCode.ERROR, self._description(error)))
        span.set_attributes(attributes)

    def _description(self, error: BaseException) -> str:
        """Return what went wrong. The server's message may repeat the prompt, so it counts as content."""
        if getattr(error, "body", None) is not None and not self._telemetry.capture:
            status = getattr(error, "status_code", None)
            return type(error).__name__ if status is None else f"{type(error).__name__} {status}"
        return clean(redacted(str(error))) or type(error).__name__

    def _all_labels(self) -> dict[str, AttributeValue]:
        if self._facts.model is None:
            return dict(self._labels)
        return {**self._labels, "gen_ai.response.model": self._facts.model}


def _error_type(error: BaseException) -> str:
    """Return ``error.type``: the class of the error, with its module unless it is this package's or a builtin."""
    kind = type(error)
    ours = kind.__module__.startswith("openaiasync.") or kind.__module__ in ("builtins", "asyncio.exceptions")
    return kind.__qualname__ if ours else f"{kind.__module__}.{kind.__qualname__}"


def _error_attributes(error: BaseException) -> dict[str, AttributeValue]:
    found: dict[str, AttributeValue] = {"error.type": _error_type(error)}
    if isinstance(error, APIStatusError):
        found["http.response.status_code"] = error.status_code
    if isinstance(error, APITimeoutError):
        found["openaiasync.clock"] = error.clock
    return found


resolve_annotations(__name__)

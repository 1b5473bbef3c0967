"""Which clients are measured, whose child a span is, and what the server is told of it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import openaiasync.otel.telemetry as module
from conftest import run
from openaiasync import (
    AsyncOpenAI,
    Client,
)
from openaiasync.installation import install_command
from openaiasync.otel import instrument, uninstrument
from scripted import Scripted, Seen, chat, json_answer, scripted

from .measured import HI, Measured, measured

DURATION = "gen_ai.client.operation.duration"


async def busy(seen: Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(json_answer({"error": {"message": "busy with 'hi'", "code": "slow_down"}}, 429, Retry_After_Ms="1"))


class TestContext:
    """Whose child a span is, and what the server is told of it."""

    def test_parent_and_header(self) -> None:
        """The caller's span is the parent; each try carries the span's own context, and baggage."""

        async def act(client: Client, server: Scripted, into: Measured) -> None:
            with into.tracers.get_tracer("test").start_as_current_span("mine"):
                token = context.attach(baggage.set_baggage("who", "me"))
                try:
                    await client.with_options(max_retries=1).chat("hi")
                finally:
                    context.detach(token)
            headers = [seen.headers for seen in server.seen]
            assert len({one["traceparent"] for one in headers}) == 1
            assert [one["baggage"] for one in headers] == ["who=me"] * 2
            ours, mine = into.spans
            assert ours.parent is not None
            assert mine.context is not None
            assert ours.context is not None
            assert ours.parent.span_id == mine.context.span_id
            sent = headers[0]["traceparent"].split("-")
            ids = (trace.format_trace_id(ours.context.trace_id), trace.format_span_id(ours.context.span_id))
            assert tuple(sent[1:3]) == ids

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            await (chat(seen, writer) if count else busy(seen, writer))
            count.append(1)

        count: list[int] = []
        measured(act, script)

    def test_switched_off_or_given(self) -> None:
        """With `propagate_context=False` nothing is sent; what the caller sends wins in any case."""

        async def act(client: Client, server: Scripted, into: Measured) -> None:
            await client.chat("hi")
            assert "traceparent" not in server.seen[-1].headers
            into.instrument(client)
            await client.chat("hi", extra_headers={"Traceparent": "mine"})
            await client.chat("hi", on_request=lambda told: told.headers.update({"TraceParent": "hook's"}))
            assert [seen.headers["traceparent"] for seen in server.seen[1:]] == ["mine", "hook's"]

        measured(act, propagate_context=False)

    def test_not_sampled(self) -> None:
        """A span that is not recorded costs no attributes; metrics are there all the same."""

        async def act(client: Client, server: Scripted, into: Measured) -> None:
            await client.chat("hi")
            async with client.chat.stream("hi") as stream:
                assert (await stream.final()).text == "Hello."

        into = measured(act, sampler=ALWAYS_OFF, capture_content=True)
        assert into.spans == []
        assert sum(point.count for point in into.points(DURATION)) == 2

    def test_without_an_sdk(self) -> None:
        """With the API alone, which does nothing, calls work as ever and nothing is sent."""

        async def main() -> None:
            async with scripted() as server, Client(api_base=server.url, model="m") as client:
                instrument(client)
                assert (await client.chat("hi")).text == "Hello."
                assert "traceparent" not in server.seen[0].headers

        run(main())


class TestInstrumenting:
    """Which clients are measured."""

    def test_on_and_off(self) -> None:
        """Namespaces made before are measured too; twice is once; off is off."""

        async def act(client: Client, server: Scripted, into: Measured) -> None:
            completions = client.chat.completions
            uninstrument(client)
            await completions.create(messages=HI, model="m")
            assert into.spans == []
            into.instrument(client)
            into.instrument(client)
            await completions.create(messages=HI, model="m")
            assert len(into.spans) == 1
            client.api_key = "another"
            await client.with_options(max_retries=0).chat("hi")
            assert len(into.spans) == 2
            uninstrument(client)
            uninstrument(client)
            await client.chat("hi")
            assert len(into.spans) == 2

        measured(act)

    def test_hooks_stay(self) -> None:
        """Instrumenting changes nothing of a client's hooks."""
        told: list[Any] = []

        async def act(client: Client, server: Scripted, into: Measured) -> None:
            await client.chat("hi")
            uninstrument(client)
            await client.chat("hi")

        measured(act, options={"on_answer": told.append})
        assert len(told) == 2

    def test_what_is_no_client(self) -> None:
        """`TypeError`; both doors are clients."""
        with pytest.raises(TypeError, match="str"):
            instrument("client")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        with pytest.raises(TypeError, match="int"):
            uninstrument(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        client = AsyncOpenAI(api_key="k")
        instrument(client)
        uninstrument(client)

    def test_an_older_api(self) -> None:
        """Where histograms take no advice on buckets, they do without."""

        class Meter:
            def create_histogram(self, name: str, unit: str, description: str) -> str:
                return name

        made: Any = module._histogram(Meter(), "token.usage", "{token}", "", [1])  # type: ignore[arg-type]
        assert made == "gen_ai.client.token.usage"

    def test_without_the_extra(self) -> None:
        """Where OpenTelemetry is not installed, the error says how to."""
        code = "import sys; sys.modules['opentelemetry'] = None; import openaiasync.otel"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
        assert "ModuleNotFoundError: telemetry needs" in done.stderr
        assert install_command("otel") in done.stderr

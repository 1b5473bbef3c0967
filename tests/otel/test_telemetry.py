"""Spans and metrics of calls: one of each for every call, however it ends, and a call that goes on whatever happens."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import Any

import pytest
from opentelemetry.trace import StatusCode

import openaiasync.otel.telemetry as module
from openaiasync import (
    APIConnectionError,
    APIResponseValidationError,
    APITimeoutError,
    Client,
    IncompleteStreamError,
    RateLimitError,
)
from scripted import CHAT, STREAM_HEAD, Scripted, Seen, answer, chat, chunk, event, json_answer

from .measured import HI, Measured, attributes, measured

DURATION = "gen_ai.client.operation.duration"
FIRST = "gen_ai.client.operation.time_to_first_chunk"


async def busy(seen: Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(json_answer({"error": {"message": "busy with 'hi'", "code": "slow_down"}}, 429, Retry_After_Ms="1"))


async def hanging(seen: Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(STREAM_HEAD + event(chunk("Hel")))
    await writer.drain()
    await asyncio.sleep(3600)


class TestFailures:
    """However a call ends, there is one span and one duration, and both say how."""

    @staticmethod
    def one(into: Measured, error: str | None) -> dict[str, Any]:
        """The attributes of the only span, which failed with this error, as the only duration did."""
        (duration,) = into.points(DURATION)
        found = attributes(into.span)
        assert found.get("error.type") == duration.attributes.get("error.type") == error
        assert into.span.status.status_code is (StatusCode.UNSET if error is None else StatusCode.ERROR)
        assert duration.count == 1
        return found

    def test_retried_and_given_up(self) -> None:
        """Each retry is an event with its error and pause; the error's own words are content, and left out."""

        async def act(client: Client, server: Scripted, into: Measured) -> None:
            with pytest.raises(RateLimitError):
                await client.chat("hi", max_retries=2)

        into = measured(act, busy)
        found = self.one(into, "RateLimitError")
        assert (found["http.response.status_code"], found["http.request.resend_count"]) == (429, 2)
        assert [retry.name for retry in into.span.events] == ["openaiasync.retry"] * 2
        for retry in into.span.events:
            told = dict(retry.attributes or {})
            assert told.pop("openaiasync.retry.pause") == pytest.approx(0.001)
            assert told == {"error.type": "RateLimitError", "http.response.status_code": 429}
        assert into.span.status.description == "RateLimitError 429"

    def test_retried_with_success(self) -> None:
        """A call that succeeded after a retry is not an error."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            await (busy(seen, writer) if seen.connection == 1 and not again else chat(seen, writer))
            again.append(1)

        async def act(client: Client, server: Scripted, into: Measured) -> None:
            await client.chat("hi")

        again: list[int] = []
        into = measured(act, script)
        assert self.one(into, None)["http.request.resend_count"] == 1
        assert len(into.span.events) == 1

    def test_without_an_answer(self) -> None:
        """Connection errors and timeouts, which say which clock ran out."""

        async def silent(seen: Seen, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(3600)

        async def late(client: Client, server: Scripted, into: Measured) -> None:
            with pytest.raises(APITimeoutError):
                await client.chat("hi", deadline=0.05)

        into = measured(late, silent)
        assert self.one(into, "APITimeoutError")["openaiasync.clock"] == "deadline"
        assert "deadline of 0.05 s" in (into.span.status.description or "")

        async def nobody(client: Client, server: Scripted, into: Measured) -> None:
            with pytest.raises(APIConnectionError):
                there = client.with_options(api_base="http://127.0.0.1:9/v1?api-key=in-query")
                await there.chat("hi", max_retries=0)

        into = measured(nobody)
        found = self.one(into, "APIConnectionError")
        assert found["server.port"] == 9
        assert "in-query" not in (into.span.status.description or "in-query")

    def test_an_answer_that_is_none(self) -> None:
        """What cannot be decoded fails the call."""

        async def act(client: Client, server: Scripted, into: Measured) -> None:
            with pytest.raises(APIResponseValidationError):
                await client.chat("hi")

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(answer(b"<html>hi</html>"))

        into = measured(act, script)
        self.one(into, "APIResponseValidationError")
        assert into.span.status.description == "APIResponseValidationError 200"

    def test_cancelled(self) -> None:
        """A call that its caller cancelled did not end well."""

        async def act(client: Client, server: Scripted, into: Measured) -> None:
            task = asyncio.create_task(client.chat("hi"))
            while not server.seen:
                await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        async def silent(seen: Seen, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(3600)

        self.one(measured(act, silent), "CancelledError")

    def test_what_a_hook_raised(self) -> None:
        """The error that the caller gets is the one that is told, with the module of who made it."""

        class Mine(Exception):
            pass

        def raises(event: Any) -> None:
            raise Mine

        async def act(client: Client, server: Scripted, into: Measured) -> None:
            with pytest.raises(Mine):
                await client.chat("hi", on_answer=raises)

        into = measured(act)
        found = self.one(into, f"{Mine.__module__}.{Mine.__qualname__}")
        assert found["gen_ai.response.id"] == "chatcmpl-1"

    def test_a_stream_that_breaks(self) -> None:
        """The received part is recorded with the error."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(STREAM_HEAD + event(chunk("Hel")))
            await writer.drain()
            writer.close()

        async def act(client: Client, server: Scripted, into: Measured) -> None:
            with pytest.raises(IncompleteStreamError):
                async with client.chat.stream("hi") as stream:
                    async for _ in stream:
                        pass

        found = self.one(measured(act, script), "IncompleteStreamError")
        assert found["gen_ai.response.id"] == "chatcmpl-1"
        assert "gen_ai.response.finish_reasons" not in found

    @pytest.mark.parametrize("how", ["closed", "broken off", "forgotten", "never read"])
    def test_a_stream_that_is_left(self, how: str) -> None:
        """Left early in whatever way, a stream ends its span, without an error."""

        async def act(client: Client, server: Scripted, into: Measured) -> None:
            stream: Any = await client.chat.completions.create(messages=HI, stream=True)
            if how != "never read":
                await stream.__anext__()
            if how == "closed":
                await stream.close()
            elif how == "broken off":
                async with stream:
                    async for _ in stream:
                        break
            else:
                del stream
                gc.collect()
                await asyncio.sleep(0.01)
            assert len(into.spans) == 1

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(STREAM_HEAD + event(chunk("Hel")) + event(chunk("lo")))
            await writer.drain()
            await asyncio.sleep(3600)

        into = measured(act, script)
        assert self.one(into, None)["openaiasync.closed_early"] is True
        assert len(into.points(FIRST)) == (0 if how == "never read" else 1)

    def test_a_stream_whose_reader_is_cancelled(self) -> None:
        """Cancelled while it waits for a word."""

        async def act(client: Client, server: Scripted, into: Measured) -> None:
            stream = await client.chat.completions.create(messages=HI, stream=True)
            await stream.__anext__()
            task = asyncio.ensure_future(stream.__anext__())
            await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self.one(measured(act, hanging), "CancelledError")

    def test_a_client_that_is_closed(self) -> None:
        """A stream whose client is closed under it ends in an error."""

        async def act(client: Client, server: Scripted, into: Measured) -> None:
            stream = await client.chat.completions.create(messages=HI, stream=True)
            await stream.__anext__()
            await client.aclose()
            with pytest.raises(Exception, match="closed"):
                await stream.__anext__()

        self.one(measured(act, hanging), "ClientClosedError")

    def test_time_in_line(self) -> None:
        """Waiting for a place in flight is part of the span, told on it, and no part of the duration."""

        async def slow(seen: Seen, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.1)
            await chat(seen, writer)

        async def act(client: Client, server: Scripted, into: Measured) -> None:
            await asyncio.gather(*(client.chat("hi") for _ in range(3)))

        into = measured(act, slow, options={"http_max_in_flight": 1}, real_clock=True)  # a span has real times
        queued = sorted(attributes(span).get("openaiasync.queued", 0.0) for span in into.spans)
        assert queued[0] == 0 < queued[1] < queued[2]
        (duration,) = into.points(DURATION)
        lasted = sum((span.end_time or 0) - (span.start_time or 0) for span in into.spans) / 1e9
        assert duration.sum == pytest.approx(lasted - sum(queued), abs=0.1 * lasted)


class TestRobustness:
    """Telemetry fails no call."""

    @pytest.mark.parametrize("where", ["request_attributes", "ResponseFacts", "propagate", "_error_type"])
    def test_a_fault_of_its_own(
        self, where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Whatever breaks in it is logged, and the call goes on."""

        async def act(client: Client, server: Scripted, into: Measured) -> None:
            def broken(*args: Any, **kwargs: Any) -> Any:
                raise ZeroDivisionError

            target = module.propagate if where == "propagate" else module
            name = "inject" if where == "propagate" else where
            monkeypatch.setattr(target, name, broken)
            try:
                assert (await client.chat("hi")).text == "Hello."
                with pytest.raises(RateLimitError):
                    await client.post("/busy", cast_to=dict, options={"max_retries": 0})
            finally:
                monkeypatch.undo()

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            await (busy(seen, writer) if "busy" in seen.target else chat(seen, writer))

        with caplog.at_level(logging.WARNING, "openaiasync"):
            measured(act, script)
        assert "telemetry of a call failed" in caplog.text

    @pytest.mark.parametrize(
        "strange",
        [
            {
                "usage": "many",
                "id": 3,
                "model": [],
                "choices": [{"index": "x", "finish_reason": 7, "message": {"content": "Hi"}}],
            },
            {"usage": {"prompt_tokens": "3", "completion_tokens": True, "prompt_tokens_details": 4}, "created": "x"},
            {"usage": {"prompt_tokens": 2, "completion_tokens_details": {"reasoning_tokens": None}}, "object": 3},
            {"response": {"id": 1}, "type": "response.x", "service_tier": 1, "system_fingerprint": {}},
        ],
    )
    def test_strange_answers(self, strange: Any, caplog: pytest.LogCaptureFixture) -> None:
        """Non-conforming answers give fewer attributes, and no warning."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(json_answer({**CHAT, **strange}))

        async def act(client: Client, server: Scripted, into: Measured) -> None:
            await client.chat("hi")

        with caplog.at_level(logging.WARNING):
            into = measured(act, script, capture_content=True)
        assert caplog.text == ""
        assert into.span.name == "chat m"

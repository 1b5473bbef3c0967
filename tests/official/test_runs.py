"""Runs of assistants: waited for, and streamed through a handler."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import openaiasync
from conftest import run
from cputime import assert_linear
from official.sequences import RUN, message_delta, message_of, named_events, run_of, step_delta
from openaiasync import AsyncAssistantEventHandler, AsyncOpenAI
from openaiasync.official.assistants import MessageAccumulator, StepAccumulator, objects_of
from openaiasync.types.beta.threads import Message, MessageDelta
from openaiasync.types.beta.threads.runs import RunStep, RunStepDelta
from scripted import Scripted, Seen, json_answer, scripted

ENDS = ["requires_action", "cancelled", "completed", "failed", "expired", "incomplete"]


class Log(AsyncAssistantEventHandler):
    """Notes what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[tuple[str, Any]] = []

    async def on_event(self, event: Any) -> None:
        assert self.current_event is event

    async def on_end(self) -> None:
        self.log.append(("end", None))

    async def on_exception(self, exception: Exception) -> None:
        self.log.append(("exception", type(exception).__name__))

    async def on_timeout(self) -> None:
        self.log.append(("timeout", None))

    async def on_run_step_created(self, run_step: Any) -> None:
        self.log.append(("step created", run_step.status))

    async def on_run_step_delta(self, delta: Any, snapshot: Any) -> None:
        assert snapshot is self.current_run_step_snapshot
        self.log.append(("step", len(snapshot.step_details.tool_calls)))

    async def on_run_step_done(self, run_step: Any) -> None:
        self.log.append(("step done", run_step.status))

    async def on_tool_call_created(self, tool_call: Any) -> None:
        self.log.append(("call created", tool_call.type))

    async def on_tool_call_delta(self, delta: Any, snapshot: Any) -> None:
        told = snapshot.code_interpreter.input if snapshot.type == "code_interpreter" else snapshot.function.arguments
        self.log.append(("call", told))

    async def on_tool_call_done(self, tool_call: Any) -> None:
        self.log.append(("call done", tool_call.id))

    async def on_message_created(self, message: Any) -> None:
        self.log.append(("message created", message.content))

    async def on_message_delta(self, delta: Any, snapshot: Any) -> None:
        assert snapshot is self.current_message_snapshot
        self.log.append(("message", len(snapshot.content)))

    async def on_message_done(self, message: Any) -> None:
        self.log.append(("message done", len(message.content)))

    async def on_text_created(self, text: Any) -> None:
        self.log.append(("text created", text.value))

    async def on_text_delta(self, delta: Any, snapshot: Any) -> None:
        self.log.append(("text", (delta.value, snapshot.value)))

    async def on_text_done(self, text: Any) -> None:
        self.log.append(("text done", text.value))

    async def on_image_file_done(self, image_file: Any) -> None:
        self.log.append(("image done", image_file.file_id))


STEPS = [
    ("step created", "in_progress"),
    ("call created", "code_interpreter"),
    ("step", 1),
    ("call", "print"),
    ("step", 1),
    ("call", "print(1)"),
    ("step", 1),
    ("call done", "c0"),
    ("call created", "function"),
    ("step", 2),
    ("call", "{}"),
    ("step", 2),
    ("call done", "c1"),
    ("step done", "completed"),
]
MESSAGES = [
    ("message created", []),
    ("text created", "Hel"),
    ("text", ("Hel", "Hel")),
    ("message", 1),
    ("text", ("lo", "Hello")),
    ("message", 1),
    ("text done", "Hello"),
    ("message", 2),
    ("text created", "Bye"),
    ("text", ("Bye", "Bye")),
    ("image done", "f"),
    ("message", 3),
    ("text done", "Bye"),
    ("message done", 3),
]


async def told(raw: bytes, handler: Log, kind: type[Exception] | None = None, **options: Any) -> Scripted:
    """Read the whole stream with a handler, which may raise."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        if not raw.endswith(b"0\r\n\r\n"):
            await writer.drain()
            await asyncio.sleep(60)

    async with scripted(script) as server, AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0) as client:
        runs = client.beta.threads.runs
        async with runs.stream(thread_id="th", assistant_id="as", event_handler=handler, **options) as stream:
            assert stream is handler
            if kind is None:
                await stream.until_done()
            else:
                with pytest.raises(kind):
                    await stream.until_done()
    return server


class TestHandler:
    def test_what_it_is_told(self) -> None:
        """Each method is called in order with the delta and the snapshot, the end last and once."""

        async def main() -> None:
            handler = Log()
            server = await told(named_events(RUN), handler)
            assert handler.log == [*STEPS, *MESSAGES, ("end", None)]
            (seen,) = server.seen
            assert (seen.target, seen.json()) == ("/v1/threads/th/runs", {"assistant_id": "as", "stream": True})
            assert seen.headers["openai-beta"] == "assistants=v2"
            assert handler.current_run is not None
            assert handler.current_run.status == "completed"
            assert (await handler.get_final_run()).id == "run"
            assert [one.status for one in await handler.get_final_run_steps()] == ["completed"]
            assert [len(one.content) for one in await handler.get_final_messages()] == [3]

        run(main())

    def test_a_stream_that_breaks_off(self) -> None:
        """The handler gets the received events, the error, and the end; then the error is raised."""

        async def main() -> None:
            handler = Log()
            await told(named_events(RUN[:5], done=False), handler, openaiasync.IncompleteStreamError)
            assert handler.log == [*STEPS[:5], ("exception", "IncompleteStreamError"), ("end", None)]
            handler = Log()
            half = named_events(RUN[:5], done=False).removesuffix(b"0\r\n\r\n")
            await told(half, handler, openaiasync.APITimeoutError, timeout=0.3)
            assert handler.log[-3:] == [("timeout", None), ("exception", "APITimeoutError"), ("end", None)]

        run(main())

    def test_an_error_of_its_own(self) -> None:
        """An exception in a method ends the stream, frees its connection and is raised."""

        class Wrong(Log):
            async def on_text_delta(self, delta: Any, snapshot: Any) -> None:
                raise KeyError("mine")

        async def main() -> None:
            handler = Wrong()
            await told(named_events(RUN), handler, KeyError)
            assert handler.log[-2:] == [("exception", "KeyError"), ("end", None)]

        run(main())

    @pytest.mark.parametrize("kind", ["message", "run.step"])
    def test_pieces_of_nothing(self, kind: str) -> None:
        """A delta of something that never began is an error, not a crash of another kind."""

        async def main() -> None:
            delta = message_delta() if kind == "message" else step_delta()
            await told(named_events([(f"thread.{kind}.delta", delta)]), Log(), RuntimeError)

        run(main())

    def test_messages_follow_one_another(self) -> None:
        """The blocks of a second message begin anew, also where the first one was never ended."""
        begins = ("thread.message.created", message_of("in_progress", []))
        says = ("thread.message.delta", message_delta({"index": 0, "type": "text", "text": {"value": "a"}}))

        async def main() -> None:
            handler = Log()
            await told(
                named_events([begins, says, begins, says, ("thread.run.completed", run_of("completed"))]), handler
            )
            assert [one for one in handler.log if one[0] == "text"] == [("text", ("a", "a"))] * 2

        run(main())


def test_iterating() -> None:
    """Without a handler the stream is iterated: for events, or for the words alone; leaving early frees it."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(named_events(RUN))

    async def main() -> None:
        async with scripted(script) as server, AsyncOpenAI(base_url=server.url, api_key="k") as client:
            threads = client.beta.threads
            async with threads.create_and_run_stream(assistant_id="as") as stream:
                assert [text async for text in stream.text_deltas] == ["Hel", "lo", "Bye"]
            async with threads.runs.create_and_stream(thread_id="th", assistant_id="as") as stream:
                assert [one.event async for one in stream] == [name for name, _ in RUN]
            outputs: Any = [{"tool_call_id": "c", "output": "o"}]
            runs = threads.runs
            async with runs.submit_tool_outputs_stream(thread_id="th", run_id="r", tool_outputs=outputs) as stream:
                assert (await anext(stream)).event == "thread.run.created"
            assert [one async for one in stream] == []
            assert [(seen.target, seen.json()) for seen in server.seen] == [
                ("/v1/threads/runs", {"assistant_id": "as", "stream": True}),
                ("/v1/threads/th/runs", {"assistant_id": "as", "stream": True}),
                ("/v1/threads/th/runs/r/submit_tool_outputs", {"tool_outputs": outputs, "stream": True}),
            ]

    run(main())


def test_a_handler_is_of_one_stream() -> None:
    """A second stream is refused, and the connection it had is freed; one that has not begun cannot be read."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(named_events(RUN))

    async def main() -> None:
        async with scripted(script) as server, AsyncOpenAI(base_url=server.url, api_key="k") as client:
            handler = Log()
            with pytest.raises(RuntimeError, match="async with"):
                await handler.until_done()
            stream = client.beta.threads.runs.stream
            async with stream(thread_id="th", assistant_id="as", event_handler=handler):
                pass
            with pytest.raises(RuntimeError, match="one stream"):
                async with stream(thread_id="th", assistant_id="as", event_handler=handler):
                    pass
            empty = AsyncAssistantEventHandler()
            assert (empty.current_run, empty.current_message_snapshot, empty.current_run_step_snapshot) == (None,) * 3

    run(main())


def test_nothing_found() -> None:
    """A stream without a run, steps or messages says so."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(named_events([]))

    async def main() -> None:
        async with scripted(script) as server, AsyncOpenAI(base_url=server.url, api_key="k") as client:
            async with client.beta.threads.runs.stream(thread_id="th", assistant_id="as") as stream:
                for ask in (stream.get_final_run, stream.get_final_run_steps, stream.get_final_messages):
                    with pytest.raises(RuntimeError, match="had no"):
                        await ask()

    run(main())


class TestPolling:
    def test_it_ends_with_the_run(self) -> None:
        """Every end of a run ends the wait, and so does a run that needs something."""

        async def main() -> None:
            for end in ENDS:
                left = ["queued", "in_progress", "cancelling", end]

                async def script(seen: Seen, writer: asyncio.StreamWriter, left: list[str] = left) -> None:
                    writer.write(json_answer(run_of("queued" if seen.method == "POST" else left.pop(0))))

                async with scripted(script) as server, AsyncOpenAI(base_url=server.url, api_key="k") as client:
                    found = await client.beta.threads.runs.poll("run", "th", poll_interval_ms=1)
                    assert (found.status, len(server.seen)) == (end, 4)
                    assert {seen.target for seen in server.seen} == {"/v1/threads/th/runs/run"}

        run(main())

    def test_what_it_creates(self) -> None:
        """The three that make a run make it, then wait for it."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(json_answer(run_of("queued" if seen.method == "POST" else "completed")))

        async def main() -> None:
            async with scripted(script) as server, AsyncOpenAI(base_url=server.url, api_key="k") as client:
                threads = client.beta.threads
                await threads.create_and_run_poll(assistant_id="as", poll_interval_ms=1)
                await threads.runs.create_and_poll(thread_id="th", assistant_id="as")
                await threads.runs.submit_tool_outputs_and_poll(thread_id="th", run_id="run", tool_outputs=[])
                made = [seen.target for seen in server.seen if seen.method == "POST"]
                assert made == [
                    "/v1/threads/runs",
                    "/v1/threads/th/runs",
                    "/v1/threads/th/runs/run/submit_tool_outputs",
                ]
                assert [seen.target for seen in server.seen[1::2]] == ["/v1/threads/th/runs/run"] * 3
                assert server.seen[0].json() == {"assistant_id": "as"}

        run(main())


def play(count: int, what: str) -> None:
    """A run of so many deltas, asked for its snapshots at each, as handlers are."""
    message = MessageAccumulator(Message.model_construct(id="m", content=[]))
    step = StepAccumulator(RunStep.model_construct(id="s", step_details={"type": "tool_calls", "tool_calls": []}))
    for number in range(count):
        place = number if what in ("blocks", "calls") else 0
        if what in ("blocks", "text"):
            part: Any = {"index": place, "type": "text", "text": {"value": "word "}}
            message.add(MessageDelta.model_validate({"content": [part]}))
            assert message.block(place).text.value.endswith("word ")
        else:
            part = {"index": place, "id": "c", "type": "function", "function": {"arguments": "word "}}
            details = {"type": "tool_calls", "tool_calls": [part]}
            step.add(RunStepDelta.model_validate({"step_details": details}))
            assert step.call(place).function.arguments.endswith("word ")
    if what in ("blocks", "text"):
        assert len(message.message.content) == (count if what == "blocks" else 1)
    else:
        assert len(objects_of(step.step, "step_details", "tool_calls")) == (count if what == "calls" else 1)


@pytest.mark.parametrize("what", ["blocks", "text", "calls", "arguments"])
def test_long_runs_take_linear_time(what: str) -> None:
    """Four times the deltas take about four times as long, not sixteen times."""
    assert_linear(lambda count: play(count, what), 500)


def test_blocks_in_any_order() -> None:
    """A block that comes late is in its place; the message that came last decides."""
    message = MessageAccumulator(Message.model_construct(id="m", content=[]))
    for place in (2, 0, 1, 0):
        part: Any = {"index": place, "type": "text", "text": {"value": str(place)}}
        message.add(MessageDelta.model_validate({"content": [part]}))
    assert [block.text.value for block in objects_of(message.message, "content")] == ["00", "1", "2"]
    assert message.block(2).text.value == "2"
    assert message.block(3) is message.block("0") is None

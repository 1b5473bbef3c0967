"""Streams in which one value is something else, each value in turn: helpers raise nothing but their own errors."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from official.sequences import CHATS, RESPONSE, RUN
from openaiasync import AsyncAssistantEventHandler, pydantic_function_tool, pydantic_responses_function_tool
from openaiasync.core.codec.decode import decoder_for
from openaiasync.errors import OpenAIError
from openaiasync.lib.streaming.chat import ChatCompletionStreamState
from openaiasync.lib.streaming.responses import ResponseStreamState
from openaiasync.types.beta import AssistantStreamEvent
from openaiasync.types.chat import ChatCompletionChunk
from openaiasync.types.responses import ResponseStreamEvent

JUNK: list[Any] = [None, 7, "x", [None], {}]


class P(msgspec.Struct):
    x: int
    name: str


def paths(value: Any) -> Iterator[list[Any]]:
    """The way to each value inside."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield [key]
        for path in paths(item):
            yield [key, *path]


def spoilt(events: list[Any]) -> Iterator[tuple[Any, list[Any]]]:
    """The events with one value replaced; and with one taken out."""
    for at, whole in enumerate(events):
        for path in paths(whole):
            for junk in [*JUNK, ...]:
                twin = copy.deepcopy(whole)
                inside = twin
                for step in path[:-1]:
                    inside = inside[step]
                if junk is ...:
                    del inside[path[-1]]
                else:
                    inside[path[-1]] = junk
                yield (at, path, junk), [*events[:at], twin, *events[at + 1 :]]


def decoded(kind: Any, events: list[Any]) -> list[Any]:
    decode = decoder_for(kind).stream().decode
    return [decode(json.dumps(one).encode()) for one in events]


@pytest.mark.parametrize("name", ["text", "log probabilities", "refusal", "tools"])
def test_chat(name: str) -> None:
    """Chunks of chat answers."""
    count = 0
    for where, events in spoilt(CHATS[name]):
        state = ChatCompletionStreamState[P](response_format=P, input_tools=[pydantic_function_tool(P)])
        try:
            for chunk in decoded(ChatCompletionChunk, events):
                for event in state.handle_chunk(chunk):
                    assert event.to_dict()["type"] == event.type
                    getattr(event, "snapshot", None)
                    getattr(event, "parsed", None)
                    getattr(event, "parsed_arguments", None)
            state.get_final_completion().to_json()
        except OpenAIError:
            pass
        except Exception as error:
            raise AssertionError(where) from error
        count += 1
    assert count > 100


def test_responses() -> None:
    """Events of responses."""
    for where, events in spoilt([RESPONSE[at] for at in (0, 2, 3, 4, 6, 9, 10, 14)]):
        state = ResponseStreamState[P](text_format=P, input_tools=[pydantic_responses_function_tool(P)])
        try:
            for event in decoded(ResponseStreamEvent, events):
                made: Any = state.handle_event(event)
                getattr(made, "parsed", None)
            if state.snapshot is not None:
                state.snapshot.to_json()
            state.final().to_json()
        except OpenAIError:
            pass
        except Exception as error:
            raise AssertionError(where) from error


def test_assistants() -> None:
    """Events of runs: beside its own errors, a piece of what never began is a `RuntimeError`."""
    names = [name for name, _ in RUN]

    class Stream:
        """What a handler needs of a stream."""

        def __init__(self, events: list[Any]) -> None:
            self.events = iter(events)

        def __aiter__(self) -> Stream:
            return self

        async def __anext__(self) -> Any:
            for event in self.events:
                return event
            raise StopAsyncIteration

        async def close(self) -> None:
            pass

    async def main() -> None:
        wrapped = [{"event": name, "data": data} for name, data in zip(names, (data for _, data in RUN), strict=True)]
        for where, events in spoilt(wrapped):
            handler = AsyncAssistantEventHandler()
            stream: Any = Stream(decoded(AssistantStreamEvent, events))
            handler.begin(stream)
            try:
                await handler.until_done()
            except (OpenAIError, RuntimeError):
                pass
            except Exception as error:
                raise AssertionError(where) from error

    asyncio.run(main())

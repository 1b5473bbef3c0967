"""When a stream counts as complete: only where its answer is."""

from __future__ import annotations

from typing import Any

import pytest

from openaiasync.core.codec.completion import CompletionDetector
from openaiasync.core.codec.decode import decoder_for
from openaiasync.core.model.base import OpenModel
from openaiasync.types.chat import ChatCompletionChunk

CHAT = "types.chat.chat_completion_chunk:ChatCompletionChunk"


def chunk(*choices: tuple[int, str | None]) -> Any:
    import json

    body = {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": index, "delta": {}, "finish_reason": finish} for index, finish in choices],
    }
    return decoder_for(ChatCompletionChunk).decode(json.dumps(body).encode())


@pytest.mark.parametrize(
    ("chunks", "complete"),
    [
        ([], False),
        ([[]], False),
        ([[(0, None)]], False),
        ([[(0, None)], [(0, "stop")]], True),
        ([[(0, "stop")]], True),
        ([[(0, None)], [(0, "")]], False),
        ([[(0, None), (1, None)], [(0, "stop")]], False),
        ([[(0, None), (1, None)], [(0, "stop")], [(1, "length")]], True),
        ([[(0, None)], [(0, "stop")], []], True),
        ([[(1, "stop")], [(0, None)]], False),
    ],
)
def test_every_choice_seen_has_to_finish(chunks: list[Any], complete: bool) -> None:
    """Each choice received needs a finish reason; an empty one does not count; a usage chunk changes nothing."""
    ending = CompletionDetector(CHAT)
    for choices in chunks:
        ending.feed(chunk(*choices), "")
    assert ending.complete is complete


@pytest.mark.parametrize(
    ("kind", "name", "complete"),
    [
        ("response.completed", "response.completed", True),
        ("response.failed", "", True),
        ("response.incomplete", "", True),
        ("response.output_text.delta", "", False),
        ("image_generation.completed", "", True),
        ("image_generation.partial_image", "", False),
        ("transcript.text.done", "", True),
        ("speech.audio.done", "", True),
        ("", "thread.run.completed", True),
        ("", "thread.run.step.completed", False),
        ("", "done", True),
    ],
)
def test_other_streams_end_with_a_terminal_event(kind: str, name: str, complete: bool) -> None:
    """Known by its `type`, or by the name of the event."""
    item = decoder_for(OpenModel).decode(b'{"type": "%s"}' % kind.encode())
    ending = CompletionDetector("types.responses:ResponseStreamEvent")
    ending.feed(item, name)
    assert ending.complete is complete


def test_what_has_no_choices_decides_nothing() -> None:
    """An unexpected event in a chat stream neither ends it nor breaks it."""
    ending = CompletionDetector(CHAT)
    for raw in (b"{}", b'{"choices": null}', b'{"choices": 3}', b'{"choices": [{}]}', b'{"choices": [{"index": []}]}'):
        ending.feed(decoder_for(OpenModel).decode(raw), "")
    assert not ending.complete

"""The methods of a connection: each sends the event of the official client, with what was given and nothing else."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from conftest import run
from openaiasync import AsyncOpenAI, Client
from realtime.loopback import echo, loopback

ITEM = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
TEXT = {"content": "c", "delegation_id": None}
AUDIO: list[tuple[str, dict[str, Any]]] = [
    ("input_audio_buffer.append", {"audio": "AA=="}),
    ("input_audio_buffer.commit", {"event_id": "e"}),
    ("input_audio_buffer.clear", {}),
    ("output_audio_buffer.clear", {}),
    ("conversation.item.create", {"item": ITEM, "previous_item_id": "root"}),
    ("conversation.item.delete", {"item_id": "i"}),
    ("conversation.item.truncate", {"item_id": "i", "content_index": 0, "audio_end_ms": 5}),
    ("conversation.item.retrieve", {"item_id": "i"}),
    ("response.create", {}),
    ("response.create", {"response": {"instructions": "x"}}),
    ("response.cancel", {"response_id": "r"}),
]
SESSION: list[tuple[str, dict[str, Any]]] = [
    ("session.update", {"session": {"type": "live"}}),
    ("session.close", {}),
    ("session.commentary.append", TEXT),
    ("session.instructions.append", TEXT),
    ("session.thinking.append", {**TEXT, "delegation_id": "d"}),
    ("session.input_audio.mute", {}),
    ("session.input_audio.unmute", {"event_id": None}),
    ("session.output_audio.fixture.play", {"audio": "AA=="}),
    ("decision.create", {"event_id": "e"}),
    ("decision.item.create", {"item": ITEM}),
    ("decision.item.delete", {"item_id": "i"}),
    ("response.create", {}),
    ("response.item.create", {"item": ITEM}),
]
WHOLE = [*SESSION, ("session.start", {"session": {}}), ("session.input_audio.append", {"audio": "AA=="})]
STEER = ("response.steer", {"previous_response_id": "r", "input": "more"})
METHODS: dict[str, tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]] = {
    "realtime": ({"model": "m"}, [*AUDIO, ("session.update", {"session": {"type": "realtime"}})]),
    "beta.realtime": (
        {"model": "m"},
        [*AUDIO, ("session.update", {"session": {}}), ("transcription_session.update", {"session": {}})],
    ),
    "realtime.translations": (
        {"model": "m"},
        [
            ("session.update", {"session": {"audio": {}}}),
            ("session.close", {}),
            ("session.input_audio_buffer.append", {"audio": "AA=="}),
        ],
    ),
    "responses": ({}, [("response.create", {"model": "m", "input": "hi", "stream_id": "s"}), STEER]),
    "beta.responses": (
        {},
        [
            ("response.create", {"model": "m", "image": {}}),
            STEER,
            ("response.inject", {"response_id": "r", "input": []}),
        ],
    ),
    "live": ({}, WHOLE),
    "live.forks": ({"session_id": "s"}, WHOLE),
    "live.sideband": ({"session_id": "s"}, [*SESSION, ("transport.dtmf.send", {"event": "5"})]),
}


@pytest.mark.parametrize("kind", list(METHODS))
def test_every_method_sends_its_event(kind: str) -> None:
    """The type is the method's name in full; fields that were not given are not there, `None` is what it is."""
    options, methods = METHODS[kind]

    async def main() -> None:
        async with loopback(echo) as server, server.client() as client:
            connect = functools.reduce(getattr, [*kind.split("."), "connect"], client)
            async with connect(**options) as connection:
                for name, fields in methods:
                    await functools.reduce(getattr, name.split("."), connection)(**fields)
                    came = (await connection.recv()).to_dict()["event"]
                    assert came == {"type": name, **fields}

    run(main())


def test_a_misspelt_parameter() -> None:
    """Of the one method that takes many: a `TypeError` that names the nearest, and nothing is sent."""

    async def main() -> None:
        async with loopback(echo) as server, server.client() as client:
            async with client.responses.connect() as connection:
                wrong: Any = {"temprature": 1}
                with pytest.raises(TypeError, match="did you mean 'temperature'"):
                    await connection.response.create(model="m", **wrong)
                option: Any = {"extra_headers": {"X-A": "b"}}
                with pytest.raises(TypeError, match="takes no extra_headers"):
                    await connection.response.create(model="m", **option)
                await connection.response.create(model="m", extra_body={"new": 1})
                sent = {"type": "response.create", "model": "m", "new": 1}
                assert (await connection.recv()).to_dict()["event"] == sent

    run(main())


@pytest.mark.parametrize("door", [Client, AsyncOpenAI])
def test_namespaces_are_made_once(door: Any) -> None:
    """Those that only connect are as real as the others."""
    client = door(api_key="k")
    assert client.live.forks is client.live.forks
    assert repr(client.live.sideband) == "<Sideband>"
    assert repr(client.realtime.connect(model="m")) == "<AsyncRealtimeConnectionManager realtime.connect>"


@pytest.mark.parametrize("kind", list(METHODS))
def test_connections_have_no_raw_twin(kind: str) -> None:
    """`with_raw_response` and `with_streaming_response` do not offer what has no answer."""
    namespace = functools.reduce(getattr, kind.split("."), AsyncOpenAI(api_key="k"))
    for view in (namespace.with_raw_response, namespace.with_streaming_response):
        with pytest.raises(AttributeError, match="not a method with a raw answer"):
            _ = view.connect

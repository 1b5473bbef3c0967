"""WebSockets: the upgrades and the events that both libraries send for the same calls."""

from __future__ import annotations

import functools
import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

import openaiasync
from conftest import run

openai = pytest.importorskip("openai")
pytest.importorskip("websockets")

from websockets.asyncio.server import ServerConnection, serve  # noqa: E402

pytestmark = [pytest.mark.peers, pytest.mark.timeout(60)]

FIELDS = ("authorization", "openai-organization", "openai-project", "openai-beta", "sec-websocket-extensions", "x-a")
CONNECTS: list[tuple[str, dict[str, Any]]] = [
    ("realtime", {"model": "m 1"}),
    (
        "realtime",
        {"call_id": "c", "extra_query": {"a": [1, 2], "none": None, "model": "n"}, "extra_headers": {"X-A": "b"}},
    ),
    ("beta.realtime", {"model": "m"}),
    ("realtime.translations", {"model": "m"}),
    ("responses", {"extra_query": {"x": "y z"}}),
    ("beta.responses", {}),
    ("live", {}),
    ("live.forks", {"session_id": "a b"}),
    ("live.sideband", {"session_id": "s"}),
]
EVENTS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "realtime": [
        ("session.update", {"session": {"type": "realtime", "instructions": "ü"}}),
        ("response.create", {}),
        ("response.create", {"response": {"output_modalities": ["text"]}, "event_id": "e"}),
        ("response.cancel", {}),
        ("input_audio_buffer.append", {"audio": "AA=="}),
        ("input_audio_buffer.commit", {}),
        ("input_audio_buffer.clear", {}),
        ("output_audio_buffer.clear", {}),
        ("conversation.item.delete", {"item_id": "i"}),
        ("conversation.item.truncate", {"item_id": "i", "content_index": 0, "audio_end_ms": 1}),
        ("conversation.item.retrieve", {"item_id": "i"}),
    ],
    "beta.realtime": [("transcription_session.update", {"session": {"modalities": ["text"]}})],
    "realtime.translations": [("session.input_audio_buffer.append", {"audio": "AA=="}), ("session.close", {})],
    "responses": [
        ("response.create", {"model": "m", "input": "hi", "stream_id": "s", "store": None}),
        ("response.steer", {"previous_response_id": "r", "input": "x"}),
    ],
    "beta.responses": [("response.inject", {"response_id": "r", "input": []})],
    "live": [
        ("session.start", {"session": {}}),
        ("session.input_audio.append", {"audio": "AA=="}),
        ("session.commentary.append", {"content": "c", "delegation_id": None}),
        ("decision.create", {"event_id": "e"}),
        ("decision.item.delete", {"item_id": "i"}),
        ("response.create", {}),
    ],
    "live.forks": [("session.output_audio.fixture.play", {"audio": "AA=="})],
    "live.sideband": [("transport.dtmf.send", {"event": "1"}), ("session.input_audio.mute", {})],
}


@pytest.mark.parametrize(("kind", "params"), CONNECTS)
def test_the_same_upgrade_and_events(kind: str, params: dict[str, Any]) -> None:
    """Path, query and fields of the upgrade, and every event that a method sends."""
    upgrades: list[Any] = []
    frames: list[list[Any]] = []

    async def handler(ws: ServerConnection) -> None:
        assert ws.request is not None
        upgrades.append((ws.request.path, {name: ws.request.headers.get(name) for name in FIELDS}))
        frames.append([json.loads(message) async for message in ws])

    async def main() -> None:
        async with serve(handler, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            options = {"base_url": f"http://127.0.0.1:{port}/v1", "api_key": "sk", "organization": "o", "project": "p"}
            if kind == "beta.realtime":  # the official client speaks nothing but TLS there
                options["websocket_base_url"] = f"ws://127.0.0.1:{port}/v1"
            for made in (openai.AsyncOpenAI, openaiasync.AsyncOpenAI):
                async with made(**options) as client:
                    connect = functools.reduce(getattr, [*kind.split("."), "connect"], client)
                    async with connect(**params) as connection:
                        for name, fields in EVENTS[kind]:
                            await functools.reduce(getattr, name.split("."), connection)(**fields)

    run(main())
    (path, fields), (our_path, our_fields) = upgrades
    ours, theirs = urlsplit(our_path), urlsplit(path)
    assert (ours.path, our_fields) == (theirs.path, fields)
    assert sorted(parse_qsl(ours.query, True)) == sorted(parse_qsl(theirs.query, True))
    assert frames[1] == frames[0]
    assert len(frames[0]) == len(EVENTS[kind])

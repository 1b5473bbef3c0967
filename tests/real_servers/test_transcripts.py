"""The transcripts are read as what they are: every byte accounted for."""

from __future__ import annotations

import asyncio
import http.client

import pytest

from conftest import run

from .replay import replaying
from .transcripts import Exchange, read_all, unescape

EXCHANGES = read_all()
BY_NAME = {exchange.name: exchange for exchange in EXCHANGES}


def test_all_transcripts_are_read() -> None:
    """All files are there, each answer has a status, and only those that say so are cut."""
    assert len({exchange.file for exchange in EXCHANGES}) == 26
    assert len(EXCHANGES) > 250
    assert len(BY_NAME) == len(EXCHANGES)
    assert {exchange.status for exchange in EXCHANGES} == {200, 307, 400, 401, 404, 405, 422, 500, 501}
    cut = {exchange.name for exchange in EXCHANGES if exchange.cut}
    assert {"llamacpp.stream: stream n=2", "llamacpp-emb.embeddings: embeddings list"} < cut
    assert "transformers.stream: stream reasoning" not in cut  # only its last chunk is told twice
    assert len(cut) < 20


@pytest.mark.parametrize(
    ("text", "data"),
    [
        (r"data: {}\n\n", b"data: {}\n\n"),
        (r"\\u000b", rb"\u000b"),
        (r"\u2028|", b"\xe2\x80\xa8|"),
        (r"\x00\xff\r\t", b"\x00\xff\r\t"),
        ("é😀", "é😀".encode()),
    ],
)
def test_escapes_stand_for_their_bytes(text: str, data: bytes) -> None:
    """A backslash escape is one byte or character, an escaped backslash is itself."""
    assert unescape(text) == data


@pytest.mark.parametrize("size", [None, 0, 7])
def test_a_replay_is_what_was_recorded(size: int | None) -> None:
    """Whatever the pieces, an HTTP client that is not ours gets the recorded status, fields and body."""
    exchange = BY_NAME["transformers.stream: stream utf8"]

    def ask(url: str) -> tuple[int, str | None, bytes]:
        connection = http.client.HTTPConnection(url.split("/")[2], timeout=10)
        connection.request("POST", "/v1/chat/completions", body=b'{"model": 1}')
        response = connection.getresponse()
        result = response.status, response.getheader("x-request-id"), response.read()
        connection.close()
        return result

    async def main(exchange: Exchange) -> None:
        async with replaying(exchange, size) as replay:
            got = await asyncio.to_thread(ask, replay.url)
            assert got == (200, "6d48676d-b433-4604-bfc3-70e5643bccea", exchange.body)
            assert replay.bodies == [b'{"model": 1}']

    run(main(exchange))

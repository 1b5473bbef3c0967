"""Server-sent events: the standard's rules, every split, bounds."""

from __future__ import annotations

import itertools
import json
import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from openaiasync.core.http.sse import Event, SSEDecoder, SSEError
from real_servers.transcripts import read_all


def literal(stream: bytes) -> list[bytes | Event]:
    """The standard's algorithm word by word, on the whole stream at once: slow, and obviously right."""
    if stream.startswith(b"\xef\xbb\xbf"):
        stream = stream[3:]
    events: list[bytes | Event] = []
    data, name, last_id, line = b"", b"", b"", b""
    position = 0
    while position < len(stream):
        byte = stream[position : position + 1]
        position += 1
        if byte not in (b"\r", b"\n"):
            line += byte
            continue
        if byte == b"\r" and stream[position : position + 1] == b"\n":
            position += 1
        if line == b"":
            if data != b"":
                text = name.decode("utf-8", "replace")
                plain = text in ("", "message")
                events.append(data[:-1] if plain else Event(text, data[:-1], last_id.decode("utf-8", "replace")))
            data, name = b"", b""
        elif not line.startswith(b":"):
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                data += value + b"\n"
            elif field == b"event":
                name = value
            elif field == b"id" and b"\0" not in value:
                last_id = value
        line = b""
    return events


def feed(pieces: list[bytes]) -> list[bytes | Event]:
    decoder = SSEDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    borders = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(borders)]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data\n\n", [b""]),
        (b"data:\n\n", [b""]),
        (b"data\ndata\n\n", [b"\n"]),
        (b"data: a\r\rdata: b\r\n\r\ndata: c\n\n", [b"a", b"b", b"c"]),
        (b"data: a\r\ndata: b\r\r\n", [b"a\nb"]),
        (b": comment\n\ndata: a\n: ping\n\n", [b"a"]),
        (b"event: x\n\ndata: a\n\n", [b"a"]),
        (b"event: x\ndata: a\n\ndata: b\n\n", [Event("x", b"a", ""), b"b"]),
        (b"event: message\ndata: a\n\n", [b"a"]),
        (b"event: x\nevent:\ndata: a\n\n", [b"a"]),
        (b"id: 7\ndata: a\n\nevent: x\ndata: b\n\n", [b"a", Event("x", b"b", "7")]),
        (b"id: 7\nid: 8\x00\nevent: x\ndata: b\n\n", [Event("x", b"b", "7")]),
        (b"retry: 10\nother: 1\ndata: a\n\n", [b"a"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", [b"b"]),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [b"a"]),
        (b"data: \xe2\x80\xa8\xe2\x80\xa9\xc2\x85\x0b\x0c\x1c\n\n", [b"\xe2\x80\xa8\xe2\x80\xa9\xc2\x85\x0b\x0c\x1c"]),
        (b"data: a\n", []),
        (b"data: a", []),
        (b"Data: a\n\n data: b\n\n", []),
        (b"", []),
    ],
)
def test_the_standards_rules(stream: bytes, events: list[bytes | Event]) -> None:
    """Whole, byte by byte, and in every two parts: the same events."""
    assert literal(stream) == events
    assert feed([stream]) == events
    assert feed([stream[i : i + 1] for i in range(len(stream))]) == events
    for place in range(len(stream)):
        assert feed([stream[:place], b"", stream[place:]]) == events


LINES = [
    b"data: ",
    b"data:",
    b"data",
    b"event: x",
    b"event: message",
    b"id: 1",
    b"\n",
    b"\n",
    b"\n\n",
    b"\r",
    b"\r\n",
    b":",
]
OTHERS = [b"\xef\xbb\xbf", b"\xef", b"abc", b" ", b"\x00", b"data: a\n\n", b"data: b\n\ndata: c\n\n", b"retry: 1\n"]
fragments = st.sampled_from(LINES + OTHERS)


@given(
    st.lists(fragments | st.binary(max_size=3), max_size=14).map(b"".join), st.lists(st.integers(0, 10_000), max_size=6)
)
@example(b"data: a\n\ndata: b\n\n", [])
@example(b"data: a\ndata: b\n\ndata: c\n\n", [])
@example(b"data: a\n\n\ndata: b\n\n", [])
@example(b"\xef\xbb\xbfdata: a\n\ndata: b\n\n", [1])
@example(b"data: a\r\n\r\ndata: b\n\n", [8])
def test_any_bytes_in_any_pieces_give_what_the_standard_says(stream: bytes, places: list[int]) -> None:
    """The short way and the general one agree with the standard's own algorithm."""
    assert feed(cut(stream, places)) == literal(stream)


@given(
    st.lists(st.binary(max_size=20).map(lambda data: re.sub(rb"[\r\n]", b"", data)), min_size=1, max_size=8),
    st.lists(st.integers(0, 10_000), max_size=5),
)
def test_usual_events_survive_any_split(contents: list[bytes], places: list[int]) -> None:
    """The form that servers send, cut anywhere."""
    stream = b"".join(b"data: " + content + b"\n\n" for content in contents)
    assert feed(cut(stream, places)) == contents


def test_the_streams_of_real_servers() -> None:
    """What llama.cpp and transformers sent, in the pieces in which it came: the same JSON as found the plain way."""
    seen = 0
    for exchange in read_all():
        if not (exchange.heads and exchange.is_stream) or exchange.cut:
            continue
        events = feed(exchange.pieces)
        assert events == literal(exchange.body)
        datas = [event if isinstance(event, bytes) else event.data for event in events]
        assert [json.loads(data) for data in datas if data != b"[DONE]"] == exchange.events
        seen += len(events)
    assert seen > 100


def test_pending_tells_of_an_unfinished_event() -> None:
    """The caller learns that a stream ended inside an event; comments and borders are nothing."""
    decoder = SSEDecoder()
    assert decoder.feed(b"data: a\n\n") == [b"a"]
    assert decoder.pending == 0
    decoder.feed(b": ping\n")
    assert decoder.pending == 0
    decoder.feed(b"event: x\n")
    assert decoder.pending > 0
    decoder.feed(b"data: [DONE]")
    assert decoder.pending > 12
    assert decoder.feed(b"\n\n") == [Event("x", b"[DONE]", "")]
    assert decoder.pending == 0


@pytest.mark.parametrize(
    "pieces",
    [
        [b"data: " + b"x" * 200 + b"\n\n"],
        [b"data: " + b"x" * 60, b"x" * 60, b"\n\n"],
        [b"data: x\n"] * 40,
        [b"data:\n"] * 40,
        [b"data: " + b"x" * 99],
        [b"x" * 101],
        [b":" + b"x" * 101],
        [b"data: a\r", b"\ndata: " + b"x" * 200],
    ],
)
def test_an_event_over_the_cap_is_an_error(pieces: list[bytes]) -> None:
    """However it comes; and the decoder stays in error."""
    decoder = SSEDecoder(max_event=100)
    with pytest.raises(SSEError, match="100 bytes"):
        list(map(decoder.feed, pieces))
    with pytest.raises(SSEError):
        decoder.feed(b"data: a\n\n")


def test_what_came_before_an_oversized_event_is_handed_out() -> None:
    """The error follows with the next call."""
    decoder = SSEDecoder(max_event=100)
    assert decoder.feed(b"data: a\n\ndata: " + b"x" * 200) == [b"a"]
    with pytest.raises(SSEError):
        decoder.feed(b"")


def test_the_cap_is_for_one_event_not_for_the_stream_or_the_piece() -> None:
    """Many small events, in one piece or many, and long-lived comments are fine."""
    decoder = SSEDecoder(max_event=100)
    assert len(decoder.feed(b"data: abc\n\n" * 50)) == 50
    assert decoder.feed(b"data: " + b"x" * 93 + b"\n\n") == [b"x" * 93]
    assert sum(len(decoder.feed(b": ping\n")) for _ in range(100)) == 0
    assert len(decoder.feed(b"event: x\ndata: abc\n\n" * 50)) == 50


def test_a_large_event_in_small_pieces_takes_linear_time() -> None:
    """Twice the bytes take about twice the time, not four times."""

    def seconds(count: int) -> float:
        decoder = SSEDecoder()
        began = time.process_time()
        decoder.feed(b"data: ")
        for _ in range(count):
            decoder.feed(b"x" * 100)
        assert decoder.feed(b"\n\n") == [b"x" * (100 * count)]
        return time.process_time() - began

    small = min(seconds(10_000) for _ in range(3))
    large = min(seconds(80_000) for _ in range(2))
    assert large < 30 * small + 0.05

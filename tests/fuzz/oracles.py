"""What must hold for any bytes: no foreign error, the same under every split, and what others read in them too."""

from __future__ import annotations

import itertools
import json
import math
import random
import zlib
from typing import Any

from core.test_http1 import ask_h11, ask_httptools, bytewise, parse
from core.test_sse import literal
from openaiasync.core.codec.accumulate import ChatAccumulator
from openaiasync.core.codec.completion import CompletionDetector
from openaiasync.core.codec.decode import DecodeError, decoder_for
from openaiasync.core.http import codings as coding
from openaiasync.core.http.codings import CodingError, Inflater
from openaiasync.core.http.sse import SSEDecoder
from openaiasync.core.model.headers import Headers
from openaiasync.core.model.meta import Meta, RequestInfo
from openaiasync.core.policy.retry import server_pause
from openaiasync.engine import failures as failure
from openaiasync.types import CreateEmbeddingResponse
from openaiasync.types.chat import ChatCompletion, ChatCompletionChunk
from openaiasync.types.responses import ResponseStreamEvent

__all__ = ["check_coding", "check_decode", "check_http1", "check_sse"]

CHUNKS = "types.chat.chat_completion_chunk:ChatCompletionChunk"
OTHERS = "types.responses.response_stream_event:ResponseStreamEvent"


def cuts(data: bytes, dice: random.Random) -> list[bytes]:
    places = sorted(dice.randrange(len(data) + 1) for _ in range(dice.randrange(6)))
    return [data[start:end] for start, end in itertools.pairwise([0, *places, len(data)])]


def check_http1(data: bytes, dice: random.Random) -> None:
    """One verdict under every split; what is accepted is what an oracle accepts, with the same status and body."""
    eof = dice.random() < 0.5
    whole = parse(data, eof=eof)
    places = tuple(dice.randrange(len(data) + 1) for _ in range(dice.randrange(6)))
    assert parse(data, places, eof=eof) == whole, f"split at {places}"
    if len(data) < 1_500:
        assert bytewise(data, eof=eof) == whole, "byte by byte"
    if whole.end != "complete" or not eof:
        return
    answers = [ask_h11(data), ask_httptools(data)]
    if whole.keep_alive:  # else bytes may follow, which oracles take for another answer
        ours = ("accepted", whole.status, whole.body)
        assert ours in answers, f"ours {ours}, theirs {answers}"


def check_sse(data: bytes, dice: random.Random) -> None:
    """The same events as the standard's algorithm, however the bytes are cut."""
    expected = literal(data)
    decoder = SSEDecoder()
    got = [event for piece in cuts(data, dice) for event in decoder.feed(piece)]
    assert got == expected, f"{got} instead of {expected}"
    assert SSEDecoder().feed(data) == expected


def reference(data: bytes, gzip: bool) -> bytes | None:
    """What the standard library makes of a whole body; `None` if it is cut or damaged."""
    framed = len(data) > 1 and data[0] & 15 == 8 and (data[0] << 8 | data[1]) % 31 == 0
    made = b""
    try:
        while True:
            stream = zlib.decompressobj(31 if gzip else 15 if framed else -15)
            made += stream.decompress(data)
            data = stream.unused_data
            if not stream.eof or (data and not gzip):
                return None
            if not data:
                return made
    except zlib.error:
        return None


def check_coding(data: bytes, dice: random.Random) -> None:
    """What comes out is what the standard library makes of it; what is cut or damaged is an error."""
    if not data:
        return
    gzip = data[0] == 0x1F
    expected = reference(data, gzip)
    inflater = Inflater("gzip" if gzip else "deflate", cap=1 << 24, ratio=10_000)
    try:
        made: bytes | None = b"".join(map(inflater.feed, cuts(data, dice))) + inflater.finish()
    except CodingError:
        made = None
    if made == data and coding._is_text(data):
        return  # compressed by name only
    assert made == expected, f"{made!r} instead of {expected!r}"


def check_decode(data: bytes, dice: random.Random) -> None:
    """An answer or a `DecodeError`; an answer can be shown, dumped, compared and added up, whatever is in it."""
    kinds: list[Any] = [ChatCompletion, ChatCompletionChunk, CreateEmbeddingResponse, ResponseStreamEvent]
    for kind in kinds:
        for strict in (False, True):
            try:
                item = decoder_for(kind, strict=strict).decode(data)
            except DecodeError:
                continue
            look_at(item, kind)
    meta = Meta(500, b"Retry-After: " + data[:40].translate(None, b"\r\n") + b"\r\n", RequestInfo("GET", "http://x"))
    error = failure.status_failure(meta, data, 1, 0.0)
    assert str(error)
    assert repr(error)
    failure.refused(meta, data, "fuzz", dice.choice(["", "error"]))
    pause = server_pause(meta.headers, 1e9)
    assert pause is None or pause >= 0
    assert isinstance(dict(Headers(data)), dict)


def look_at(item: Any, kind: Any) -> None:
    assert repr(item)
    dumped = item.to_dict()
    assert isinstance(dumped, dict)
    assert item == item or any(isinstance(one, float) and math.isnan(one) for one in flat(dumped))
    failure.holds_error(item)
    for ending in (CompletionDetector(CHUNKS), CompletionDetector(OTHERS)):
        ending.feed(item, "x")
        assert ending.complete in (True, False)
    if kind is ChatCompletionChunk:
        total = ChatAccumulator()
        total.add(item)
        total.add(item)
        answer = total.final()
        assert isinstance(answer.text, str)
        assert json.dumps(answer.to_dict(), default=str)
    elif kind is ChatCompletion:
        assert isinstance(item.text, str)


def flat(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [one for item in value.values() for one in flat(item)]
    if isinstance(value, list):
        return [one for item in value for one in flat(item)]
    return [value]

"""The answer parser: accepted and refused bytes, however they are split."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import h11
import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openaiasync.core.http import response as http1
from openaiasync.core.http.response import HTTPGrammarError, ResponseParser, try_complete

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n"


class Outcome(NamedTuple):
    """What came of some bytes: everything that must not depend on how they were cut."""

    end: str  # "complete", "waiting" or "error"
    status: int = 0
    fields: bytes = b""
    body: bytes = b""
    keep_alive: bool = False


def parse(data: bytes, cuts: tuple[int, ...] = (), *, eof: bool = False, bodiless: bool = False) -> Outcome:
    """Feed `data`, cut at `cuts`, then perhaps the end of the connection."""
    parser = ResponseParser(bodiless=bodiless)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    end = "waiting"
    try:
        for start, stop in pairwise(edges):
            parser.feed(data[start:stop])
        if parser.complete or (eof and parser.feed_eof()):
            end = "complete"
    except HTTPGrammarError:
        end = "error"
    return Outcome(end, parser.status, parser.raw_fields, b"".join(parser.pieces), parser.keep_alive)


def bytewise(data: bytes, **options: bool) -> Outcome:
    return parse(data, tuple(range(len(data))), **options)


# --- agreement with other parsers over a corpus ---

ACCEPTED: dict[str, tuple[bytes, int, bytes]] = {
    "length": (OK + b"Content-Length: 5\r\n\r\nhello", 200, b"hello"),
    "length zero": (OK + b"Content-Length: 0\r\n\r\n", 200, b""),
    "no reason": (b"HTTP/1.1 200 \r\nContent-Length: 1\r\n\r\nx", 200, b"x"),
    "no space before no reason": (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", 200, b"x"),
    "latin-1 reason": (b"HTTP/1.1 200 \xe9t\xe9\r\nContent-Length: 1\r\n\r\nx", 200, b"x"),
    "odd case and spaces": (OK + b"cOnTeNt-LeNgTh: \t 5 \t\r\n\r\nhello", 200, b"hello"),
    "empty value": (OK + b"X:\r\nContent-Length:2\r\n\r\nhi", 200, b"hi"),
    "latin-1 value": (OK + b"X: \xff\xfe\r\nContent-Length:2\r\n\r\nhi", 200, b"hi"),
    "same length twice": (OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi"),
    "same length in a list": (OK + b"Content-Length: 2, 2\r\n\r\nhi", 200, b"hi"),
    "1.0 with length": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi"),
    "until close": (OK + b"\r\nall of it", 200, b"all of it"),
    "1.0 until close": (b"HTTP/1.0 200 OK\r\n\r\nall of it", 200, b"all of it"),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    "304 with a length": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, b""),
    "status 599": (b"HTTP/1.1 599 Odd\r\nContent-Length: 0\r\n\r\n", 599, b""),
    "interim": (INTERIM + OK + b"Content-Length: 1\r\n\r\nx", 200, b"x"),
    "chunks": (CHUNKED + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", 200, b"hello world"),
    "no chunk": (CHUNKED + b"0\r\n\r\n", 200, b""),
    "length and chunked": (OK + b"Content-Length: 9\r\n" + CHUNKED[len(OK) :] + b"2\r\nhi\r\n0\r\n\r\n", 200, b"hi"),
    "chunked in 1.0": (CHUNKED.replace(b"1.1", b"1.0", 1) + b"2\r\nhi\r\n0\r\n\r\n", 200, b"hi"),
    "upper-case size": (CHUNKED + b"A\r\n0123456789\r\n0\r\n\r\n", 200, b"0123456789"),
    "leading zeros": (CHUNKED + b"0005\r\nhello\r\n000\r\n\r\n", 200, b"hello"),
    "chunk extension": (CHUNKED + b'5;a=b;c="d e"\r\nhello\r\n0;z\r\n\r\n', 200, b"hello"),
    "trailers": (CHUNKED + b"2\r\nhi\r\n0\r\nA: b\r\nC: d\r\n\r\n", 200, b"hi"),
    "chunk data like framing": (CHUNKED + b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", 200, b"\r\n0\r\n\r\n"),
    "odd-case chunked": (OK + b"TRANSFER-ENCODING: Chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", 200, b"x"),
}  # fmt: skip

REFUSED: dict[str, bytes] = {
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "HTTP/2": b"HTTP/2 200\r\n\r\n",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n",
    "empty line first": b"\r\n" + OK + b"Content-Length: 0\r\n\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "status 0xx": b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
    "two spaces before status": b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
    "switching protocols": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "bare LF after status": b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
    "bare LF only": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "bare LF after field": OK + b"A: b\nContent-Length: 0\r\n\r\n",
    "bare CR in value": OK + b"A: b\rC: d\r\nContent-Length: 0\r\n\r\n",
    "NUL in value": OK + b"A: \x00\r\nContent-Length: 0\r\n\r\n",
    "control in value": OK + b"A: \x01\r\nContent-Length: 0\r\n\r\n",
    "DEL in value": OK + b"A: \x7f\r\nContent-Length: 0\r\n\r\n",
    "control in reason": b"HTTP/1.1 200 \x01\r\nContent-Length: 0\r\n\r\n",
    "folded line": OK + b"A: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    "space before first field": OK + b" A: b\r\nContent-Length: 0\r\n\r\n",
    "space before colon": OK + b"Content-Length : 0\r\n\r\n",
    "no colon": OK + b"Content-Length\r\n\r\n",
    "empty name": OK + b": b\r\nContent-Length: 0\r\n\r\n",
    "name not a token": OK + b"A(b): c\r\nContent-Length: 0\r\n\r\n",
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "two lengths in a list": OK + b"Content-Length: 5, 6\r\n\r\nhello!",
    "negative length": OK + b"Content-Length: -1\r\n\r\n",
    "signed length": OK + b"Content-Length: +5\r\n\r\nhello",
    "hexadecimal length": OK + b"Content-Length: 0x5\r\n\r\nhello",
    "underscored length": OK + b"Content-Length: 1_0\r\n\r\n0123456789",
    "empty length": OK + b"Content-Length:\r\n\r\n",
    "length with space inside": OK + b"Content-Length: 1 0\r\n\r\n0123456789",
    "length of 30 digits": OK + b"Content-Length: 000000000000000000000000000005\r\n\r\nhello",
    "gzip coding": OK + b"Transfer-Encoding: gzip\r\n\r\n",
    "gzip, chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked on two lines": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "identity": OK + b"Transfer-Encoding: identity\r\n\r\n",
    "empty transfer coding": OK + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n",
    "size 0x5": CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n",
    "size -5": CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n",
    "size +5": CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n",
    "size 1_0": CHUNKED + b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n",
    "space before size": CHUNKED + b" 5\r\nhello\r\n0\r\n\r\n",
    "space after size": CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n",
    "empty size": CHUNKED + b"\r\nhello\r\n0\r\n\r\n",
    "size of 17 digits": CHUNKED + b"00000000000000005\r\nhello\r\n0\r\n\r\n",
    "size not hexadecimal": CHUNKED + b"5g\r\nhello\r\n0\r\n\r\n",
    "size ends with LF": CHUNKED + b"5\nhello\r\n0\r\n\r\n",
    "control in extension": CHUNKED + b"5;\x00\r\nhello\r\n0\r\n\r\n",
    "chunk longer than its size": CHUNKED + b"5\r\nhello!\r\n0\r\n\r\n",
    "chunk shorter than its size": CHUNKED + b"5\r\nhell\r\n0\r\n\r\n",
    "chunk ends with LF": CHUNKED + b"5\r\nhello\n0\r\n\r\n",
    "trailer with bare LF": CHUNKED + b"0\r\nA: b\n\r\n\r\n",
    "trailer without colon": CHUNKED + b"0\r\nA\r\n\r\n",
    "folded trailer": CHUNKED + b"0\r\nA: b\r\n c\r\n\r\n",
}  # fmt: skip

# Where we differ on purpose: answers of the corpus that the oracle judges otherwise, and why we stay with ours.
DIFFERENCES: dict[str, dict[str, str]] = {
    "h11": {
        "HTTP/1.2": "no such version exists",
        "bare LF after status": "RFC 9112, 2.2 permits lines ended by LF; what ends a line must be beyond doubt",
        "bare LF only": "as above",
        "bare LF after field": "as above",
        "folded line": "RFC 9112, 5.2 lets a client replace it; nobody sends it any more",
        "control in value": "RFC 9110, 5.5: only visible characters, spaces and tabs",
        "DEL in value": "as above",
        "control in reason": "RFC 9112, 4: as above",
        "space after size": "padding of servers long gone",
        "size of 17 digits": "over 64 bits",
        "control in extension": "not a token and not a quoted string",
        "trailer with bare LF": "as in a head",
        "folded trailer": "as in a head",
    },
    "httptools": {
        "same length twice": "RFC 9110, 8.6 lets identical lengths be merged",
        "same length in a list": "as above",
        "empty line first": "RFC 9112, 2.2 allows it to servers only",
        "status 0xx": "RFC 9110, 15: 100 to 599; we go up to 999",
        "control in reason": "RFC 9112, 4: only visible characters, spaces and tabs",
        "length of 30 digits": "over 64 bits",
        "gzip coding": "not chunked, so its end could not be told",
        "gzip, chunked": "the coding was not asked for",
        "chunked twice": "RFC 9112, 7.1: must not be applied twice",
        "chunked on two lines": "as above",
        "identity": "RFC 9112, 7: no longer a coding",
        "length and chunked": "RFC 9112, 6.3: the chunks override the length; the connection is closed afterwards",
        "size of 17 digits": "over 64 bits",
    },
}


def ask_h11(data: bytes) -> tuple[str, int, bytes]:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    connection.send(h11.EndOfMessage())
    status, body = 0, b""
    try:
        connection.receive_data(data)
        closed = False
        while True:
            event: Any = connection.next_event()
            if event is h11.NEED_DATA and not closed:
                connection.receive_data(b"")
                closed = True
            elif event is h11.NEED_DATA or event is h11.PAUSED:
                return ("refused", 0, b"")
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return ("accepted", status, body)
    except h11.RemoteProtocolError:
        return ("refused", 0, b"")


class _Listener:
    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def on_message_begin(self) -> None:
        self.bodies.append(b"")

    def on_body(self, body: bytes) -> None:
        self.bodies[-1] += body


def ask_httptools(data: bytes) -> tuple[str, int, bytes]:
    listener = _Listener()
    parser = httptools.HttpResponseParser(listener)
    try:
        parser.feed_data(data)
        return ("accepted", parser.get_status_code(), listener.bodies[-1])
    except httptools.HttpParserError:
        return ("refused", 0, b"")
    except httptools.HttpParserUpgrade:
        return ("refused", 0, b"")


ORACLES = {"h11": ask_h11, "httptools": ask_httptools}


@pytest.mark.parametrize("name", ACCEPTED)
def test_valid_answers_are_read_and_oracles_agree(name: str) -> None:
    """A valid answer gives its status and body, at once or byte by byte, as h11 and httptools have it."""
    data, status, body = ACCEPTED[name]
    whole = parse(data, eof=True)
    assert (whole.end, whole.status, whole.body) == ("complete", status, body)
    assert bytewise(data, eof=True) == whole
    for oracle, ask in ORACLES.items():
        agrees = ask(data) == ("accepted", status, body)
        assert agrees == (name not in DIFFERENCES[oracle]), f"{oracle}: {ask(data)}"


@pytest.mark.parametrize("name", REFUSED)
def test_invalid_answers_are_refused_and_differences_are_documented(name: str) -> None:
    """An invalid answer is an error without waiting for more; where an oracle takes it, the table says why we don't."""
    data = REFUSED[name]
    whole = parse(data)
    assert whole.end == "error"
    assert bytewise(data) == whole
    for oracle, ask in ORACLES.items():
        agrees = ask(data)[0] == "refused"
        assert agrees == (name not in DIFFERENCES[oracle]), f"{oracle}: {ask(data)}"


def test_no_difference_is_documented_that_is_none() -> None:
    """Each row of the table belongs to an answer of the corpus."""
    for rows in DIFFERENCES.values():
        assert set(rows) <= ACCEPTED.keys() | REFUSED.keys()


# --- any split, any bytes ---

_texts = st.text('abcXYZ019-;,= \t"\xe9', max_size=12).map(lambda text: text.strip(" \t").encode("latin-1"))
_names = st.sampled_from([b"Server", b"X-Request-Id", b"content-type", b"Date", b"A"])
_fields = st.lists(st.tuples(_names, _texts), max_size=5).map(
    lambda rows: b"".join(b"%b: %b\r\n" % row for row in rows)
)
_bodies = st.one_of(
    st.binary(max_size=60), st.sampled_from([b"\r\n", b"0\r\n\r\n", b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"])
)
_cuts = st.lists(st.integers(0, 10_000), max_size=12).map(tuple)


@st.composite
def _answers(draw: st.DrawFn) -> tuple[bytes, bytes, bytes]:
    """A valid answer, its field lines and its body."""
    head = b"".join(b"HTTP/1.1 103 X\r\n%b\r\n" % draw(_fields) for _ in range(draw(st.integers(0, 2))))
    fields = draw(_fields)
    if draw(st.booleans()):
        body = draw(_bodies)
        fields += b"Content-Length: %d\r\n" % len(body)
        return head + b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n" + body, fields, body
    chunks = [piece for piece in draw(st.lists(_bodies, max_size=5)) if piece]
    fields += b"Transfer-Encoding: chunked\r\n"
    coded = b"".join(b"%x%b\r\n%b\r\n" % (len(c), draw(st.sampled_from([b"", b";x=1"])), c) for c in chunks)
    trailers = draw(_fields)
    return (
        head + b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n" + coded + b"0\r\n" + trailers + b"\r\n",
        fields,
        b"".join(chunks),
    )


@given(_answers(), _cuts)
def test_any_split_of_a_valid_answer_gives_the_same_and_oracles_agree(
    answer: tuple[bytes, bytes, bytes], cuts: tuple[int, ...]
) -> None:
    """However the network cuts a valid answer, its head, body and verdict are the same, and both oracles have them."""
    data, fields, body = answer
    expected = Outcome("complete", 200, fields, body, True)
    assert parse(data, cuts) == expected == bytewise(data)
    assert ask_h11(data) == ask_httptools(data) == ("accepted", 200, body)


_SPOILERS = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b";",
    b"0",
    b"f",
    b"-",
    b"\r\n\r\n",
    b"Content-Length: 3\r\n",
    b"\xff",
]


@settings(max_examples=300)
@given(_answers(), st.data(), _cuts, st.booleans())
def test_any_split_of_a_spoilt_answer_gives_the_same(
    answer: tuple[bytes, bytes, bytes], draw: st.DataObject, cuts: tuple[int, ...], eof: bool
) -> None:
    """Bytes are judged the same way however they are cut, and the data before a fault is kept."""
    data = answer[0]
    for _ in range(draw.draw(st.integers(1, 3))):
        place = draw.draw(st.integers(0, len(data)))
        dropped = draw.draw(st.integers(0, 3))
        data = data[:place] + draw.draw(st.sampled_from(_SPOILERS)) + data[place + dropped :]
    whole = parse(data, eof=eof)
    assert parse(data, cuts, eof=eof) == whole
    assert bytewise(data, eof=eof) == whole


@given(st.binary(max_size=200), _cuts)
def test_garbage_is_an_error_or_waits_the_same_under_any_split(data: bytes, cuts: tuple[int, ...]) -> None:
    """Random bytes never raise anything but `HTTPGrammarError`."""
    assert parse(data, cuts) == parse(data) == bytewise(data)


# --- pieces ---


def test_a_chunk_that_came_whole_is_one_piece() -> None:
    """Each HTTP chunk of one read is a piece of its own: a server that sends an event a chunk is framed already."""
    parser = ResponseParser()
    parser.feed(CHUNKED + b"3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n")
    assert parser.pieces == [b"one", b"two", b"three"]
    parser.feed(b"4\r\nfo")
    parser.feed(b"ur\r\n0\r\n\r\n")
    assert parser.pieces[3:] == [b"fo", b"ur"]


def test_a_chunk_is_delivered_before_its_line_end() -> None:
    """A server that writes the CRLF of a chunk only with the next chunk does not hold back an event."""
    parser = ResponseParser()
    parser.feed(CHUNKED + b"3\r\none")
    assert parser.pieces == [b"one"]


# --- the connection afterwards ---


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        (OK + b"Content-Length: 1\r\n\r\nx", True),
        (OK + b"Content-Length: 1\r\n\r\nxy", False),
        (OK + b"Content-Length: 0\r\n\r\n", True),
        (OK + b"Content-Length: 0\r\n\r\nx", False),
        (CHUNKED + b"0\r\n\r\n", True),
        (CHUNKED + b"0\r\n\r\nx", False),
        (CHUNKED + b"0\r\nA: b\r\n\r\nx", False),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 1\r\n\r\n", True),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 1\r\n\r\nx", False),
        (OK + b"Connection: close\r\nContent-Length: 1\r\n\r\nx", False),
        (OK + b"Connection: x , CLOSE\r\nContent-Length: 1\r\n\r\nx", False),
        (OK + b"Connection: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", False),
        (OK + b"Connection: closed\r\nContent-Length: 1\r\n\r\nx", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", False),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\nx", True),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nx", False),
        (OK + b"\r\nx", False),
    ],
)
def test_keep_alive_follows_the_rfc_and_leftover_bytes_forbid_it(data: bytes, kept: bool) -> None:
    """RFC 9112, 9.3; and a connection with bytes beyond the end is never used again."""
    outcome = parse(data, eof=not kept)
    assert outcome.end == "complete"
    assert outcome.keep_alive is kept
    assert parse(data).keep_alive is kept


def test_a_late_byte_forbids_keeping() -> None:
    """A byte in a later read than the end counts as left over too."""
    parser = ResponseParser()
    parser.feed(OK + b"Content-Length: 0\r\n\r\n")
    assert parser.keep_alive
    parser.feed(b"x")
    assert parser.complete
    assert not parser.keep_alive


def test_bodiless_answers_end_with_their_head() -> None:
    """An answer to HEAD says how long the body would be, and has none."""
    assert parse(OK + b"Content-Length: 5\r\n\r\n", bodiless=True) == Outcome(
        "complete", 200, b"Content-Length: 5\r\n", b"", True
    )
    assert parse(CHUNKED, bodiless=True).end == "complete"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200",
        OK,
        OK + b"Content-Length: 5\r\n\r\nhell",
        CHUNKED,
        CHUNKED + b"5\r\nhello\r\n",
        CHUNKED + b"0\r\n",
    ],
)
def test_a_cut_answer_is_not_complete(data: bytes) -> None:
    """The end of the connection completes only a body that lasts until then."""
    parser = ResponseParser()
    parser.feed(data)
    assert parser.feed_eof() is False


def test_a_head_that_has_begun_can_be_told() -> None:
    """`began` tells a server that has started from one that has not, and forgets an interim answer."""
    parser = ResponseParser()
    assert not parser.began
    parser.feed(b"H")
    assert parser.began
    parser.feed(b"TTP/1.1 100 Continue\r\n\r\n")
    assert not parser.began
    assert parser.status == 0


# --- caps and cost ---


@pytest.mark.parametrize("cut", [False, True])
def test_heads_have_caps(cut: bool) -> None:
    """256 KB, 1,000 lines and ten interim answers pass; one more of each does not."""

    def judge(data: bytes) -> str:
        return parse(data, tuple(range(0, len(data), 1009)) if cut else ()).end

    empty = OK + b"Content-Length: 0\r\nX: \r\n\r\n"
    filler = b"v" * (http1.MAX_HEAD - len(empty))
    assert judge(empty.replace(b"X: ", b"X: " + filler)) == "complete"
    assert judge(empty.replace(b"X: ", b"X: v" + filler)) == "error"
    assert judge(OK + b"X: " + filler + b"v" * 99) == "error"  # without waiting for its end
    lines = b"A: b\r\n" * (http1.MAX_LINES - 1) + b"Content-Length: 0\r\n"
    assert judge(OK + lines + b"\r\n") == "complete"
    assert judge(OK + lines + b"A: b\r\n\r\n") == "error"
    assert judge(OK + lines + b"A: b\r\n" * 2) == "error"
    interim = b"HTTP/1.1 102 Processing\r\n\r\n" * http1.MAX_INTERIM
    assert judge(interim + empty) == "complete"
    assert judge(interim + b"HTTP/1.1 102 Processing\r\n\r\n") == "error"


@pytest.mark.parametrize("cut", [False, True])
def test_chunk_lines_and_trailers_have_caps(cut: bool) -> None:
    """Extensions and trailers are skipped, but not without end."""

    def judge(data: bytes) -> str:
        return parse(data, tuple(range(0, len(data), 101)) if cut else ()).end

    room = http1.MAX_CHUNK_LINE - len(b"\r\n1;\r\n")
    assert judge(CHUNKED + b"1\r\nx\r\n1;" + b"e" * room + b"\r\nx\r\n0\r\n\r\n") == "complete"
    assert judge(CHUNKED + b"1\r\nx\r\n1;" + b"e" * (room + 1) + b"\r\nx\r\n0\r\n\r\n") == "error"
    assert judge(CHUNKED + b"1\r\nx\r\n1;" + b"e" * (room + 2)) == "error"
    times = http1.MAX_CHUNK_EXTENSIONS // 512
    assert judge(CHUNKED + (b"1;" + b"e" * 511 + b"\r\nx\r\n") * times) == "waiting"
    assert judge(CHUNKED + (b"1;" + b"e" * 511 + b"\r\nx\r\n") * (times + 1)) == "error"
    assert judge(CHUNKED + b"0\r\nA: " + b"t" * (http1.MAX_TRAILERS - 5) + b"\r\n\r\n") == "complete"
    assert judge(CHUNKED + b"0\r\nA: " + b"t" * (http1.MAX_TRAILERS - 4) + b"\r\n\r\n") == "error"
    assert judge(CHUNKED + b"0\r\nA: " + b"t" * (http1.MAX_TRAILERS - 2)) == "error"
    assert judge(CHUNKED + b"0\r\n" + b"A:\r\n" * http1.MAX_LINES + b"\r\n") == "complete"
    assert judge(CHUNKED + b"0\r\n" + b"A:\r\n" * (http1.MAX_LINES + 1)) == "error"


class _Counted(bytes):
    """Bytes that count how many of them were copied by slicing and joining."""

    copied = 0

    def __getitem__(self, key: Any) -> Any:
        got = super().__getitem__(key)
        if isinstance(key, slice):
            _Counted.copied += len(got)
            return _Counted(got)
        return got

    def __radd__(self, other: bytes) -> bytes:
        _Counted.copied += len(other) + len(self)
        return _Counted(bytes(other) + bytes(self))

    __hash__ = bytes.__hash__


@pytest.mark.parametrize(
    "data",
    [
        CHUNKED + b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n",
        CHUNKED + b"c350\r\n" + b"y" * 50_000 + b"\r\n0\r\n\r\n",
        OK + b"Content-Length: 50000\r\n\r\n" + b"z" * 50_000,
        CHUNKED + b"0\r\n" + b"A: b\r\n" * 900 + b"\r\n",
        OK + b"A: " + b"v" * 50_000 + b"\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["tiny chunks", "one chunk", "length", "trailers", "head"],
)
@pytest.mark.parametrize("step", [1, 7, 1 << 18])
def test_work_is_linear_under_any_split(data: bytes, step: int) -> None:
    """The bytes copied stay within a few times the bytes that came, at once or byte by byte."""
    _Counted.copied = 0
    parser = ResponseParser()
    for start in range(0, len(data), step):
        parser.feed(_Counted(data[start : start + step]))
    assert parser.complete
    assert _Counted.copied <= 8 * len(data)


# --- the usual answer, which is recognised without a parser ---


def looks_usual(data: bytes) -> Outcome | None:
    found = try_complete(data)
    if found is None:
        return None
    status, fields, body, _ = found
    return Outcome("complete", status, fields, body, True)


@settings(max_examples=400)
@given(
    _answers(), st.integers(0, 10_000), st.sampled_from([b"", b"\n", b"\r", b"\0", b" ", b":", b"\x7f", b"x", b"\r\n"])
)
def test_what_is_taken_for_usual_is_what_the_parser_makes_of_it(
    answer: tuple[bytes, bytes, bytes], place: int, spoilt: bytes
) -> None:
    """Either both give the same, or the parser is left to judge; also where the bytes are wrong."""
    data = answer[0]
    place %= len(data) + 1
    for one in (data, data[:place] + spoilt + data[place:], data[:place] + spoilt + data[place + 1 :]):
        assert looks_usual(one) in (None, parse(one))


@pytest.mark.parametrize("name", [*ACCEPTED, *REFUSED])
def test_no_answer_of_the_corpus_is_taken_for_another(name: str) -> None:
    """What one read brings is the same with and without the short way."""
    data = ACCEPTED[name][0] if name in ACCEPTED else REFUSED[name]
    assert looks_usual(data) in (None, parse(data))


def test_usual_answers_are_usual() -> None:
    """The short way is taken by what servers send all day, or it would be worth nothing."""
    head = OK + b"Date: Sun, 22 Nov 2026 10:00:00 GMT\r\nServer: uvicorn\r\ncontent-type: application/json\r\n"
    assert try_complete(head + b"content-length: 2\r\n\r\n{}") == (
        200,
        head[17:] + b"content-length: 2\r\n",
        b"{}",
        False,
    )
    coded = try_complete(head + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}")
    assert coded is not None
    assert coded[3]
    for other in (b"content-length: 3", b"content-length: 02", b"Content-Length: 2\r\nconnection: close", b"x: y"):
        assert try_complete(head + other + b"\r\n\r\n{}") is None


@pytest.mark.parametrize("code", [*range(0x20), 0x7F])
def test_no_control_character_is_usual(code: int) -> None:
    """In a value or a reason, and whatever stands there, the parser and the short way are of one mind."""
    for data in (
        OK + b"X: a%cb\r\nContent-Length: 2\r\n\r\n{}" % code,
        b"HTTP/1.1 200 O%cK\r\nContent-Length: 2\r\n\r\n{}" % code,
    ):
        assert looks_usual(data) in (None, parse(data))
        assert (looks_usual(data) is not None) == (code == 0x09)

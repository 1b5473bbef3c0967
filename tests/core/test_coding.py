"""Content codings: whatever was compressed comes out under any split, and no bomb goes off."""

from __future__ import annotations

import gzip
import random
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cputime import assert_linear
from openaiasync.core.http import codings as coding
from openaiasync.core.http.codings import CodingError, Inflater, UnknownCodingError


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


FORMS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": (" X-GZip ", gzip.compress),
    "gzip members": ("gzip", lambda data: gzip.compress(data[:7]) + gzip.compress(b"") + gzip.compress(data[7:])),
    "deflate": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
    "identity": ("identity", bytes),
    "none": ("", bytes),
}


def inflate(name: str, *pieces: bytes, cap: int = 1 << 30, ratio: int = 2_000) -> bytes:
    inflater = Inflater(name, cap=cap, ratio=ratio)
    return b"".join([inflater.feed(piece) for piece in pieces]) + inflater.finish()


@pytest.mark.parametrize("form", FORMS)
@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(0, 400), max_size=8))
def test_everything_comes_out_under_any_split(form: str, data: bytes, cuts: list[int]) -> None:
    """At once, byte by byte or cut anywhere."""
    name, compress = FORMS[form]
    packed = compress(data)
    edges = [0, *sorted(min(cut, len(packed)) for cut in cuts), len(packed)]
    assert inflate(name, packed) == data
    assert inflate(name, *[packed[start:stop] for start, stop in pairwise(edges)]) == data
    assert inflate(name, *[packed[at : at + 1] for at in range(len(packed))]) == data


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [coding._SLICE - 1, coding._SLICE, coding._SLICE + 1, coding._SLICE * 4])
def test_output_that_fills_a_step_exactly_is_not_lost(form: str, size: int) -> None:
    """Where a step's output ends with the input, zlib may still hold something back."""
    name, compress = FORMS[form]
    for data in (bytes(size), b"ab" * (size // 2) + b"c" * (size % 2)):
        packed = compress(data)
        assert inflate(name, packed) == data
        assert inflate(name, packed[:-1], packed[-1:]) == data


@pytest.mark.parametrize("form", ["gzip", "gzip members", "deflate", "raw deflate"])
def test_a_cut_body_is_an_error_wherever_it_is_cut(form: str) -> None:
    """A body must be complete; an empty one, of an answer without content, is not cut."""
    name, compress = FORMS[form]
    packed = compress(b"some text that is worth it" * 3)
    ends = {len(packed)}
    if form == "gzip members":
        first = len(gzip.compress(b"some te"))
        ends |= {first, first + len(gzip.compress(b""))}
    for length in range(1, len(packed) + 1):
        if length in ends:
            inflate(name, packed[:length])
        else:
            with pytest.raises(CodingError, match="cut"):
                inflate(name, packed[:length])
    assert inflate(name) == inflate(name, b"") == b""


@pytest.mark.parametrize("form", ["gzip", "deflate", "raw deflate"])
def test_damage_and_surplus_are_errors(form: str) -> None:
    """A wrong checksum, garbage instead of a body, bytes behind it."""
    name, compress = FORMS[form]
    packed = compress(b"text" * 100)
    for broken in (b"\xff" * 50, packed + b"more than this", packed[:2] + b"\xff" * 50):
        with pytest.raises(CodingError):
            inflate(name, broken)
    if form != "raw deflate":
        with pytest.raises(CodingError, match="damaged"):
            inflate(name, packed[:-5] + bytes([packed[-5] ^ 1]) + packed[-4:])


@pytest.mark.parametrize("name", ["br", "zstd", "compress", "gzip, gzip", "gzip,deflate", "gzip gzip", "weird", "*"])
def test_other_codings_are_refused(name: str) -> None:
    """What was not asked for, and codings in layers, once the bytes show that they are not plain."""
    for packed in (gzip.compress(b"text"), b"\x1b\x16\x00\xf8", b"(\xb5/\xfd", b"{\x00", b"a"):
        with pytest.raises(UnknownCodingError, match="not supported") if packed != b"a" else nullcontext():
            inflate(name, *[packed[at : at + 1] for at in range(len(packed))])


PLAIN = [
    '{"id": "x"}',
    '{\n  "id": "x"}',
    "[]",
    '["\u20ac"]',
    "data: {}\n\n",
    "\ufeffdata: {}\n\n",
    ": ping\n\n",
    "<html>",
]


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd", "none", "utf-8", "UTF-8", "binary", "weird", "a, b"])
@pytest.mark.parametrize("text", PLAIN)
def test_plain_bytes_pass_under_any_name(name: str, text: str) -> None:
    """Proxies decompress and leave the label, servers write nonsense there: the first bytes decide, however cut."""
    data = text.encode()
    assert inflate(name, data) == data
    assert inflate(name, *[data[at : at + 1] for at in range(len(data))]) == data
    longer = data + b"\0" * 200  # what comes later decides nothing
    assert inflate(name, data + b" " * 64, b"\0" * 200) == data + b" " * 64 + longer[len(data) :]


@pytest.mark.parametrize("name", ["none", "identity", "utf-8", "binary", ""])
def test_names_that_are_no_coding_touch_no_byte(name: str) -> None:
    """Sound and files may be labelled so, and may look like anything."""
    for data in (bytes(range(256)), gzip.compress(b"a file that is an archive")):
        assert inflate(name, data) == inflate(name, data[:1], data[1:]) == data


def test_layers_that_say_nothing_are_passed_over() -> None:
    """``gzip, identity`` is gzip."""
    assert inflate("gzip, identity", gzip.compress(b"text")) == inflate("utf-8,GZIP", gzip.compress(b"text")) == b"text"


@pytest.mark.parametrize("form", FORMS)
def test_the_cap_counts_what_comes_out(form: str) -> None:
    """Exactly the cap passes, one more does not."""
    name, compress = FORMS[form]
    assert inflate(name, compress(bytes(5_000)), cap=5_000) == bytes(5_000)
    with pytest.raises(CodingError, match="5000 bytes"):
        inflate(name, compress(bytes(5_001)), cap=5_000)


def test_the_ratio_counts_from_a_megabyte_on() -> None:
    """Small bodies may be as compressible as they like."""
    small, large = gzip.compress(bytes(1 << 20)), gzip.compress(bytes((1 << 20) + 1))
    assert len(inflate("gzip", small, ratio=10)) == 1 << 20
    with pytest.raises(CodingError, match="10 times"):
        inflate("gzip", large, ratio=10)
    noise = random.Random(1).randbytes(1 << 21)
    assert inflate("gzip", gzip.compress(noise), ratio=2) == noise


def test_a_bomb_is_never_unpacked() -> None:
    """128 MB in 128 KB are refused after the cap and a step, within that much memory."""
    stream = zlib.compressobj(wbits=31)
    zeros = bytes(1 << 20)
    bomb = b"".join(stream.compress(zeros) for _ in range(1 << 7)) + stream.flush()
    cap = 1 << 22
    tracemalloc.start()
    try:
        with pytest.raises(CodingError):
            inflate("gzip", bomb, cap=cap, ratio=10_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * cap


@pytest.mark.parametrize("kind", ["one member", "tiny members"])
def test_the_work_is_linear_in_one_large_piece(kind: str) -> None:
    """Four times the body in one piece takes about four times as long, not sixteen times."""
    member = gzip.compress(b"x")
    noise = random.Random(1).randbytes(1 << 20)
    packed = {
        times: member * (2_000 * times) if kind == "tiny members" else gzip.compress(noise * times, 1)
        for times in (2, 8)
    }
    assert_linear(lambda times: inflate("gzip", packed[times]), 2)

"""Mutates what servers send and holds our parsers against each other and against what others wrote.

    python tests/fuzz/target.py --seconds 60 [--seed 1]

Inputs grow from the recorded answers of real servers by random edits; an input that makes a parser take a line of code
that none before it took is kept and edited further. Whatever breaks a promise is printed and written beside the seeds,
and the exit code is 1. No I/O is done by what is tested.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "src")]

import openaiasync  # noqa: E402
from fuzz.oracles import check_coding, check_decode, check_http1, check_sse  # noqa: E402
from real_servers.transcripts import read_all  # noqa: E402

PACKAGE = str(Path(openaiasync.__file__).parent / "core")
TARGETS: dict[str, Callable[[bytes, random.Random], None]] = {
    "http1": check_http1,
    "sse": check_sse,
    "coding": check_coding,
    "decode": check_decode,
}
TOKENS = [
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"data:", b"data: ", b"event: ", b"id: ", b"retry: 3", b": ", b"[DONE]",
    b"\xef\xbb\xbf", b"\0", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 ", b"HTTP/1.1 100 Continue\r\n\r\n",
    b"Content-Length: ", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n",
    b"ffffffffffffffff", b"-1", b";x=y", b"\xe2\x80\xa8", b"\xff", b"{", b"}", b"[", b"]", b'"', b"null", b"NaN",
    b'{"error": {"message": "x"}}', b"1e999", b"\\ud800", b"\x1f\x8b\x08", b" ", b"\t",
]  # fmt: skip


def seeds() -> dict[str, list[bytes]]:
    """Inputs to begin with, by target."""
    http1: list[bytes] = []
    sse: list[bytes] = []
    decode: list[bytes] = []
    for exchange in read_all():
        wire = b"".join(exchange.wire())
        if len(wire) < 6_000:
            http1.append(wire)
        if exchange.is_stream:
            sse += [exchange.body[:3_000], exchange.body[-3_000:]]
            decode += [line.removeprefix(b"data: ") for line in exchange.body.split(b"\n")[:3]]
        elif len(exchange.body) < 3_000:
            decode.append(exchange.body)
    packed = [zlib.compress(body) for body in decode[:20]]
    gzipped = [pack.compress(b) + pack.flush() for b in decode[:20] if (pack := zlib.compressobj(wbits=31))]
    return {"http1": http1, "sse": sse, "decode": decode, "coding": packed + gzipped}


def mutated(data: bytes, others: list[bytes], dice: random.Random) -> bytes:
    """A few random edits."""
    made = bytearray(data)
    for _ in range(dice.choice((1, 1, 1, 2, 3, 8))):
        at = dice.randrange(len(made) + 1)
        kind = dice.randrange(7)
        if kind == 0:
            made[at:at] = dice.choice(TOKENS)
        elif kind == 1:
            del made[at : at + dice.choice((1, 1, 2, 8, 64))]
        elif kind == 2 and at < len(made):
            made[at] ^= 1 << dice.randrange(8)
        elif kind == 3:
            made[at : at + dice.randrange(4)] = bytes(dice.randrange(256) for _ in range(dice.randrange(1, 4)))
        elif kind == 4:
            end = at + dice.randrange(40)
            made[at:at] = made[at:end] * dice.choice((1, 1, 2, 50))
        elif kind == 5:
            other = dice.choice(others)
            start = dice.randrange(len(other) + 1)
            made[at:] = other[start : start + dice.randrange(400)]
        else:
            del made[at:]
    return bytes(made[:20_000])


class Coverage:
    """Which lines of `core` were taken, and whether the last input took a new one."""

    def __init__(self) -> None:
        self.lines: set[tuple[CodeType, int]] = set()

    def run(self, check: Callable[[], None]) -> bool:
        before = len(self.lines)
        sys.settrace(self._call)
        try:
            check()
        finally:
            sys.settrace(None)
        return len(self.lines) > before

    def _call(self, frame: FrameType, event: str, value: Any) -> Any:
        return self._line if frame.f_code.co_filename.startswith(PACKAGE) else None

    def _line(self, frame: FrameType, event: str, value: Any) -> Any:
        self.lines.add((frame.f_code, frame.f_lineno))
        return self._line


def fuzz(seconds: float, seed: int) -> int:
    """Run for so long; the number of broken promises."""
    dice = random.Random(seed)
    corpus = seeds()
    coverage = {name: Coverage() for name in TARGETS}
    counts = dict.fromkeys(TARGETS, 0)
    failures = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end and failures < 5:
        for name, check in TARGETS.items():
            pool = corpus[name]
            data = mutated(dice.choice(pool), pool, dice)
            counts[name] += 1
            # Following every line is slow: one input of eight looks for new ways, the others for faults.
            traced = counts[name] % 8 == 0
            split = random.Random(dice.random())
            try:
                if traced and coverage[name].run(lambda: check(data, split)):  # noqa: B023 (called at once)
                    pool.append(data)
                elif not traced:
                    check(data, split)
            except BaseException as error:
                failures += 1
                found = HERE / f"found-{name}-{zlib.crc32(data):08x}.bin"
                found.write_bytes(data)
                print(f"{name}: {type(error).__name__}: {error}\n  input in {found}: {data[:300]!r}", flush=True)
    lines = {name: len(one.lines) for name, one in coverage.items()}
    kept = {name: len(pool) for name, pool in corpus.items()}
    print(f"inputs {counts}, kept {kept}, lines of core taken {lines}, {failures} faults")
    return failures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    chosen = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {chosen}", flush=True)
    sys.exit(1 if fuzz(options.seconds, chosen) else 0)

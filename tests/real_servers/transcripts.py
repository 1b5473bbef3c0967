"""Reads tests/transcripts/*.txt: what real servers answered, byte for byte, each with the request that caused it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "transcripts"

_UNIT = re.compile(r"\[(chunk|body|until-close body) (\d+) bytes\] (.*)", re.DOTALL)
_LAST = re.compile(r"\[last chunk; (\d+) chunks, (\d+) bytes in all\]")
_REPEATED = "...(cut; the last chunk was) "
_CUT = re.compile(r" \.\.\.\(cut, \d+ bytes in this unit\)$")
_REQUEST = re.compile(r">>> ([A-Z]+) (\S+) (.*)", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|([nrt\\]))")
_SIMPLE = {"n": b"\n", "r": b"\r", "t": b"\t", "\\": b"\\"}


@dataclass
class Exchange:
    """One request and its answer."""

    file: str
    title: str
    method: str = ""
    path: str = ""
    sent: str = ""  # request header fields (joined by " | "), a space, the body
    heads: list[bytes] = field(default_factory=list[bytes])  # each with its empty line; interim ones (1xx) come first
    framing: str = "none"  # "chunk", "body" (Content-Length), "until-close body", "none"
    pieces: list[bytes] = field(default_factory=list[bytes])  # the body, a chunk each if chunked
    cut: bool = False  # the transcript does not hold all of the answer

    @property
    def name(self) -> str:
        return f"{self.file}: {self.title}"

    @property
    def status(self) -> int:
        return int(self.heads[-1].split(b" ", 2)[1])

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def request(self) -> dict[str, Any] | None:
        """The request's body if it is there in full and a JSON object."""
        start = self.sent.find("{")
        try:
            value = json.loads(unescape(self.sent[start:])) if start >= 0 else None
        except ValueError:
            return None
        return value if isinstance(value, dict) else None

    @property
    def is_stream(self) -> bool:
        return b"text/event-stream" in self.heads[-1].lower()

    @property
    def events(self) -> list[Any]:
        """The JSON of each event of a stream, found the plain way: one ``data:`` line an event."""
        lines = [line for line in self.body.split(b"\n") if line.startswith(b"data:")]
        texts = [line.removeprefix(b"data:").strip(b" ") for line in lines]
        return [json.loads(text) for text in texts if text != b"[DONE]"]

    def wire(self) -> list[bytes]:
        """The answer in the pieces in which it goes over the wire."""
        units = [*self.heads]
        if self.framing == "chunk":
            units += [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in self.pieces]
            units += [] if self.cut else [b"0\r\n\r\n"]
        else:
            units += self.pieces
        return units

    @property
    def closes(self) -> bool:
        """Whether the server closes the connection after the answer."""
        return self.cut or self.framing == "until-close body" or b"connection: close" in self.heads[-1].lower()


def unescape(text: str) -> bytes:
    """A transcript's text as the bytes it stands for."""
    out, end = bytearray(), 0
    for match in _ESCAPE.finditer(text):
        out += text[end : match.start()].encode()
        byte, char, simple = match.groups()
        out += bytes([int(byte, 16)]) if byte else chr(int(char, 16)).encode() if char else _SIMPLE[simple]
        end = match.end()
    return bytes(out + text[end:].encode())


def read_file(path: Path) -> list[Exchange]:
    """All exchanges of one file that tell their request."""
    sections = re.split(r"^============ (.*)\n", path.read_bytes().decode(), flags=re.MULTILINE)
    found: list[Exchange] = []
    for title, text in zip(sections[1::2], sections[2::2], strict=True):
        if text.startswith(">>> "):
            found.append(_read_section(Exchange(path.stem, title), text.split("\n")))
    return found


def _read_section(exchange: Exchange, lines: list[str]) -> Exchange:
    match = _REQUEST.fullmatch(lines[0])
    if match is None:
        raise ValueError(f"{exchange.name}: no request in {lines[0]!r}")
    exchange.method, exchange.path, exchange.sent = match.groups()
    at, totals = 1, (0, 0)
    while lines[at].startswith("HTTP/"):
        end = lines.index("", at)
        exchange.heads.append("".join(f"{line}\r\n" for line in lines[at:end]).encode("latin-1") + b"\r\n")
        at = end + 1
    for line in lines[at:]:
        if match := _UNIT.fullmatch(line):
            _read_unit(exchange, match[1], int(match[2]), match[3])
        elif match := _LAST.fullmatch(line):
            totals = int(match[1]), int(match[2])
            exchange.cut |= totals != (len(exchange.pieces), len(exchange.body))
        elif line.startswith(_REPEATED):
            last = unescape(line.removeprefix(_REPEATED))
            if exchange.cut and totals == (len(exchange.pieces) + 1, len(exchange.body) + len(last)):
                exchange.pieces.append(last)
                exchange.cut = False
        elif line and not line.startswith(("[answered ", "[closed ")):
            raise ValueError(f"{exchange.name}: {line[:80]!r} is nothing a transcript has")
    return exchange


def _read_unit(exchange: Exchange, framing: str, size: int, text: str) -> None:
    piece = unescape(_CUT.sub("", text))
    exchange.framing = framing
    exchange.cut |= piece != b"" and _CUT.search(text) is not None
    if not exchange.cut and len(piece) != size:
        raise ValueError(f"{exchange.name}: {len(piece)} bytes where {size} were seen")
    exchange.pieces.append(piece)


def read_all() -> list[Exchange]:
    return [exchange for path in sorted(FOLDER.glob("*.txt")) for exchange in read_file(path)]

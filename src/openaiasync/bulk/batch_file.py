"""Files in the Batch format: requests as JSON Lines in, answers as JSON Lines out.

A line of input is ``{"custom_id": …, "method": "POST", "url": "/v1/chat/completions", "body": {…}}``; a line of output
``{"id": …, "custom_id": …, "response": {"status_code": …, "request_id": …, "body": {…}}, "error": null}``. OpenAI's
Batch API and vLLM's ``run-batch`` read and write the same. Rows that failed are written as lines of input with two more
fields, ``response`` and ``error``, so that the file can be sent again unchanged.

`check_file` reads a whole file before anything is sent: 3 µs a row, in memory that does not grow with the rows.
"""

from __future__ import annotations

import hashlib
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple, cast

import msgspec

from ..core.codec.endpoint import Endpoint, Request, nearest
from ..errors import OpenAIError
from .object_storage import input_state, is_url, open_input

__all__ = [
    "BatchLine",
    "CheckedFile",
    "InputFileError",
    "LinePosition",
    "LineProblem",
    "SeenOnce",
    "as_object",
    "check_file",
    "digest_of",
    "encode_failure",
    "encode_success",
    "endpoint_at",
    "output_limit_of",
    "parse_line",
    "read_lines",
    "request_of",
    "skip_rows",
    "with_defaults",
]

_CHUNK = 1 << 18  # bytes read at once
_LONGEST = 256 << 20  # bytes of a line; a longer one is not JSON Lines
_SHOWN = 20  # problems in an error's message
_EXACT = 1 << 17  # texts that are stored one by one
_FEW = 30  # suspects that are searched for in each line before it is decoded
_KEPT = 1000  # problems that are kept; the others are counted
_URLS = ("/chat/completions", "/completions", "/embeddings", "/responses", "/moderations")


class LineProblem(NamedTuple):
    """A problem in one line of a file, counted from 1; line 0 is the file as a whole."""

    line: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}" if self.line else self.text


class InputFileError(OpenAIError, ValueError):
    """A file of requests cannot be used. Nothing was sent.

    `problems` are the first thousand, by line; `count` is their total number.
    """

    def __init__(self, path: str, problems: list[LineProblem], count: int | None = None) -> None:
        self.path = path
        self.problems = problems
        self.count: int = len(problems) if count is None else count
        shown = "; ".join(str(problem) for problem in problems[:_SHOWN])
        more = self.count - min(len(problems), _SHOWN)
        super().__init__(f"{path}: {shown}{f'; and {more:,} more' if more else ''}")


class BatchLine(msgspec.Struct, gc=False):
    """One line of input; `body` is the raw JSON from the file."""

    body: msgspec.Raw
    custom_id: str = ""
    url: str = ""
    method: str = "POST"


class BodyFields(msgspec.Struct, gc=False):
    """The fields of a body that are checked before it is sent; the server checks the others."""

    model: Any = None
    stream: Any = None
    input: Any = None
    encoding_format: Any = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None
    temperature: Any = None

    @property
    def output_limit(self) -> int | None:
        """The limit on the answer's tokens, if the body sets one."""
        for value in (self.max_completion_tokens, self.max_tokens, self.max_output_tokens):
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
        return None


class _Checkable(msgspec.Struct, gc=False):
    """A line with the fields of its body, decoded in one step for checking."""

    body: BodyFields | None = None
    custom_id: Any = None
    url: Any = None
    method: Any = "POST"


_line = msgspec.json.Decoder(BatchLine)
_checkable = msgspec.json.Decoder(_Checkable)
_fields = msgspec.json.Decoder(BodyFields)


@cache
def _endpoints() -> dict[str, Endpoint]:
    from .. import endpoints

    known = (
        endpoints.CHAT_COMPLETIONS_CREATE,
        endpoints.COMPLETIONS_CREATE,
        endpoints.EMBEDDINGS_CREATE,
        endpoints.RESPONSES_CREATE,
        endpoints.MODERATIONS_CREATE,
    )
    return {prefix + endpoint.path: endpoint for endpoint in known for prefix in ("", "/v1")}


def endpoint_at(url: str) -> Endpoint | None:
    """Return the endpoint of a line's ``url``, which may lack its ``/v1``; `None` if it is unknown."""
    return _endpoints().get(url)


def parse_line(line: bytes) -> tuple[BatchLine, BodyFields]:
    """Return a decoded line and the checked fields of its body. Raises `msgspec.DecodeError` if it is malformed."""
    parsed = _line.decode(line)
    return parsed, _fields.decode(parsed.body)


def output_limit_of(body: bytes) -> int | None:
    """Return the limit on the answer's tokens that a valid body sets, if any."""
    return _fields.decode(body).output_limit


def as_object(value: Any) -> dict[str, Any]:
    """Return a decoded JSON object unchanged, and an empty one for any other value."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def with_defaults(body: bytes, defaults: dict[str, Any]) -> bytes:
    """Return a body completed with the fields of `defaults` that it lacks."""
    if not defaults:
        return body
    fields: dict[str, msgspec.Raw] = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    missing = {name: value for name, value in defaults.items() if name not in fields}
    return msgspec.json.encode({**fields, **missing}) if missing else body


def request_of(endpoint: Endpoint, body: bytes, fields: BodyFields) -> Request:
    """Return the request of a row. The server checks its parameters."""
    request = Request(endpoint, endpoint.path, body)
    if endpoint.group == "embedding":
        given = fields.input
        if isinstance(given, str):
            request.texts = 1
        elif isinstance(given, list) and given:
            request.texts = 1 if isinstance(given[0], int) else len(given)  # pyright: ignore[reportUnknownArgumentType]
        request.as_base64 = fields.encoding_format == "base64"
    return request


# -------------------------------------------------------------------------------------------------- reading


class LinePosition(NamedTuple):
    """The position of a line: the bytes, lines and rows (lines that are not blank) before it."""

    offset: int = 0
    line: int = 0
    row: int = 0


def read_lines(path: str, size: int | None = None, start: LinePosition | None = None) -> Iterator[tuple[int, bytes]]:
    """Read the lines of a file that are not blank, with their numbers from 1, in bounded memory. Blocks.

    With `size`, read only that many bytes, ignoring rows added meanwhile. Raises `OSError`, and `InputFileError` for a
    line that is not text and for a file that ends before `size`.
    """
    start = start or LinePosition()
    left = None if size is None else size - start.offset
    number = start.line
    pieces: list[bytes] = []
    length = 0
    with open_input(path) as file:
        file.seek(start.offset)
        while chunk := file.read(_CHUNK if left is None else min(_CHUNK, left)):
            if left is not None:
                left -= len(chunk)
            lines = chunk.split(b"\n")
            last = lines.pop()
            if lines and pieces:
                lines[0] = b"".join((*pieces, lines[0]))
                pieces.clear()
                length = 0
            if not number and lines:
                lines[0] = lines[0].removeprefix(BOM_UTF8)
            for line in lines:
                number += 1
                if line and not line.isspace():
                    yield number, line
            pieces.append(last)
            length += len(last)
            if length > _LONGEST:
                raise InputFileError(path, [LineProblem(number + 1, f"longer than {_LONGEST:,} bytes: not JSON Lines")])
    if left:
        text = f"the file became shorter while it was read: {left:,} bytes are missing"
        raise InputFileError(path, [LineProblem(number + 1, text)])
    rest = b"".join(pieces)
    rest = rest if number else rest.removeprefix(BOM_UTF8)
    if rest and not rest.isspace():
        yield number + 1, rest


def skip_rows(path: str, size: int, finished: Callable[[int], bool], start: int = 0) -> LinePosition:
    """Return the position of the first row that is not `finished`, of those from byte `start` to byte `size`.

    Lines and rows are counted from `start`. Blocks. Raises `OSError`.
    """
    offset = start
    number = row = 0
    carried = 0  # bytes of a line that continues in the next chunk
    blank = True
    with open_input(path) as file:
        file.seek(start)
        while offset + carried < size and (chunk := file.read(min(_CHUNK, size - offset - carried))):
            lines = chunk.split(b"\n")
            last = lines.pop()
            for line in lines:
                if not (blank and (not line or line.isspace())):
                    if not finished(row):
                        return LinePosition(offset, number, row)
                    row += 1
                offset += carried + len(line) + 1
                number += 1
                carried, blank = 0, True
            carried += len(last)
            blank = blank and (not last or last.isspace())
    if offset + carried < size:
        return LinePosition(offset, number, row)  # the file became shorter: `read_lines` says so
    if blank:
        return LinePosition(size, number, row)
    if finished(row):
        return LinePosition(size, number + 1, row + 1)
    return LinePosition(offset, number, row)


def digest_of(path: str, size: int, start: int = 0) -> str:
    """Return the digest of a file's bytes from `start` to `size`, ``""`` if it is shorter. Blocks. Raises `OSError`."""
    digest = hashlib.blake2b(digest_size=16)
    size -= start
    with open_input(path) as file:
        file.seek(start)
        while size and (chunk := file.read(min(1 << 20, size))):
            digest.update(chunk)
            size -= len(chunk)
    return "" if size else digest.hexdigest()


# -------------------------------------------------------------------------------------------------- checking


class CheckedFile:
    """The result of checking a file.

    Attributes:
        rows: lines with a request.
        start: the first byte of the part that was checked; 0 for a whole file.
        size: the byte after its last one: the size of a whole file.
        modified: its modification time (ns), a quick test for an unchanged file.
        digest: of its bytes.
        problems: the first thousand problems, by line.
        problem_count: how many problems there are.
        urls, models: the number of rows by URL and by model.
        input_tokens: an estimate for the prompts, from their size.
        output_limit: the largest number of tokens that the answers can have; counts only rows that set a limit.
        unlimited: rows that set no limit for their answer.
    """

    def __init__(self, path: str, start: int = 0) -> None:
        self.path = path
        self.rows = 0
        self.start = start
        self.size = 0
        self.modified = 0
        self.digest = ""
        self.problems: list[LineProblem] = []
        self.problem_count: int = 0
        self.urls: Counter[str] = Counter()
        self.models: Counter[str] = Counter()
        self.input_tokens = 0
        self.output_limit = 0
        self.unlimited = 0

    def add(self, line: int, text: str) -> None:
        """Record a problem."""
        self.problem_count += 1
        if len(self.problems) < _KEPT:
            self.problems.append(LineProblem(line, text))

    def error(self) -> InputFileError | None:
        """Return the error for the problems found, `None` if the file is valid."""
        if not self.problem_count:
            return None
        where = f" (lines counted from byte {self.start:,})" if self.start else ""
        return InputFileError(f"{self.path}{where}", self.problems, self.problem_count)


class SeenOnce:
    """A set that tells whether a text may have been seen before, without false negatives.

    It stores hashes up to a number of texts, then uses a Bloom filter with about 0.1 % false positives at 24 bits per
    text. Suspects are verified in a second pass over the file.
    """

    def __init__(self, expected: int) -> None:
        self._hashes: set[int] = set()
        self._size = min(max((24 * expected).bit_length(), 16), 31)
        self._mask = (1 << self._size) - 1
        # With many texts at once: hashes take 80 bytes each, which a process does not give back.
        self._bits = bytearray(1 << (self._size - 3) if expected > _EXACT else 0)

    def add(self, text: str) -> bool:
        """Add a text and return whether it may have been added before."""
        value = hash(text)
        if self._bits:
            return self._add_bits(value)
        hashes = self._hashes
        if value in hashes:
            return True
        hashes.add(value)
        if len(hashes) >= _EXACT:
            self._bits = bytearray(1 << (self._size - 3))
            for known in hashes:
                self._add_bits(known)
            hashes.clear()
        return False

    def _add_bits(self, value: int) -> bool:
        mask, bits, seen = self._mask, self._bits, 1
        step = value >> 31 | 1
        for at in (value & mask, value + step & mask, value + step + step & mask):
            bit = 1 << (at & 7)
            seen &= (bits[at >> 3] & bit) != 0
            bits[at >> 3] |= bit
        return bool(seen)


def check_file(path: str, part: tuple[int, int] | None = None) -> CheckedFile:
    """Check a file of requests and return its contents' summary and problems. Blocks. Raises `OSError`.

    `part` is the first byte of the lines to check and the byte after the last; such a part may be empty.
    """
    before = input_state(path)
    start, end = part or (0, before.size)
    found = CheckedFile(path, start)
    found.size, found.modified = end, before.modified
    suspects: set[str] = set()
    if kind := _other_kind(path):
        found.add(0, kind)
        return found
    try:
        first = next(iter(read_lines(path, end, LinePosition(start))), None)
        seen = SeenOnce((end - start) // max(1, len(first[1])) if first else 1)
        _check_lines(found, seen, suspects)
        if suspects:
            _find_duplicates(found, suspects)
        found.digest = "" if is_url(path) else digest_of(path, end, start)
        after = input_state(path)
    except InputFileError as error:
        for problem in error.problems:
            found.add(*problem)
        return found
    if not found.rows and part is None:
        found.add(0, "the file has no rows")
    if after != before:
        found.add(0, "the file was changed while it was checked; run again once it is written")
    return found


def _other_kind(path: str) -> str:
    """Describe a file that is not UTF-8 text, with advice, as one problem for all its lines; ``""`` for text."""
    with open_input(path) as file:
        start = file.read(4)
    if start[:2] == b"\x1f\x8b":
        return "the file is compressed with gzip: unpack it first"
    if start[:2] in (BOM_UTF16_LE, BOM_UTF16_BE) or (len(start) == 4 and 0 in start and start.count(0) < 4):
        return "the file is UTF-16 text, not UTF-8: convert it, for example with iconv -f UTF-16 -t UTF-8"
    return ""


def _check_lines(found: CheckedFile, seen: SeenOnce, suspects: set[str]) -> None:
    """Check all lines, and collect each ``custom_id`` that may be that of two."""
    for number, line in read_lines(found.path, found.size, LinePosition(found.start)):
        found.rows += 1
        key = _check_line(found, number, line)
        if key is not None and seen.add(key):
            suspects.add(key)


def _check_line(found: CheckedFile, number: int, line: bytes) -> str | None:
    """Record the problems of a line and return its ``custom_id``, if any."""
    try:
        if not line.isascii():
            line.decode()
        row = _checkable.decode(line)
    except (ValueError, RecursionError) as error:
        found.add(number, _why_unreadable(line, error))
        return None
    url, body = row.url, row.body
    key: str | None = row.custom_id
    if key.__class__ is not str or not key:
        what = "is missing" if key is None else "is not a text" if key != "" else "is empty"
        found.add(number, f"custom_id {what}")
        key = None
    if url.__class__ is not str or url not in _endpoints():
        found.add(number, _why_no_url(url))
    if row.method != "POST":
        found.add(number, f"method is {row.method!r}, not 'POST'")
    if body is None:
        found.add(number, "body is missing")
        return key
    if body.stream:
        found.add(number, "the body has stream=true, but a job needs whole answers")
    found.urls[str(url)] += 1
    found.models[str(body.model or "")] += 1
    found.input_tokens += len(line) // 4
    limit = body.output_limit
    if limit is None:
        found.unlimited += 1
    else:
        found.output_limit += limit
    return key


def _why_unreadable(line: bytes, error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 ({error.reason} at byte {error.start})"
    try:
        value = msgspec.json.decode(line)
    except (ValueError, RecursionError) as why:
        return f"not JSON ({why})"
    if not isinstance(value, dict):
        return f"not a JSON object but {'a list' if isinstance(value, list) else type(value).__name__}"
    return "body is not a JSON object"


def _why_no_url(url: Any) -> str:
    if url is None or url == "":
        return "url is missing"
    if not isinstance(url, str):
        return "url is not a text"
    near = nearest(url, frozenset(f"/v1{known}" for known in _URLS))
    return f"unknown url {url[:100]!r}{near or '; known are ' + ', '.join(f'/v1{known}' for known in _URLS)}"


def _find_duplicates(found: CheckedFile, suspects: set[str]) -> None:
    """Read the file again and record each suspected ``custom_id`` that occurs in several lines."""
    first: dict[str, int] = {}
    # Nearly all lines are ruled out without decoding them, unless they contain escapes.
    written = [text.encode() for text in suspects] if len(suspects) <= _FEW else []
    for number, line in read_lines(found.path, found.size, LinePosition(found.start)):
        if written and b"\\" not in line and not any(text in line for text in written):
            continue
        try:
            key = _checkable.decode(line).custom_id
        except (ValueError, RecursionError):
            continue
        if key.__class__ is str and key in suspects:
            if key in first:
                found.add(number, f"custom_id {key[:100]!r} is that of line {first[key]}, too")
            else:
                first[key] = number
    found.problems.sort(key=lambda problem: problem.line)


# -------------------------------------------------------------------------------------------------- writing


def encode_success(row_id: str, key: str, status: int, request_id: str | None, body: bytes) -> bytes:
    """Return the output line of an answered row; `body` is the server's JSON, reformatted to one line if needed."""
    if b"\n" in body or b"\r" in body:
        body = msgspec.json.format(body, indent=-1)
    return b'{"id":"%b","custom_id":%b,"response":{"status_code":%d,"request_id":%b,"body":%b},"error":null}\n' % (
        row_id.encode(),
        msgspec.json.encode(key),
        status,
        msgspec.json.encode(request_id),
        body,
    )


def encode_failure(
    key: str,
    url: str,
    body: bytes,
    status: int | None,
    request_id: str | None,
    error: dict[str, Any],
    answer: Any = None,
) -> bytes:
    """Return the line of a failed row: its request in the form of the input, with ``response`` and ``error``.

    `answer` is the server's decoded body.
    """
    if b"\n" in body or b"\r" in body:
        body = msgspec.json.format(body, indent=-1)
    response = None if status is None else {"status_code": status, "request_id": request_id, "body": answer}
    return b'{"custom_id":%b,"method":"POST","url":%b,"body":%b,"response":%b,"error":%b}\n' % (
        msgspec.json.encode(key),
        msgspec.json.encode(url),
        body,
        msgspec.json.encode(response),
        msgspec.json.encode(error),
    )

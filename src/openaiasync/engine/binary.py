"""Binary answers, read whole or in pieces: file contents, speech, video."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
from collections.abc import AsyncIterator, Generator, Iterator
from typing import TYPE_CHECKING, Any, Self

from ..core.codec.endpoint import Request
from ..core.http.codings import CodingError
from ..core.model.closing import AsyncClosing, refuse_second_pass
from ..core.model.headers import Headers
from ..core.model.media_types import audio_type, extension, image_type
from ..core.model.meta import Meta, ResponseInfo
from ..core.model.notebook import media_html
from ..errors import IncompleteStreamError, OpenAIError
from ..lazy import json, resolve_annotations
from ..transport.base import TransportError, TransportResponse
from . import failures
from .body import BodyReader
from .call import Call
from .sealing import seal, sealing

if TYPE_CHECKING:
    from .engine import Engine

__all__ = [
    "BinaryAnswer",
    "ByteStream",
    "is_no_sound",
    "may_be_text",
    "media_type",
    "no_sound",
]

_MAX_TEXT = 1 << 16  # bytes to wait for while the body may be text instead of sound


class Written:
    """The result of writing to a file: already complete, and awaitable for code that awaits it."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        yield from ()


class BinaryAnswer:
    """A binary answer: its bytes in `content`, and the official client's reading methods.

    It can be passed wherever an upload takes a file.
    """

    __slots__ = ("content", "meta")

    def __init__(self, content: bytes, meta: Meta) -> None:
        self.content: bytes = content
        self.meta: Meta = meta

    @property
    def headers(self) -> Headers:
        """The header fields of the answer."""
        return self.meta.headers

    @property
    def content_type(self) -> str:
        """The media type that the server named, in lower case and without parameters; ``""`` if it named none."""
        return media_type(self.meta)

    @property
    def response(self) -> ResponseInfo:
        """Status, header fields and body together."""
        return ResponseInfo(self.meta.status, self.meta.headers, self.meta.request, self.content)

    @property
    def encoding(self) -> str:
        """The character set that the server named, if Python knows it, else UTF-8."""
        _, _, rest = self.meta.headers.get("content-type", "").lower().partition("charset=")
        name = rest.partition(";")[0].strip(' "')
        with contextlib.suppress(LookupError, UnicodeError):
            b"\xff".decode(name or "utf-8", "replace")  # Python also knows codecs that are not for texts: "hex", "idna"
            return codecs.lookup(name or "utf-8").name
        return "utf-8"

    @property
    def text(self) -> str:
        """The content decoded with `encoding`; undecodable bytes become U+FFFD."""
        return self.content.decode(self.encoding, "replace")

    def _repr_html_(self) -> str | None:
        """Return what a notebook shows: sound, video or an image; `None` (the plain repr) for other content."""
        return media_html(self.content, self.content_type)

    def json(self) -> Any:
        """Return the content as JSON. Raises `ValueError` if it is not JSON."""
        return json.loads(self.content)

    def read(self) -> bytes:
        """Return the whole content."""
        return self.content

    async def aread(self) -> bytes:
        """Return the whole content."""
        return self.content

    def iter_bytes(self, chunk_size: int | None = None) -> Iterator[bytes]:
        """Yield the content in pieces of `chunk_size` bytes (default 65,536); the last may be shorter."""
        size = 65_536 if chunk_size is None else chunk_size
        if size < 1:
            raise ValueError(f"chunk_size must be at least 1 byte, not {size}")
        return (self.content[start : start + size] for start in range(0, len(self.content), size))

    iter_raw = iter_bytes

    def iter_text(self, chunk_size: int | None = None) -> Iterator[str]:
        """Yield the text in pieces without splitting a character."""
        decode = codecs.getincrementaldecoder(self.encoding)("replace").decode
        for piece in self.iter_bytes(chunk_size):
            if text := decode(piece):
                yield text
        if text := decode(b"", final=True):
            yield text

    def iter_lines(self) -> Iterator[str]:
        """Return the lines of the text, without their ends (LF, CRLF or CR; no other character ends a line)."""
        from ..core.http.lines import split_lines

        return iter(split_lines(self.text))

    async def aiter_bytes(self, chunk_size: int | None = None) -> AsyncIterator[bytes]:
        """Yield the same as `iter_bytes`, for ``async for``."""
        for piece in self.iter_bytes(chunk_size):
            yield piece

    aiter_raw = aiter_bytes

    async def aiter_text(self, chunk_size: int | None = None) -> AsyncIterator[str]:
        """Yield the same as `iter_text`, for ``async for``."""
        for text in self.iter_text(chunk_size):
            yield text

    async def aiter_lines(self) -> AsyncIterator[str]:
        """Yield the same as `iter_lines`, for ``async for``."""
        for line in self.iter_lines():
            yield line

    def write_to_file(self, file: str | os.PathLike[str]) -> Written:
        """Write the content to a file, replacing it atomically. Raises `OSError`.

        The file is complete when this returns. Writing blocks the event loop for a few milliseconds; `astream_to_file`
        writes in a thread. Awaiting the result is allowed and has no effect.
        """
        from ..storage.atomic import write_file  # only saving needs it

        write_file(file, self.content)
        return Written()

    def stream_to_file(self, file: str | os.PathLike[str], *, chunk_size: int | None = None) -> Written:
        """Return the same as `write_to_file`."""
        return self.write_to_file(file)

    async def astream_to_file(self, file: str | os.PathLike[str], *, chunk_size: int | None = None) -> None:
        """Write the content as `write_to_file` does, in a thread."""
        from ..storage.atomic import write_whole

        await write_whole(file, self.content)

    def close(self) -> None:
        """Do nothing, as the answer was read to its end."""

    async def aclose(self) -> None:
        """Do nothing, as the answer was read to its end."""

    def as_file(self) -> tuple[str, bytes, str | None]:
        """Return name, content and media type for an upload; the type is detected, else the one the server named."""
        sniffed = audio_type(self.content) or image_type(self.content)
        kind = sniffed or self.content_type
        ending = extension(kind)
        return (f"upload.{ending}" if ending else "upload", self.content, kind or None)

    def __bytes__(self) -> bytes:
        return self.content

    def __len__(self) -> int:
        return len(self.content)

    def __bool__(self) -> bool:
        return True  # empty, but still an answer

    def __repr__(self) -> str:
        kind = self.content_type
        return f"<{type(self).__name__} of {len(self.content):,} bytes{f', {kind}' if kind else ''}>"


def media_type(meta: Meta) -> str:
    """Return the media type that an answer's server named, in lower case and without parameters; ``""`` without one."""
    return meta.headers.get("content-type", "").partition(";")[0].strip().lower()


# -------------------------------------------------------------------------------------------------- whole answers


def may_be_text(meta: Meta, head: bytes) -> bool:
    """Return whether a body with this beginning may be text instead of sound, so that more bytes are needed."""
    head = head.lstrip()
    return not head or head[:1] in (b"{", b"[", b'"', b"<") or (_is_text(meta) and audio_type(head) is None)


def is_no_sound(meta: Meta, body: bytes) -> bool:
    """Return whether a whole body is not sound: empty, JSON, an HTML page, or text by both media type and content."""
    head = body.strip()
    if not head or head[:15].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return True
    if head[:1] in (b"{", b"[", b'"'):
        try:
            json.loads(head)
        except (ValueError, RecursionError):
            pass
        else:
            return True
    return _is_text(meta) and audio_type(body) is None and b"\0" not in body[:1024]


def _is_text(meta: Meta) -> bool:
    kind = media_type(meta)
    return kind != "text/event-stream" and (kind.startswith("text/") or kind.endswith(("/json", "+json")))


def no_sound(meta: Meta, body: bytes) -> OpenAIError:
    """Return the error for a body received instead of sound."""
    from ..core.codec.success import is_error, object_in

    what = "text" if body else "nothing"
    reason = f"expected sound, but the server sent {what}"
    fields = object_in(body)
    if fields is not None and is_error(None, fields):
        return failures.stream_error(meta, fields)
    return failures.unexpected_answer(meta, body, reason)


# ---------------------------------------------------------------------------------------------- streamed answers


class ByteStream(AsyncClosing):
    """The bytes of an answer, streamed: ``async with ... as stream: async for piece in stream: ...``.

    The request is sent when the stream is entered or iterated. The stream holds its connection and its slot in flight
    until its end or `close`. One pass, one reader. The stall timeout covers each 64 KiB.
    """

    def __init__(self, calls: Engine, request: Request) -> None:
        self._calls = calls
        self._request = request
        self._call: Call | None = None
        self._reader: BodyReader | None = None
        self._queue: list[bytes] = []
        self._meta: Meta | None = None
        self._over = False
        self._ended = False  # its end or an error was delivered
        self._speaks = request.endpoint.codec == "audio"

    # ---------------------------------------------------------------- iteration

    def __aiter__(self) -> Self:
        refuse_second_pass(self._ended, "keep its bytes, or make the call again")
        if self._call is not None:
            self._call.transfer()
        return self

    async def __anext__(self) -> bytes:
        try:
            while True:
                if self._queue:
                    return self._queue.pop(0)
                if self._over:
                    self._ended = True
                    raise StopAsyncIteration
                if self._call is None:
                    await self._open(None)
                await self._more()
        except OpenAIError as error:
            self._ended = True
            seal(error)
            raise

    async def _open(self, failure: TransportError | None) -> None:
        """Send the request, or resend it after a failure before anything was delivered."""
        call = self._call = self._call or Call(self._calls, self._request)
        try:
            await call.run(self._begin, failure=failure)
        except BaseException:
            self._end()
            raise

    def _begin(self, call: Call, incoming: TransportResponse) -> None:
        """Read this response from now on; see `Receive`."""
        call.keep()
        self._reader = BodyReader(call, incoming)
        self._meta = call.meta(incoming)
        self._reader.progress()

    async def _more(self) -> None:
        """Wait for bytes or the end. Raises the public error if the answer breaks."""
        call, reader = self._call, self._reader
        if call is None or reader is None:
            return
        if asyncio.current_task(call.loop) is not call.reader:
            call.transfer()
        try:
            await self._read(call, reader)
        except BaseException as error:
            await call.observers.failed(error)
            raise
        if self._over:
            await call.observers.answered(lambda: None)

    async def _read(self, call: Call, reader: BodyReader) -> None:
        try:
            await self._take(call, reader)
            while self._speaks and self._doubtful():
                await self._take(call, reader)
        except TransportError as failure:
            await self._broken(call, failure, reader.received)
        except CodingError as error:
            self._end()
            raise failures.invalid_answer(self.meta, b"", f"the answer is damaged: {error}") from None
        except BaseException:
            self._end()
            raise

    def _doubtful(self) -> bool:
        """Return whether more bytes are needed to recognize sound. Raises the error for a body that is not sound."""
        held = b"".join(self._queue)
        if self._over or len(held) > _MAX_TEXT:
            if is_no_sound(self.meta, held):
                self._queue.clear()
                raise no_sound(self.meta, held)
        elif may_be_text(self.meta, held):
            return True
        self._speaks = False  # recognized as sound: no further checks
        return False

    async def _take(self, call: Call, reader: BodyReader) -> None:
        pieces = await reader.pieces()
        self._queue += pieces
        if pieces:
            call.observers.item(None)
        if reader.ended:
            self._end()
            if self._speaks and not reader.received:
                raise no_sound(self.meta, b"")

    async def _broken(self, call: Call, failure: TransportError, received: int) -> None:
        """Resend the request if its answer broke before the first byte was delivered; otherwise raise."""
        if not received and failure.kind != "closed":
            await self._open(failure)
            return
        error: OpenAIError = call.public(failure)
        if failure.kind not in ("timeout", "closed"):
            where = f"{self.meta.request.method} {self.meta.url}"
            why = f"{where}: the answer broke off after {received:,} bytes ({failure.message})"
            error = IncompleteStreamError(message=why, request=self.meta.request)
        error.meta = self._meta
        self._end()
        raise error from failure.__cause__

    def _end(self) -> None:
        self._over = True
        call, self._call = self._call, None
        self._reader = None
        if call is not None:
            call.release()

    # ---------------------------------------------------------------- around it

    @sealing
    async def stream_to_file(self, file: str | os.PathLike[str]) -> None:
        """Stream the answer to a file, in threads. Raises `OSError` and the errors of iteration.

        The file is replaced atomically once the answer is complete; after an error or a cancellation the previous file
        is unchanged. A pipe or a device is written to as bytes arrive.
        """
        from ..storage.atomic import write_pieces  # only saving needs it

        await write_pieces(file, self)

    @property
    def meta(self) -> Meta:
        """Metadata of the call; `RuntimeError` before the stream is opened."""
        if self._meta is None:
            raise RuntimeError("nothing was sent yet: enter or iterate the stream first")
        return self._meta

    @property
    def content_type(self) -> str:
        """The media type that the server named, in lower case and without parameters; ``""`` if it named none."""
        return media_type(self.meta)

    async def close(self) -> None:
        """Release the connection and the slot in flight at once. Idempotent."""
        call = self._call
        self._queue.clear()
        self._end()
        if call is not None:
            call.observers.closed()

    aclose = close

    async def __aenter__(self) -> Self:
        if self._call is None and not self._over:
            try:
                await self._open(None)
            except BaseException as error:
                seal(error)
                raise
        return self

    def __del__(self) -> None:
        call: Call | None = getattr(self, "_call", None)
        if call is not None:
            self._call = None
            call.abandon()
            call.observers.closed_soon()

    def __repr__(self) -> str:
        state = "closed" if self._over else "not sent" if self._call is None else "open"
        return f"<{type(self).__name__} {self._request!r} {state}>"


resolve_annotations(__name__)

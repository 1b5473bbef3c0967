"""Answers that are bytes, piece by piece as they come."""

from __future__ import annotations

import asyncio
import os
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ..core.codec.endpoint import Request
from ..core.http.codings import CodingError, Inflater
from ..core.model.meta import Meta
from ..errors import IncompleteStreamError, OpenAIError
from ..transport.base import TransportError, TransportResponse
from . import failures
from .binary import is_no_sound, may_be_text, media_type, no_sound
from .body import MAX_RATIO, PROGRESS, content_coding
from .call import Call
from .sealing import seal, sealing

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["ByteStream"]

_MAX_STREAM = 1 << 40  # bytes
_MAX_TEXT = 1 << 16  # bytes of what may be text in the place of sound that are waited for


class ByteStream:
    """The bytes of an answer as they come: ``async with ... as stream: async for piece in stream: ...``.

    Nothing is sent before it is entered or iterated. It holds its connection and its place in flight until its end or
    `close`. One pass, one reader. The stall clock grants one period for each 64 KiB.
    """

    def __init__(self, calls: Engine, request: Request) -> None:
        self._calls = calls
        self._request = request
        self._call: Call | None = None
        self._incoming: TransportResponse | None = None
        self._inflater: Inflater | None = None
        self._queue: list[bytes] = []
        self._meta: Meta | None = None
        self._got = 0
        self._granted = 0
        self._over = False
        self._speaks = request.endpoint.codec == "audio"

    # ---------------------------------------------------------------- iteration

    def __aiter__(self) -> Self:
        if self._call is not None:
            self._call.transfer()
        return self

    async def __anext__(self) -> bytes:
        try:
            while True:
                if self._queue:
                    return self._queue.pop(0)
                if self._over:
                    raise StopAsyncIteration
                if self._call is None:
                    await self._open(None)
                await self._more()
        except OpenAIError as error:
            seal(error)
            raise

    async def _open(self, failure: TransportError | None) -> None:
        """Send the request, or send it again after a failure before anything was delivered."""
        call = self._call = self._call or Call(self._calls, self._request)
        try:
            await call.run(self._begin, failure=failure)
        except BaseException:
            self._end()
            raise

    def _begin(self, call: Call, incoming: TransportResponse) -> None:
        """Read this response from now on; see `Receive`."""
        call.keep()
        self._incoming = incoming
        self._meta = call.meta(incoming)
        coding = content_coding(incoming.raw_fields)
        try:
            self._inflater = Inflater(coding, cap=_MAX_STREAM, ratio=MAX_RATIO) if coding else None
        except CodingError as error:
            raise failures.invalid_answer(self._meta, b"", str(error)) from None
        call.expect(incoming, call.timeouts.stall, "stall")

    async def _more(self) -> None:
        """Wait for bytes, or for the end. Raises the public error of what breaks the answer."""
        call, incoming = self._call, self._incoming
        if call is None or incoming is None:
            return
        if asyncio.current_task(call.loop) is not call.reader:
            call.transfer()
        try:
            await self._read(call, incoming)
        except BaseException as error:
            await call.observers.failed(error)
            raise
        if self._over:
            await call.observers.answered(lambda: None)

    async def _read(self, call: Call, incoming: TransportResponse) -> None:
        try:
            self._take(call, incoming, await incoming.pieces())
            while self._speaks and self._doubtful():
                self._take(call, incoming, await incoming.pieces())
        except TransportError as failure:
            await self._broken(call, incoming, failure)
        except CodingError as error:
            self._end()
            raise failures.invalid_answer(self.meta, b"", f"the answer is damaged: {error}") from None
        except BaseException:
            self._end()
            raise

    def _doubtful(self) -> bool:
        """Whether more bytes have to tell whether they are sound. Raises the error for what is not."""
        held = b"".join(self._queue)
        if self._over or len(held) > _MAX_TEXT:
            if is_no_sound(self.meta, held):
                self._queue.clear()
                raise no_sound(self.meta, held)
        elif may_be_text(self.meta, held):
            return True
        self._speaks = False  # it is sound: nothing more to ask
        return False

    def _take(self, call: Call, incoming: TransportResponse, pieces: list[bytes]) -> None:
        self._got += sum(map(len, pieces))
        if self._got - self._granted >= PROGRESS:
            self._granted = self._got
            call.expect(incoming, call.timeouts.stall, "stall")
        if self._inflater is not None:
            rest = [] if pieces else [self._inflater.finish()]
            decoded = [self._inflater.feed(piece) for piece in pieces] + rest
            self._queue += [piece for piece in decoded if piece]
        else:
            self._queue += pieces
        if pieces:
            call.observers.item(None)
            return
        self._end()
        if self._speaks and not self._got:
            raise no_sound(self.meta, b"")

    async def _broken(self, call: Call, incoming: TransportResponse, failure: TransportError) -> None:
        """Send a request again whose answer broke before its first byte was delivered; later raise."""
        if not self._got and failure.kind != "closed":
            await self._open(failure)
            return
        error: OpenAIError = call.public(failure)
        if failure.kind not in ("timeout", "closed"):
            where = f"{self.meta.request.method} {self.meta.url}"
            why = f"{where}: the answer broke off after {self._got:,} bytes ({failure.message})"
            error = IncompleteStreamError(message=why, request=self.meta.request)
        error.meta = self._meta
        self._end()
        raise error from failure.__cause__

    def _end(self) -> None:
        self._over = True
        call, self._call = self._call, None
        self._incoming = None
        if call is not None:
            call.release()

    # ---------------------------------------------------------------- around it

    @sealing
    async def stream_to_file(self, file: str | os.PathLike[str]) -> None:
        """Write what comes to a file, in threads, until the end. Raises `OSError` and what iterating raises.

        The file is there when all has come; until then, and after an error or a cancellation, what was there before
        stays as it was. A pipe or a device is written to as it comes.
        """
        from ..storage.atomic import write_pieces  # who saves nothing need not load it

        await write_pieces(file, self)

    @property
    def meta(self) -> Meta:
        """What is known of the call; `RuntimeError` before it was opened."""
        if self._meta is None:
            raise RuntimeError("nothing was sent yet: enter or iterate the stream first")
        return self._meta

    @property
    def content_type(self) -> str:
        """The media type that the server named, in lower case and without parameters; ``""`` if it named none."""
        return media_type(self.meta)

    async def close(self) -> None:
        """Free the connection and the place in flight at once. Idempotent."""
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

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        call: Call | None = getattr(self, "_call", None)
        if call is not None:
            self._call = None
            call.abandon()
            call.observers.closed_soon()

    def __repr__(self) -> str:
        state = "closed" if self._over else "not sent" if self._call is None else "open"
        return f"<{type(self).__name__} {self._request!r} {state}>"

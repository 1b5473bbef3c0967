"""Codecs: decode an operation's answers to objects, with one class for each kind that the endpoint table names.

A codec knows the parameters that its answers need, how a body is decoded (leniently where it does not conform), and how
an answer is validated. The engine knows codecs only, not operations.
"""

from __future__ import annotations

import asyncio
import binascii
import contextlib
from array import array
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import unquote

from msgspec.structs import replace

from ..core.codec.decode import DecodeError, Decoder, decoder_for, keep, parsed
from ..core.codec.endpoint import Endpoint, Request
from ..core.http.sse import looks_like_events
from ..core.model.meta import Meta
from ..core.model.mixins import CONTENTS, EmbeddingValue, Images, has_content, return_base64
from ..core.model.plain import is_list
from ..errors import APIResponseValidationError
from ..lazy import json, resolve_annotations
from . import failures
from .binary import BinaryAnswer, is_no_sound, no_sound
from .pagination import page_type

if TYPE_CHECKING:
    from .engine import Engine
    from .upstream import Upstream

__all__ = ["LARGE", "TEXT_FORMATS", "Codec", "codec_for", "count_texts"]

T = TypeVar("T")

TEXT_FORMATS = frozenset({"text", "srt", "vtt"})
"""Formats in which a transcript comes as text."""
LARGE = 1 << 20  # bytes of a body above which it is decoded in steps
_FORMATTED = {"verbose_json": "Verbose", "diarized_json": "Diarized"}
_CONFIRMED = frozenset({b"", b"{}", b"null"})  # bodies of a deletion that worked; Google's is an empty object


class Codec:
    """Requests and decodes the answers of one endpoint."""

    strictly: Callable[[bytes], Any] | None = None
    """The fast path: a strict decoder, for answers that need no further step."""
    content: str = ""
    """The name of the list that must not be empty on the fast path, if there is one."""

    def __init__(self, endpoint: Endpoint, strict: bool) -> None:
        self.endpoint = endpoint
        self.strict = strict

    def ask(self, upstream: Upstream, params: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters of a request, with the defaults of this library that suit its answer."""
        return params

    def note(self, request: Request, given: dict[str, Any]) -> None:
        """Record on a request what its answer must satisfy, given the caller's parameters."""

    def decode(self, engine: Engine, request: Request, meta: Meta, body: bytes) -> Any:
        """Return the decoded answer. Raises `APIResponseValidationError`, or the error that was sent instead."""
        raise NotImplementedError

    def decode_large(self, engine: Engine, request: Request, meta: Meta, body: bytes) -> Any:
        """Decode a large body; the result may be awaitable."""
        return self.decode(engine, request, meta, body)

    def decoder(self, request: Request) -> Decoder[Any]:
        """Return the decoder of the object that an answer is."""
        raise NotImplementedError


class BytesCodec(Codec):
    """The unchanged body: the content of a file."""

    def decode(self, engine: Engine, request: Request, meta: Meta, body: bytes) -> Any:
        return BinaryAnswer(body, meta)


class AudioCodec(BytesCodec):
    """Sound: an error object, an HTML page or an empty body in its place raises."""

    def decode(self, engine: Engine, request: Request, meta: Meta, body: bytes) -> Any:
        if is_no_sound(meta, body):
            raise no_sound(meta, body)
        return BinaryAnswer(body, meta)


class TextCodec(Codec):
    """Plain text."""

    def decode(self, engine: Engine, request: Request, meta: Meta, body: bytes) -> Any:
        return body.decode("utf-8", "replace")


class NoneCodec(Codec):
    """No answer: only an error object in the body counts."""

    def decode(self, engine: Engine, request: Request, meta: Meta, body: bytes) -> Any:
        from ..core.codec.success import is_error

        try:
            value = parsed(body) if body else None
        except DecodeError:
            return None
        if isinstance(value, dict) and is_error(None, cast("dict[str, Any]", value)):
            raise failures.stream_error(meta, value)
        return None


class JSONCodec(Codec):
    """An object of the endpoint's type: strictly decoded, leniently where it does not conform."""

    def __init__(self, endpoint: Endpoint, strict: bool) -> None:
        super().__init__(endpoint, strict)
        self._decoder: Decoder[Any] | None = None
        self._choose()

    def _choose(self) -> None:
        """Take the fast path if answers of this type need no further step and cannot hold an error.

        A strictly decoded answer has no unknown field, and its `object` literal identifies it. The general path, which
        looks for errors and for deviations, would add about 10 µs to the 50 that a small call takes.
        """
        kind = self.decoder(Request(self.endpoint, "")).kind
        if needs_nothing(kind) and failures.is_no_error(kind):
            self.strictly: Callable[[bytes], Any] | None = self.decoder(Request(self.endpoint, "")).fast
            self.content: str = CONTENTS.get(kind.__name__, "")

    def decoder(self, request: Request) -> Decoder[Any]:
        if self._decoder is None:
            self._decoder = decoder_for(self.load(), strict=self.strict)
        return self._decoder

    def load(self) -> Any:
        """Return the type of the answers."""
        return self.endpoint.load(self.endpoint.type)

    def decode(self, engine: Engine, request: Request, meta: Meta, body: bytes) -> Any:
        deletes = self.endpoint.method == "DELETE"
        if deletes and body.strip() in _CONFIRMED:
            return self._deleted(request, meta)
        try:
            answer, reason = self._read(request, body)
        except DecodeError as error:
            answer, reason = None, error.reason
        if not reason:
            return self.finish(engine, request, answer, meta, body)
        if deletes and reason != failures.ERROR:
            from ..core.codec.success import is_confirmed

            if is_confirmed(body):
                return self._deleted(request, meta)
        if looks_like_events(body):
            from .assembled import assembled  # few servers stream unasked

            return assembled(engine, request, meta, body)
        refusal = failures.refused(meta, body, reason, kind=self.decoder(request).kind)
        if reason == failures.ERROR and answer is not None:
            refusal.partial = answer
        raise refusal

    def decode_large(self, engine: Engine, request: Request, meta: Meta, body: bytes) -> Any:
        return self._decode_in_steps(engine, request, meta, body)

    async def _decode_in_steps(self, engine: Engine, request: Request, meta: Meta, body: bytes) -> Any:
        """Decode in slices between which the event loop runs: no other call waits for tens of milliseconds."""
        from ..core.codec.slices import decode_in_slices

        answer: Any = None
        with contextlib.suppress(DecodeError):  # the general path reports what is wrong
            answer = await _in_turns(decode_in_slices(self.decoder(request), body))
        if answer is None or failures.holds_error(answer):
            return self.decode(engine, request, meta, body)
        return self.finish(engine, request, answer, meta, body)

    def finish(self, engine: Engine, request: Request, answer: Any, meta: Meta, body: bytes) -> Any:
        """Attach metadata and downloadable links to a decoded answer, and return it."""
        attach(engine, answer)
        return keep(answer, body, meta)

    def _read(self, request: Request, body: bytes) -> tuple[Any, str]:
        """Return the decoded answer, and why it must be rejected, if so. Raises `DecodeError`."""
        decoder = self.decoder(request)
        try:
            answer = decoder.fast(body)
        except (ValueError, RecursionError):
            pass
        else:
            if failures.holds_error(answer):
                return None, failures.ERROR
            return answer, "" if has_content(answer) else "the answer is empty"
        from ..core.codec.success import read_leniently  # needed only for non-conforming answers

        return read_leniently(decoder, self.reshape(parsed(body)), body)

    def reshape(self, value: Any) -> Any:
        """Return the plain values of a non-conforming body in the shape of the endpoint's type."""
        return value

    def _deleted(self, request: Request, meta: Meta) -> Any:
        """Return the answer to a DELETE that the server confirmed with a status alone (204, or an empty 200)."""
        from ..core.codec.success import deleted

        decoder = self.decoder(request)
        last = unquote(request.path.partition("?")[0].rpartition("/")[2])
        made = deleted(decoder.kind, self.endpoint.ids_in(request.path), last)
        return keep(decoder.build(made, b""), None, meta)


class PageCodec(JSONCodec):
    """One page of a list."""

    def _choose(self) -> None:
        """Skip the fast path: a page must be given the request for the next one."""

    def load(self) -> Any:
        return page_type(self.endpoint)

    def reshape(self, value: Any) -> Any:
        from ..core.codec.success import as_page

        path = self.endpoint.path
        return as_page(value, path.rpartition("/")[2], models=path.endswith("/models"))


class EmbeddingsCodec(JSONCodec):
    """Embeddings: one vector for each text, in any of the forms that servers send."""

    def _choose(self) -> None:
        """Skip the fast path: vectors are checked one by one."""

    def ask(self, upstream: Upstream, params: dict[str, Any]) -> dict[str, Any]:
        return upstream.with_base64(params)

    def note(self, request: Request, given: dict[str, Any]) -> None:
        request.as_base64 = given.get("encoding_format") == "base64"
        request.texts = count_texts(given)

    def reshape(self, value: Any) -> Any:
        return as_embeddings(value)

    def finish(self, engine: Engine, request: Request, answer: Any, meta: Meta, body: bytes) -> Any:
        if wrong := fault(request, answer):
            kind = failures.EmptyAnswerError if wrong == NO_VECTOR else APIResponseValidationError
            raise failures.unexpected_answer(meta, body, wrong, kind)
        return super().finish(engine, request, answer, meta, body)


class JSONOrTextCodec(JSONCodec):
    """An object or text, by the requested format: transcripts and translations."""

    def _choose(self) -> None:
        """Skip the fast path: the answer's type depends on the request."""

    def decoder(self, request: Request) -> Decoder[Any]:
        # The types alone do not distinguish verbose from diarized answers.
        module, _, name = self.endpoint.type.partition(":")
        name = f"{name.removesuffix('CreateResponse')}{_FORMATTED.get(request.response_format, '')}"
        return decoder_for(self.endpoint.load(f"{module.rpartition('.')[0]}:{name}"), strict=self.strict)

    def decode(self, engine: Engine, request: Request, meta: Meta, body: bytes) -> Any:
        if request.response_format not in TEXT_FORMATS:
            return super().decode(engine, request, meta, body)
        from ..core.codec.success import ERROR, NOTHING, is_error, is_nothing, object_in

        kind, fields = self.decoder(request).kind, object_in(body)
        if fields is not None and (is_error(kind, fields) or is_nothing(kind, fields)):
            raise failures.refused(meta, body, ERROR if is_error(kind, fields) else NOTHING)
        if body[:64].lstrip().lower().startswith((b"<!doctype html", b"<html")):
            raise failures.unexpected_answer(meta, body, "expected text, but the server sent an HTML page")
        return body.decode("utf-8", "replace")

    def decode_large(self, engine: Engine, request: Request, meta: Meta, body: bytes) -> Any:
        return self.decode(engine, request, meta, body)


_CODECS: dict[str, type[Codec]] = {
    "json": JSONCodec,
    "page": PageCodec,
    "embeddings": EmbeddingsCodec,
    "json_or_text": JSONOrTextCodec,
    "text": TextCodec,
    "bytes": BytesCodec,
    "audio": AudioCodec,
    "none": NoneCodec,
}


def codec_for(endpoint: Endpoint, strict: bool) -> Codec:
    """Return the codec that the endpoint table names."""
    return _CODECS[endpoint.codec](endpoint, strict)


async def _in_turns(steps: Generator[None, None, T]) -> T:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            made: T = end.value
            return made
        await asyncio.sleep(0)


# -------------------------------------------------------------------------------------------------- vectors


NO_VECTOR = "the answer holds no embedding"
_BLANK = str.maketrans("", "", " \t\r\n")


def count_texts(params: Mapping[str, Any]) -> int:
    """Return the number of texts to embed; 0 where it is unknown. A list of numbers is one text."""
    texts = params.get("input")
    extra = params.get("extra_body")
    if isinstance(extra, Mapping) and "input" in extra:
        texts = cast("Mapping[str, Any]", extra)["input"]
    if isinstance(texts, str):
        return 1
    if not isinstance(texts, (list, tuple)) or not texts:
        return 0
    items = cast("Sequence[Any]", texts)
    return 1 if isinstance(items[0], int) else len(items)


def fault(request: Request, answer: Any) -> str:
    """Return what is wrong with an answer that does not hold one vector for each text; `""` if nothing is.

    Vectors in other forms are converted; base64 stays text for a caller who requested it.
    """
    if not answer.data:
        return NO_VECTOR
    items: Any = answer.data
    if not isinstance(items, list) or not all(map(_put_right, cast("Sequence[Any]", items))):
        return "an embedding is not a vector"
    items = cast("Sequence[Any]", items)
    if request.texts and len(items) != request.texts:
        return f"{_counted(len(items), 'vector')} came for {_counted(request.texts, 'text')}"
    # Some servers give every vector the index 0; the order of the texts holds then.
    places = {item.index for item in items if type(item.index) is int}
    if 1 < len(places) < sum(type(item.index) is int for item in items):
        return "two vectors came for one text"
    if request.as_base64:
        return_base64(answer)
    return ""


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _put_right(item: Any) -> bool:
    """Return whether an item holds a vector, converting it first from the other forms that servers send."""
    if not isinstance(item, EmbeddingValue):
        return False
    value: Any = cast("Any", item).value
    if isinstance(value, str):
        value = cast("Any", item).value = _from_text(value)
    if isinstance(value, bytes):
        return bool(value) and len(value) % 4 == 0
    if not is_list(value) or not value:
        return False
    numbers = value
    if len(numbers) == 1 and is_list(numbers[0]):  # llama.cpp without pooling, of a single token
        numbers = numbers[0]
        cast("Any", item).value = numbers
    try:
        return bool(array("d", numbers))
    except (TypeError, OverflowError):
        pass
    try:
        cast("Any", item).value = [float(number) for number in numbers]  # numbers in quotes
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _from_text(text: str) -> Any:
    """Return a vector that was sent as text: JSON, or base64 with line breaks or without its padding."""
    text = text.translate(_BLANK)
    try:
        if text.startswith("["):
            return json.loads(text)
        return binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
    except (ValueError, RecursionError):
        return text


def as_embeddings(value: Any) -> Any:
    """Return the plain values of an answer that a server sent as a bare list of items, or of vectors (TEI)."""
    if not is_list(value):
        return value
    items: list[Any] = [
        {"embedding": item, "index": i} if isinstance(item, list) else item for i, item in enumerate(value)
    ]
    return {"object": "list", "data": items}


# -------------------------------------------------------------------------------------------------- links


class LinkDownloader:
    """Downloads links for one client: with its connections, limits and timeouts, without its key and header fields."""

    def __init__(self, calls: Engine) -> None:
        self._calls = calls

    async def __call__(self, url: str) -> bytes:
        """Return the body behind a link, following redirects; a link without a host is resolved against the API base.

        Raises `ValueError` for a link that is not an http URL, and `OpenAIError`.
        """
        config = self._calls.config
        led = config.base.joined(f"{config.base.path}/", url)
        if led is None:
            raise ValueError("the server's link to the image is not an http URL")
        base, target = led
        agent = tuple(field for field in config.fields if field[0] == "User-Agent")
        plain = replace(
            config,
            base=base,
            key=None,
            admin_key=None,
            fields=agent,
            secret_fields=(),
            count_retries=False,
            observers=(),  # they may add header fields
        )
        row = Endpoint("images.fetch", "GET", target.partition("?")[0], codec="bytes")
        _, body = await self._calls.under(plain).fetch(Request(row, target))
        return body

    def __repr__(self) -> str:
        return "<LinkDownloader>"


def attach(calls: Engine, answer: object) -> None:
    """Let images in an answer download their links through the client that received the answer."""
    if isinstance(answer, Images):
        answer.attach(LinkDownloader(calls))


def needs_nothing(kind: object) -> bool:
    """Return whether `attach` has nothing to do with answers of this type."""
    return not (isinstance(kind, type) and issubclass(kind, Images))


resolve_annotations(__name__)

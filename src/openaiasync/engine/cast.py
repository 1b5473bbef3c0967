"""Decode answers to the caller's types: ``client.get(path, cast_to=...)`` and ``raw.parse(to=...)``.

Answers of this library are read leniently, as everywhere. Any other type belongs to the caller and is decoded strictly:
a body that does not fit it is an error, never a value of another type. A type that cannot be decoded at all is rejected
before anything is sent.
"""

from __future__ import annotations

import contextlib
import sys
import types
import typing
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

import msgspec

from ..core.codec.decode import (
    DecodeError,
    decoder_for,
    keep,
    parsed,
)
from ..core.codec.endpoint import Request
from ..core.codec.pages import PageShape
from ..core.codec.success import EMPTY, as_page, deleted, is_confirmed, read_leniently
from ..core.http.sse import looks_like_events
from ..core.model.base import BaseModel, LazyUnion
from ..core.model.lenient import flatten, is_struct, resolve
from ..core.model.meta import Meta, ResponseInfo
from ..core.model.mixins import has_content
from ..lazy import resolve_annotations
from . import failures
from .binary import BinaryAnswer
from .streams import endpoint_at

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["Cast", "cast_for"]

_Reader = Callable[[bytes], Any]
_Whole = Callable[[Meta, bytes], Any]


class Cast:
    """How the body of an answer becomes a value of one type."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        self._whole: _Whole | None = (
            _WHOLE.get(kind) if isinstance(kind, type) else _WHOLE.get(object) if kind is Any else None
        )
        self._ours = self._whole is None and _is_ours(kind)
        self._strictly: _Reader | None = None
        if self._whole is None and not self._ours:
            self._whole = _whole_answer(kind)
            if self._whole is None:
                self._strictly = _strict_reader(kind)
        self.is_json: bool = self._ours or self._strictly is not None

    def read(self, calls: Engine, request: Request, meta: Meta, body: bytes) -> Any:
        """Return the decoded body. Raises `APIResponseValidationError`, or the error that the server sent instead."""
        if not body.strip() and (meta.status == 204 or request.endpoint.method == "DELETE"):
            return self._nothing(request, meta, body)
        try:
            if self._whole is not None:
                return self._whole(meta, body)
            strictly = self._strictly
            answer, reason = (strictly(body), "") if strictly else self._leniently(calls, request, body)
        except DecodeError as error:
            answer, reason = None, str(error.reason)
        if reason and reason != failures.ERROR and request.endpoint.method == "DELETE" and is_confirmed(body):
            return self._nothing(request, meta, body)
        if reason and looks_like_events(body):
            return self._from_events(calls, request, meta, body, reason)
        if reason:
            raise failures.refused(meta, body, reason)
        return keep(answer, body, meta) if isinstance(answer, BaseModel) else answer

    def _from_events(self, calls: Engine, request: Request, meta: Meta, body: bytes, reason: str) -> Any:
        """Return the answer in an unrequested event stream, if this is the type of the operation's answer."""
        from .assembled import assembled  # few servers stream unasked

        named = endpoint_at(request.endpoint.method, request.path.partition("?")[0])
        if named is None or not named.type or named.load(named.type) is not self.kind:
            raise failures.refused(meta, body, reason)
        return assembled(calls, Request(named, request.path, request.body), meta, body)

    def _leniently(self, calls: Engine, request: Request, body: bytes) -> tuple[Any, str]:
        decoder = decoder_for(self.kind, strict=calls.config.strict)
        try:
            answer = decoder.fast(body)
        except (ValueError, RecursionError):
            value = parsed(body)
            if _is_page(self.kind):
                path = request.path.partition("?")[0]
                value = as_page(value, path.rpartition("/")[2], models=path.endswith("/models"))
            return read_leniently(decoder, value, body)
        if failures.holds_error(answer):
            return None, failures.ERROR
        return answer, "" if has_content(answer) else EMPTY

    def _nothing(self, request: Request, meta: Meta, body: bytes) -> Any:
        """Return the value for an empty body: the deletion's result, an empty value of the type, or `None`."""
        if self._whole is not None:
            return self._whole(meta, body)
        if request.endpoint.method == "DELETE" and self._ours and is_struct(self.kind):
            last = unquote(request.path.partition("?")[0].rpartition("/")[2])
            made: Any = decoder_for(self.kind).build(deleted(self.kind, {}, last), b"")
            return keep(made, None, meta)
        empty: Any = typing.get_origin(self.kind) or self.kind
        if empty in (dict, list, tuple, set, frozenset):
            return cast("Callable[[], object]", empty)()
        if type(None) in flatten_all(self.kind) or request.endpoint.method == "DELETE":
            return None
        raise failures.invalid_answer(meta, body, "the body is empty")


@lru_cache(maxsize=512)
def _cast_for(kind: Any) -> Cast:
    return Cast(kind)


def cast_for(kind: Any) -> Cast:
    """Return the `Cast` to a type. Raises `TypeError` for a type that no answer can become."""
    try:
        return _cast_for(kind)
    except TypeError as error:
        if "unhashable" in str(error):  # metadata of an annotation
            return Cast(kind)
        raise


# -------------------------------------------------------------------------------------------------- any type


def _text(meta: Meta, body: bytes) -> str:
    return BinaryAnswer(body, meta).text


def _anything(meta: Meta, body: bytes) -> Any:
    """Return JSON as plain values, any other body as text, an empty one as `None`, as the official client does for
    `object`."""
    if not body.strip():
        return None
    try:
        return parsed(body)
    except DecodeError:
        return _text(meta, body)


_OF_THE_BYTES = ("content-encoding", "content-length", "transfer-encoding")  # as received
_WHOLE: dict[Any, _Whole] = {
    type(None): lambda meta, body: None,
    bytes: lambda meta, body: body,
    bytearray: lambda meta, body: bytearray(body),
    str: _text,
    object: _anything,
}


def _whole_answer(kind: Any) -> _Whole | None:
    """Return the constructor for a class that holds a whole answer."""
    if kind is ResponseInfo:
        return lambda meta, body: BinaryAnswer(body, meta).response
    made: Any = kind
    if isinstance(kind, type) and issubclass(kind, BinaryAnswer):
        return lambda meta, body: made(body, meta)
    library = _http_library(kind)
    return None if library is None else lambda meta, body: _http_response(library, made, meta, body)


def _http_library(kind: Any) -> Any:
    """Return the module, httpx or httpx2, whose `Response` a type is; these libraries are not imported here."""
    for base in getattr(kind, "__mro__", ()):
        name = base.__module__.partition(".")[0]
        if base.__name__ == "Response" and name in ("httpx", "httpx2"):
            return sys.modules[name]
    return None


def _http_response(library: Any, kind: Any, meta: Meta, body: bytes) -> Any:
    """Return the response that the official client returns for ``cast_to=httpx.Response``, without the request's
    credentials."""
    fields = [(name, value) for name, value in meta.headers.raw_pairs() if name.lower() not in _OF_THE_BYTES]
    sent = meta.request
    request = library.Request(sent.method, sent.url, headers=dict(sent.headers), content=sent.content or None)
    return kind(meta.status, headers=fields, content=body, request=request)


# -------------------------------------------------------------------------------------------------- ownership of types


def flatten_all(kind: Any) -> list[Any]:
    """Return the members of a union, `None` included; any other type alone."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return [inner for member in typing.get_args(kind) for inner in flatten_all(member)]
    return [kind]


def _leaves(kind: Any) -> Iterator[Any]:
    """Yield a type and the types within its unions and containers."""
    for member in flatten(kind):
        if isinstance(member, LazyUnion):
            continue
        origin = typing.get_origin(member)
        if origin is typing.Literal:
            continue
        yield origin or member
        for inner in typing.get_args(member):
            yield from _leaves(inner)


def _is_ours(kind: Any) -> bool:
    """Return whether a type is one of this library's answers, or a container or union of them."""
    if isinstance(kind, LazyUnion):
        return True
    classes = [leaf for leaf in _leaves(kind) if isinstance(leaf, type) and leaf.__module__ != "builtins"]
    return bool(classes) and all(
        issubclass(leaf, BaseModel) and leaf.__module__.partition(".")[0] == __name__.partition(".")[0]
        for leaf in classes
    )


def _is_page(kind: Any) -> bool:
    origin = typing.get_origin(kind) or kind
    return isinstance(origin, type) and issubclass(origin, PageShape)


# -------------------------------------------------------------------------------------------------- strict decoding


def _strict_reader(kind: Any) -> _Reader:
    """Return a function that reads values of a caller's type and raises `DecodeError` for anything else."""
    from ..core.schema.from_type import adapter_of, has_validators, with_limits
    from ..core.schema.structured import is_pydantics

    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return decoder_for(kind, strict=True).decode  # unknown fields are kept, as in every answer
    if is_pydantics(kind) or has_validators(kind):
        try:
            adapter = adapter_of(kind)
        except TypeError as error:
            raise _unreadable(kind, error) from error

        def validate(body: bytes) -> Any:
            parsed(body)  # says why the body is not JSON
            try:
                return adapter.validate_json(body)
            except ValueError as error:
                raise DecodeError(_pydantic_message(error), body) from None

        return validate
    return _msgspec_reader(with_limits(kind))


def _msgspec_reader(kind: Any) -> _Reader:
    from ..core.schema.structured import from_pydantic

    def hook(wanted: Any, value: Any) -> Any:
        return resolve(wanted, value) if isinstance(wanted, LazyUnion) else from_pydantic(wanted, value)

    try:
        decode = msgspec.json.Decoder(kind, dec_hook=hook).decode
        unknown = _unknown_in(msgspec.inspect.type_info(kind), set())
    except Exception as error:  # evaluating a caller's annotations may raise anything
        raise _unreadable(kind, error) from error
    if unknown is not None:
        raise _unreadable(kind, f"JSON cannot be decoded to {unknown!r}")
    scalar: Any = kind if kind in (bool, int, float) else None

    def read(body: bytes) -> Any:
        try:
            return decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
            if scalar is not None:
                with contextlib.suppress(ValueError, DecodeError):  # "True", and numbers in quotes
                    return msgspec.convert(body.decode().strip(' \t\r\n"'), scalar, strict=False)
            parsed(body)
            reason = "the body is nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise DecodeError(reason, body) from None

    return read


def _unknown_in(node: Any, seen: set[int]) -> Any:
    """Return a class in a type that neither msgspec nor pydantic can read; `None` without one."""
    from ..core.schema.from_type import is_pydantic

    if id(node) in seen:
        return None
    seen.add(id(node))
    if isinstance(node, msgspec.inspect.CustomType):
        wanted = node.cls
        return None if isinstance(wanted, LazyUnion) or is_pydantic(wanted) else wanted
    for name in ("type", "item_type", "key_type", "value_type"):
        if (inner := getattr(node, name, None)) is not None and (found := _unknown_in(inner, seen)) is not None:
            return found
    for name in ("types", "item_types", "fields"):
        for inner in cast("tuple[Any, ...]", getattr(node, name, None) or ()):
            if (found := _unknown_in(inner, seen)) is not None:
                return found
    return None


def _unreadable(kind: Any, why: object) -> TypeError:
    name = kind.__name__ if isinstance(kind, type) else repr(kind)
    return TypeError(
        f"an answer cannot become {name}: {why}; pass an answer's class, a pydantic model, a dataclass, a TypedDict, a "
        "Struct, dict, list, str, bytes, int, float, bool, or object"
    )


def _pydantic_message(error: ValueError) -> str:
    """Return pydantic's messages without their help lines."""
    listed: Any = cast("Any", getattr(error, "errors", list))()
    return "; ".join(f"{'.'.join(map(str, one['loc'])) or '$'}: {one['msg']}" for one in listed) or str(error)


resolve_annotations(__name__)

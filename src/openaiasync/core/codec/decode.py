"""Bytes to answers: strictly first; leniently where one strays from the description, so that nothing is lost."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from ..model.base import keep
from ..model.dump import parse
from ..model.lenient import (
    Builder,
    builder_for,
    flatten,
    is_struct,
    resolve,
)

__all__ = ["DecodeError", "Decoder", "StreamDecoder", "decoder_for", "keep", "parsed"]

T = TypeVar("T")

QUOTED = 200  # characters of a body that an error's text shows


class DecodeError(ValueError):
    """A body that is not what its endpoint answers. `raw` is the whole of it; the text quotes 200 characters at most.

    `path` tells where a strict decoder found the fault (``"$.choices[0].index"``), `None` elsewhere.
    """

    def __init__(self, reason: str, raw: bytes, path: str | None = None) -> None:
        self.reason = reason
        self.raw = raw
        self.path = path
        shown = bytes(raw[: 4 * QUOTED]).decode("utf-8", "replace")
        quote = shown[:QUOTED] + ("…" if len(raw) > 4 * QUOTED or len(shown) > QUOTED else "")
        super().__init__(f"{reason}: {quote}" if raw else reason)

    def __reduce__(self) -> tuple[Any, ...]:
        return DecodeError, (self.reason, self.raw, self.path)


class Decoder(Generic[T]):
    """Decodes answers of one type. `decode(data)` raises `DecodeError` only.

    With `strict` every departure from the description but unknown fields is an error; else only a body that is no JSON,
    or whose kind (object, array) is not the type's.
    """

    __slots__ = ("build", "decode", "fast", "kind", "lenient", "strict")

    # An attribute instead of a method: binding a method costs a tenth of a small chunk's decoding.
    decode: Callable[[bytes], T]

    def __init__(self, kind: Any, *, strict: bool = False) -> None:
        self.kind: Any = kind
        fast: Callable[[bytes], T] = msgspec.json.Decoder(kind, dec_hook=resolve).decode
        build: Callable[[Any, bytes], T] = _builder_of(kind)

        def lenient(data: bytes) -> T:
            return build(parsed(data), data)

        def stray(data: bytes, error: Exception) -> T:
            if strict:
                _conforming(data, kind, error)
            return lenient(data)

        def decode(data: bytes) -> T:
            try:
                return fast(data)
            except (ValueError, RecursionError) as error:
                return stray(data, error)

        self.strict: bool = strict
        self.fast: Callable[[bytes], T] = fast
        self.lenient: Callable[[bytes], T] = lenient
        self.build: Callable[[Any, bytes], T] = build
        """From the plain values of a body (and the body, for errors) to the answer, leniently."""
        self.decode = decode

    def stream(self) -> StreamDecoder[T]:
        """A decoder for the events of one stream: once one has strayed it tries strictly no more."""
        return StreamDecoder(self)


class StreamDecoder(Generic[T]):
    """Decodes the events of one stream; see `Decoder.stream`. `decode(data)` raises `DecodeError` only."""

    __slots__ = ("decode", "fast", "strayed")

    decode: Callable[[bytes], T]

    def __init__(self, decoder: Decoder[T]) -> None:
        self.strayed: bool = False
        """Whether an event departed from the description; the first one to do so is seen by it already."""
        fast, lenient = decoder.fast, decoder.lenient
        self.fast: Callable[[bytes], T] = fast
        """Strictly only: raises `ValueError` or `RecursionError` where `decode` may still find an answer."""

        def decode(data: bytes) -> T:
            if not self.strayed:
                try:
                    return fast(data)
                except (ValueError, RecursionError):
                    self.strayed = True
            return lenient(data)

        self.decode = decoder.decode if decoder.strict else decode


def parsed(data: bytes) -> Any:
    """The plain values of a body. Raises `DecodeError` for what is not JSON."""
    try:
        return parse(data)
    except RecursionError:
        raise DecodeError("the body is nested too deeply", data) from None
    except ValueError as error:
        raise DecodeError(_complaint(data, error), data) from None


def _builder_of(kind: Any) -> Callable[[Any, bytes], Any]:
    """A function that leniently builds a type from plain values; the bytes they came from are for its errors."""
    build: Builder | None = None
    wanted: type | None = None
    prepared = False

    def prepare() -> None:
        nonlocal build, wanted, prepared
        build, wanted, prepared = builder_for(kind), _json_kind(kind), True

    def built(value: Any, data: bytes) -> Any:
        if not prepared:
            prepare()
        if wanted is not None and type(value) is not wanted:
            raise DecodeError(f"the body is {_NAMES[type(value)]} instead of {_NAMES[wanted]}", data)
        if build is None:
            return value
        try:
            return build(value)
        except RecursionError:
            raise DecodeError("the body is nested too deeply", data) from None

    return built


_NAMES: dict[type, str] = {
    dict: "an object",
    list: "an array",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "a boolean",
    types.NoneType: "null",
}


def _json_kind(kind: Any) -> type | None:
    """What JSON a type wants at its top: `dict`, `list`, or `None` for a type that takes several."""
    kinds = {dict if is_struct(member) else typing.get_origin(member) for member in flatten(kind)}
    only = kinds.pop() if len(kinds) == 1 else None
    return only if only in (dict, list) else None


def _complaint(data: bytes, error: ValueError) -> str:
    if not data.strip():
        return "the body is empty"
    if (
        type(error) is ValueError
    ):  # Python's limit on the digits of an integer, the one refusal of json that is no syntax
        return "the body holds an integer of absurd length"
    return "the body is not JSON"


def _conforming(data: bytes, kind: Any, error: Exception) -> None:
    """Let pass what only has unknown fields; `DecodeError` for any other departure from the description."""
    from .strict import check  # who is not strict need not load it

    try:
        check(msgspec.json.decode(data), kind)
    except (ValueError, RecursionError) as reason:
        fault = reason
    else:
        return
    _refuse(data, fault if isinstance(fault, msgspec.ValidationError) else error)


def _refuse(data: bytes, error: Exception) -> Any:
    if isinstance(error, RecursionError):
        raise DecodeError("the body is nested too deeply", data) from None
    if not data.strip():
        raise DecodeError("the body is empty", data) from None
    if isinstance(error, UnicodeDecodeError):
        raise DecodeError("the body is not UTF-8", data) from None
    reason, *paths = str(error).split(" - at `")
    path = "".join(path.rstrip("`").removeprefix("$") for path in reversed(paths))  # the outermost stands last
    place = f" at ${path}" if paths else ""
    raise DecodeError(reason[:QUOTED] + place[:QUOTED], data, f"${path}" if paths else None) from None


_decoders: dict[tuple[Any, bool], Decoder[Any]] = {}


def decoder_for(kind: type[T], *, strict: bool = False) -> Decoder[T]:
    """The decoder of a type, made once. `kind` may also be a union, a list or a stand-in of `model.one_of`."""
    key = (kind, strict)
    decoder = _decoders.get(key)
    if decoder is None:
        decoder = _decoders[key] = Decoder(kind, strict=strict)
    return decoder

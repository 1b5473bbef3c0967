"""Answers from bytes: decoded strictly first, and leniently if the bytes do not conform, so that nothing is lost.

msgspec's strict decoder is the fast path. An answer that it refuses is built by `model.lenient`, unless the caller
requested strictness: then required fields and types are checked, and unknown fields are kept, never an error.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from ..model.base import keep
from ..model.lenient import (
    UNFIT,
    Builder,
    builder_for,
    flatten,
    is_struct,
    likely_members,
    resolve,
)
from ..model.plain import is_dict, is_list, parse_json

__all__ = ["DecodeError", "Decoder", "StreamDecoder", "decoder_for", "keep", "parsed"]

T = TypeVar("T")

QUOTED = 200  # characters of a body that an error's text shows


class DecodeError(ValueError):
    """A body that is not an answer of its endpoint. `raw` is the whole body; the text quotes up to 200 characters.

    `path` is the place where a strict decoder found the error (``"$.choices[0].index"``), else `None`.
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

    With `strict` every departure from the API's description except unknown fields is an error; without it only a body
    that is not JSON, or not of the type's kind (object, array).
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

        def decode(data: bytes) -> T:
            try:
                return fast(data)
            except (ValueError, RecursionError) as error:
                if strict:
                    _check_strictly(data, kind, error)
                return lenient(data)

        self.strict: bool = strict
        self.fast: Callable[[bytes], T] = fast
        self.lenient: Callable[[bytes], T] = lenient
        self.build: Callable[[Any, bytes], T] = build
        """Builds the answer leniently from the plain values of a body, and the body itself for errors."""
        self.decode = decode

    def stream(self) -> StreamDecoder[T]:
        """Return a decoder for one stream: after an event that does not conform it decodes leniently at once."""
        return StreamDecoder(self)


class StreamDecoder(Generic[T]):
    """Decodes the events of one stream; see `Decoder.stream`. `decode(data)` raises `DecodeError` only."""

    __slots__ = ("conforming", "decode", "fast")

    decode: Callable[[bytes], T]

    def __init__(self, decoder: Decoder[T]) -> None:
        self.conforming: bool = True
        """Whether all events so far conform to the API's description."""
        fast, lenient = decoder.fast, decoder.lenient
        self.fast: Callable[[bytes], T] = fast
        """Decodes strictly only: raises `ValueError` or `RecursionError` where `decode` may still succeed."""

        def decode(data: bytes) -> T:
            if self.conforming:
                try:
                    return fast(data)
                except (ValueError, RecursionError):
                    self.conforming = False
            return lenient(data)

        self.decode = decoder.decode if decoder.strict else decode


def parsed(data: bytes) -> Any:
    """Return the plain values of a body. Raises `DecodeError` for one that is not JSON."""
    try:
        return parse_json(data)
    except RecursionError:
        raise DecodeError("the body is nested too deeply", data) from None
    except ValueError as error:
        raise DecodeError(_complaint(data, error), data) from None


def _builder_of(kind: Any) -> Callable[[Any, bytes], Any]:
    """Return a function that builds a type leniently from plain values; the bytes are for its errors."""
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
    """Return the kind of JSON at the top of a type: `dict`, `list`, or `None` for one that takes several."""
    kinds = {dict if is_struct(member) else typing.get_origin(member) for member in flatten(kind)}
    only = kinds.pop() if len(kinds) == 1 else None
    return only if only in (dict, list) else None


def _complaint(data: bytes, error: ValueError) -> str:
    if not data.strip():
        return "the body is empty"
    if type(error) is ValueError:  # Python's limit on digits: the only error of `json` that is not about syntax
        return "the body contains an integer with too many digits"
    return "the body is not JSON"


def _check_strictly(data: bytes, kind: Any, error: Exception) -> None:
    """Accept a body whose only departure from the description is unknown fields. Raises `DecodeError` for others."""
    try:
        msgspec.convert(_known_part(msgspec.json.decode(data), kind), kind, dec_hook=resolve)
    except (UnicodeEncodeError, msgspec.ValidationError) as reason:
        error = reason
    except (ValueError, RecursionError):
        pass
    else:
        return
    _refuse(data, error)


def _refuse(data: bytes, error: Exception) -> Any:
    if isinstance(error, RecursionError):
        raise DecodeError("the body is nested too deeply", data) from None
    if not data.strip():
        raise DecodeError("the body is empty", data) from None
    if isinstance(error, UnicodeDecodeError):
        raise DecodeError("the body is not UTF-8", data) from None
    if isinstance(error, UnicodeEncodeError):  # half a UTF-16 pair where the type takes base64
        raise DecodeError(f"Invalid base64 encoded string: {error.reason}", data) from None
    reason, *paths = str(error).split(" - at `")
    path = "".join(path.rstrip("`").removeprefix("$") for path in reversed(paths))  # the outermost comes last
    place = f" at ${path}" if paths else ""
    raise DecodeError(reason[:QUOTED] + place[:QUOTED], data, f"${path}" if paths else None) from None


_decoders: dict[tuple[Any, bool], Decoder[Any]] = {}


def decoder_for(kind: type[T], *, strict: bool = False) -> Decoder[T]:
    """Return the decoder of a type, made once. `kind` may also be a union, a list or a stand-in of `model.one_of`."""
    key = (kind, strict)
    decoder = _decoders.get(key)
    if decoder is None:
        decoder = _decoders[key] = Decoder(kind, strict=strict)
    return decoder


def _known_part(value: Any, kind: Any) -> Any:
    """Return the value without the fields that its type does not declare, at any depth."""
    if is_list(value):
        items = _items(kind, list, 0)
        return value if items is None else [_known_part(item, items) for item in value]
    if not is_dict(value):
        return value
    fields = value
    structs = [member for member in flatten(kind) if is_struct(member)]
    if structs:
        return _of_struct(fields, structs)
    held = _items(kind, dict, 1)
    return fields if held is None else {name: _known_part(item, held) for name, item in fields.items()}


def _of_struct(fields: dict[str, Any], structs: list[Any]) -> dict[str, Any]:
    """Return the known part for the member of a union that the value is: the first that it fits."""
    candidates = structs if len(structs) == 1 else likely_members(tuple(structs), fields)
    parts = [_declared(fields, candidate) for candidate in candidates]
    for part, candidate in zip(parts, candidates, strict=True) if len(parts) > 1 else ():
        try:
            msgspec.convert(part, candidate, dec_hook=resolve)
        except UNFIT:
            continue
        return part
    return parts[0] if parts else fields


def _declared(fields: dict[str, Any], struct: Any) -> dict[str, Any]:
    declared = _types(struct)
    return {name: _known_part(item, declared[name]) for name, item in fields.items() if name in declared}


@functools.cache
def _types(struct: Any) -> dict[str, Any]:
    """Return the type of each field by its name on the wire."""
    types = {field.encode_name: field.type for field in msgspec.structs.fields(struct)}
    config = (typing.get_origin(struct) or struct).__struct_config__
    return types if config.tag is None else types | {config.tag_field: str}


@functools.cache
def _items(kind: Any, origin: type, index: int) -> Any:
    found = [typing.get_args(member)[index] for member in flatten(kind) if typing.get_origin(member) is origin]
    return typing.Union[tuple(found)] if found else None  # noqa: UP007 (made at run time)

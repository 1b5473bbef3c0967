"""Structured output: a Python type as the schema to ask a model for, and the model's text as a value of the type."""

from __future__ import annotations

import functools
import json
import re
import sys
import types
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Annotated, Any, Generic, TypeVar, Union, cast, get_args, get_origin, overload

import msgspec

from ..codec.partial_json import PartialJSON
from ..codec.reasoning import AnswerJSON, answers_in
from .annotations import has_validators, with_limits
from .check import check_schema
from .from_type import (
    adapter_of,
    adapter_schema,
    is_pydantic,
    json_schema,
    tighten,
)
from .jsonschema import Schema, hold_open, is_list, is_schema, may_be_null, resolve
from .validation_errors import (
    ShapeError,
    faults,
    repair_message,
    shortened,
    unfit,
)

__all__ = ["PartialValue", "Shape", "ShapeError", "from_pydantic", "is_pydantics", "repair_message", "shape_of"]

T = TypeVar("T")

_TRIED = 8  # values in a text that are tried
_TOLD = 8  # mistakes that a message lists
_FENCE = re.compile(r"```[\w-]*[ \t]*\r?\n?(.*?)(?:```|\Z)", re.DOTALL)


class Shape(Generic[T]):
    """What is asked of a model: a value of a type.

    `kind` is the type, `name` what the API calls it, `schema` its JSON schema, an object at the root. `wrapped` tells
    that the value is asked for under ``"value"``, because the type itself makes no object. `strict` is False where
    strict mode cannot say what the type says (`obstacles` tells what): the schema is sent as not strict then, and
    only `decode` holds the answer to it. Made by `shape_of`.
    """

    kind: Any
    name: str
    schema: Schema
    wrapped: bool
    strict: bool
    obstacles: list[str]

    def __init__(self, kind: Any, name: str | None = None) -> None:
        self.kind = kind
        # A dict is a schema itself; its values are what JSON makes of them.
        self._raw = isinstance(kind, dict)
        by_pydantic = not self._raw and (is_pydantics(kind) or has_validators(kind))
        self._adapter: Any = adapter_of(kind) if by_pydantic else None
        kind = self._read_as = kind if self._raw or by_pydantic else with_limits(kind)
        if self._raw:
            check_schema(kind)
            plain: Schema = kind
        else:
            plain = adapter_schema(kind, self._adapter) if self._adapter else json_schema(kind)
        self.wrapped = _needs_wrapping(plain)
        self._plain: Schema = _wrap(plain) if self.wrapped else plain
        self.name = _valid_name(name or (str(plain.get("title", "answer")) if self._raw else _name_of(kind)))
        self.schema, self.obstacles = tighten(self._plain, nullable=self._adapter is None)
        self.strict = not self.obstacles
        self._decoder: Any = None if self._raw else self._made_decoder()

    def __repr__(self) -> str:
        return f"Shape({self.name}{'' if self.strict else ', not strict'})"

    def response_format(self) -> dict[str, Any]:
        """The `response_format` parameter of chat completions."""
        inner = {"name": self.name, "schema": self.schema, "strict": self.strict}
        return {"type": "json_schema", "json_schema": inner}

    def text_format(self) -> dict[str, Any]:
        """The ``text={"format": ...}`` of the Responses API."""
        return {"type": "json_schema", "name": self.name, "schema": self.schema, "strict": self.strict}

    def instructions(self) -> str:
        """The schema in words, for servers that take no schema; holds the word JSON, which some of them demand."""
        schema = json.dumps(self.schema, ensure_ascii=False, separators=(",", ":"))
        return (
            "Answer with one JSON value and nothing else: no explanation, no Markdown. "
            f"It has to fit this JSON schema:\n{schema}"
        )

    def decode(self, text: str) -> T:
        """The text as a value of the type; reasoning, a Markdown fence or words around the JSON are passed over.

        Raises `ShapeError`.
        """
        failure: ShapeError | None = None
        answers = [text] if _is_json(_encoded(text)) else answers_in(text)
        for found in islice(chain.from_iterable(map(_jsons_in, answers)), _TRIED):
            try:
                return self._read(found)
            except ShapeError as error:
                failure = failure or error
            except RecursionError:
                failure = failure or ShapeError("It is nested too deeply.", text=text, name=self.name)
        raise failure or self._not_json(answers[0], text)

    def partial(self, text: str) -> Any:
        """What a text that is not finished makes so far, as plain values, `None` if nothing; see `growing`."""
        growing = self.growing()
        growing.feed(text)
        return growing.value

    def growing(self) -> PartialValue:
        """For a text that comes in pieces: each is read once, however often the value so far is asked for."""
        return PartialValue(self.wrapped)

    def validate(self, value: Any) -> T:
        """A plain value, as JSON makes it, as a value of the type. Raises `ShapeError`."""
        return self.decode(msgspec.json.encode(value).decode())

    # ---------------------------------------------------------------- how it is read

    def _made_decoder(self) -> Any:
        if self._adapter is not None:
            return (
                msgspec.json.Decoder(msgspec.defstruct("_Wrapped", [("value", msgspec.Raw)])) if self.wrapped else None
            )
        kind = msgspec.defstruct("_Wrapped", [("value", self._read_as)]) if self.wrapped else self._read_as
        return msgspec.json.Decoder(kind, dec_hook=from_pydantic)

    def _read(self, text: bytes) -> T:
        try:
            return self._checked(text)
        except ShapeError as error:
            failure = error
        value: Any = msgspec.json.decode(text)
        # Null stands for what was left out; a model that was not held to the schema forgets the wrapping.
        others: list[Any] = [_without_nulls(value, self._plain, self._plain)]
        if self.wrapped:
            others.append({"value": value})
        for i, other in enumerate(others):
            if other != value:
                try:
                    return self._checked(msgspec.json.encode(other))
                except ShapeError as error:
                    failure = error if i == 0 else failure
        failure.text = text.decode("utf-8", "replace")
        raise failure

    def _checked(self, text: bytes) -> T:
        if self._raw:
            return self._held(msgspec.json.decode(text), text)
        try:
            if self._adapter is not None:
                inner = self._decoder.decode(text).value if self.wrapped else text
                return cast("T", self._adapter.validate_json(bytes(inner)))
            made = self._decoder.decode(text)
        except (msgspec.ValidationError, ValueError, KeyError, TypeError) as error:
            raise self._misfit(error, text) from error
        return cast("T", made.value if self.wrapped else made)

    def _not_json(self, text: str, whole: str) -> ShapeError:
        try:
            msgspec.json.decode(text)
            reason = "it is not JSON"
        except msgspec.DecodeError as error:
            reason = str(error).removeprefix("JSON is malformed: ")
        except RecursionError:
            reason = "it is nested too deeply"
        except UnicodeError:
            reason = "it holds half a character"
        message = f"It is not valid JSON: {reason}. It begins with {shortened(text)}."
        if not text.strip():
            message = "It is empty; one JSON value is expected."
            if whole.strip():
                message = "It holds reasoning and no answer; one JSON value is expected after the reasoning."
        return ShapeError(message, text=whole, name=self.name, is_json=False)

    def _misfit(self, error: Exception, text: bytes) -> ShapeError:
        value = msgspec.json.decode(text)
        prefix = "$.value" if self.wrapped and self._adapter is not None else "$"
        return self._told(faults(error, value, self._plain, prefix), text)

    def _held(self, value: Any, text: bytes) -> T:
        """A value held to a schema that no type stands for."""
        found = unfit(value, self._plain)
        first = next(found, None)
        if first is not None:
            raise self._told(chain([first], found), text)
        return cast("T", value["value"] if self.wrapped else value)

    def _told(self, found: Iterable[tuple[str, str]], text: bytes) -> ShapeError:
        told = list(islice(found, _TOLD))
        message = "\n".join(dict.fromkeys(line for _, line in told))
        return ShapeError(message, path=told[0][0], text=text.decode("utf-8", "replace"), name=self.name)


class PartialValue:
    """The plain value that a model's text makes so far. Made by `Shape.growing`."""

    def __init__(self, wrapped: bool) -> None:
        self._json: AnswerJSON = AnswerJSON()
        self._wrapped = wrapped

    def feed(self, piece: str) -> None:
        """Take the next piece of the model's text."""
        self._json.feed(piece)

    @property
    def value(self) -> Any:
        """The value so far, not held to any type, `None` if there is nothing.

        Torn texts are there, numbers only when they are finished. Its lists and dicts grow; copy what has to stay.
        """
        value = self._json.value
        return value.get("value") if self._wrapped and is_schema(value) else value


@functools.lru_cache(maxsize=256)
def _cached(kind: Any, name: str | None, exact: Any) -> Shape[Any]:
    return Shape(kind, name)


@overload
def shape_of(kind: type[T], *, name: str | None = None) -> Shape[T]: ...


@overload
def shape_of(kind: Any, *, name: str | None = None) -> Shape[Any]: ...


def shape_of(kind: Any, *, name: str | None = None) -> Shape[Any]:
    """The shape of a type, made once: of a msgspec Struct, dataclass, TypedDict, NamedTuple or pydantic model, of
    lists, `Literal`, `Enum`, unions and scalars. A dict is taken as a JSON schema, whose values stay plain.

    `name` is what the API calls it; made from the type's own name otherwise. Raises `TypeError` for what no schema
    can be made of; the text says what to change.
    """
    if isinstance(kind, Shape):
        known: Shape[Any] = cast("Any", kind)
        return known
    if kind is None or kind is Any:
        raise TypeError("A type is expected, such as a dataclass, a Struct or list[str]; not None and not Any.")
    try:
        hash(kind)
    except TypeError:
        return Shape(kind, name)
    return _cached(kind, name, repr(kind) if get_args(kind) else None)  # int | str equals str | int


# -------------------------------------------------------------------- types


def is_pydantics(kind: Any) -> bool:
    """Whether pydantic has to read values of a type: it is pydantic's own, or made of such."""
    if "pydantic" not in sys.modules:
        return False
    return is_pydantic(kind) or any(is_pydantics(one) for one in get_args(kind) if one is not kind)


def from_pydantic(kind: Any, value: Any) -> Any:
    """The `dec_hook` of msgspec for types that hold pydantic models. Raises `ValueError` for what does not fit one."""
    if not is_pydantic(kind):
        raise NotImplementedError
    try:
        return adapter_of(kind).validate_json(msgspec.json.encode(value))
    except ValueError as error:  # pydantic's own text has lines of advice for people
        listed: Any = cast("Any", getattr(error, "errors", list))()
        told = "; ".join(f"{'.'.join(map(str, one['loc'])) or kind.__name__}: {one['msg']}" for one in listed)
        raise ValueError(told or str(error)) from error


def _needs_wrapping(schema: Schema) -> bool:
    root = resolve(schema, schema)
    return root.get("type") != "object" or "anyOf" in root or "oneOf" in root


def _wrap(schema: Schema) -> Schema:
    made: Schema = {"type": "object", "properties": {"value": hold_open(schema)}, "required": ["value"]}
    return {**made, **{name: schema[name] for name in ("$defs", "definitions") if name in schema}}


def _name_of(kind: Any) -> str:
    origin = get_origin(kind)
    if origin is None:
        return getattr(kind, "__name__", "answer")
    if origin is Annotated:
        return _name_of(get_args(kind)[0])
    inner = [_name_of(one) if isinstance(one, type) or get_origin(one) else str(one) for one in get_args(kind)]
    if origin in (Union, types.UnionType):
        return "_or_".join(inner)
    return "_".join([getattr(origin, "__name__", None) or str(origin).rpartition(".")[2], *inner])


def _valid_name(name: str) -> str:
    """A name that the API takes: letters, digits, ``_`` and ``-``, at most 64."""
    return re.sub(r"[^a-zA-Z0-9_-]+", "_", name).strip("_")[:64] or "answer"


# -------------------------------------------------------------------- texts


def _jsons_in(text: str) -> Iterator[bytes]:
    """The JSON values in a model's text: the whole; else what stands in fences, and what begins with a bracket."""
    text = text.strip("\ufeff \t\r\n")
    for candidate in (text, *(match[1].strip() for match in _FENCE.finditer(text))):
        encoded = _encoded(candidate)
        if _is_json(encoded):
            yield encoded
            if candidate is text:
                return
    for _ in range(_TRIED):
        parser = PartialJSON(skip_prose=True)
        parser.feed(text)
        if not parser.complete:
            return
        encoded = _encoded(text[slice(*parser.span)])
        if _is_json(encoded):
            yield encoded
        text = text[parser.span[1] :]


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return False
    return True


def _without_nulls(value: Any, schema: Any, root: Schema) -> Any:
    """The value without the nulls that stand for properties left out, by the schema before it was made strict."""
    if not is_schema(schema) or not (is_list(value) or is_schema(value)):
        return value
    schema = resolve(schema, root)
    variants = schema.get("anyOf", schema.get("oneOf"))
    if variants:
        chosen = next((one for one in variants if _could_be(value, resolve(one, root), root)), None)
        return value if chosen is None else _without_nulls(value, chosen, root)
    if is_list(value):
        places = schema.get("prefixItems", ())
        rest = schema.get("items")
        return [_without_nulls(one, places[i] if i < len(places) else rest, root) for i, one in enumerate(value)]
    properties = schema.get("properties", {})
    required = schema.get("required", ())
    kept: dict[str, Any] = {}
    for name, one in cast("Schema", value).items():
        inner = properties.get(name, schema.get("additionalProperties"))
        if one is None and name in properties and name not in required and not may_be_null(inner, root):
            continue
        kept[name] = _without_nulls(one, inner, root)
    return kept


def _could_be(value: Any, schema: Schema, root: Schema) -> bool:
    """Whether a container is meant to fit a schema, told by its kind and by the properties that name one value."""
    if "anyOf" in schema or "oneOf" in schema:
        return True
    if schema.get("type") != ("array" if isinstance(value, list) else "object"):
        return False
    for name, one in schema.get("properties", {}).items():
        inner = resolve(one, root)
        listed = inner.get("enum", [inner["const"]] if "const" in inner else None)
        if listed is not None and name in value and value[name] is not None and value[name] not in listed:
            return False
    return True

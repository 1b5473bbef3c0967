"""Structured output: a Python type as a schema for the model, and the model's text as a value of that type."""

from __future__ import annotations

import functools
import json
import re
import sys
import types
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, Union, cast, get_args, get_origin, overload

import msgspec

from ...lazy import resolve_annotations
from ..codec.partial_json import PartialJSON
from ..codec.reasoning import AnswerJSON, answers_in
from ..model.plain import is_dict, is_list, mended
from .from_type import (
    adapter_of,
    adapter_schema,
    has_validators,
    is_pydantic,
    json_schema,
    tighten,
    with_limits,
)
from .jsonschema import Schema, check_schema, hold_open, may_be_null, resolve, validation_errors

if TYPE_CHECKING:
    from ...params.shared_params.response_format_json_schema import JSONSchema, ResponseFormatJSONSchema

__all__ = ["PartialValue", "Shape", "ShapeError", "from_pydantic", "is_pydantics", "repair_message", "shape_of"]

_MISSING: Any = object()
_STEP = re.compile(r"\.([^.\[\]`]+)|\[(\d+)\]")
_SHOWN = 120  # characters of a wrong value that a message shows


class ShapeError(ValueError):
    """A text is not a value of the requested type.

    `message` is written for the model: the error, its place, and the value there. `path` is the place
    (``$.steps[2].grams``, ``$`` for the whole), `text` the model's text, `is_json` whether it contains any JSON.
    `str(error)` is written for people: it also names the type.
    """

    def __init__(self, message: str, *, path: str = "$", text: str = "", name: str = "", is_json: bool = True) -> None:
        message = mended(message)  # it quotes the model's text
        super().__init__(f"The answer does not fit {name}: {message}" if name else message)
        self.message = message
        self.path = path
        self.text = text
        self.name = name
        self.is_json = is_json

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuilt, (self.message, self.path, self.text, self.name, self.is_json))


def _rebuilt(message: str, path: str, text: str, name: str, is_json: bool) -> ShapeError:
    return ShapeError(message, path=path, text=text, name=name, is_json=is_json)


def repair_message(error: ShapeError) -> dict[str, Any]:
    """Return the user message that shows a model the error in its last answer and asks for a valid one."""
    return {
        "role": "user",
        "content": f"Your last answer cannot be used. {error.message}\n"
        "Answer again with the whole corrected JSON value, and nothing else.",
    }


def _faults(error: Exception, value: Any, schema: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    """Yield the place and the description of each error that msgspec or pydantic found.

    msgspec stops at the first one; validation against the schema finds the others.
    """
    listed = getattr(error, "errors", None)
    if callable(listed):
        for one in cast("list[dict[str, Any]]", listed()):
            path = prefix + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in one["loc"])
            came = "" if one["type"] == "missing" else f"; it is {_shortened(json.dumps(one['input'], default=str))}"
            yield path, f"At {path}: {str(one['msg'])[:1].lower()}{str(one['msg'])[1:]}{came}."
        return
    text = str(error)
    head, at, place = text.rpartition(" - at `")
    path = place.removesuffix("`") if at else prefix
    reason = head if at else text
    shown = "" if "missing required" in reason else _shown(value, path)
    yield path, f"At {path}: {reason[:1].lower()}{reason[1:]}{shown}."
    yield from (one for one in _violations(value, schema) if one[0] != path)


def _violations(value: Any, schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the place and the description of each value that does not fit a schema."""
    for path, expected, *_ in validation_errors(value, schema):
        yield path, f"At {path}: expected {expected}{_shown(value, path)}."


def _shown(value: Any, path: str) -> str:
    came = _at(value, path)
    return "" if came is _MISSING else f"; it is {_shortened(json.dumps(came))}"


def _at(value: Any, path: str) -> Any:
    """Return the value at a path as msgspec writes it, or `_MISSING` if the path does not name a single place."""
    rest = path.removeprefix("$")
    while rest:
        step = _STEP.match(rest)
        if step is None:
            return _MISSING
        try:
            value = value[step[1]] if step[1] is not None else value[int(step[2])]
        except (KeyError, IndexError, TypeError):
            return _MISSING  # a property's name may contain dots
        rest = rest[step.end() :]
    return value


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


T = TypeVar("T")

_TRIED = 8  # JSON values of a text that are tried
_LISTED = 8  # errors that a message lists
_FENCE = re.compile(r"```[\w-]*[ \t]*\r?\n?(.*?)(?:```|\Z)", re.DOTALL)


class Shape(Generic[T]):
    """The requested type of a model's answer. Made by `shape_of`.

    `kind` is the type, `name` its name in requests, `schema` its JSON schema with an object at the root. `wrapped`: the
    value is requested as the property ``"value"``, because the type itself is not an object. `strict` is False if
    strict mode cannot express the type (`obstacles` says why): the schema is then sent without strict mode, and only
    `decode` enforces it.
    """

    kind: Any
    name: str
    schema: Schema
    wrapped: bool
    strict: bool
    obstacles: list[str]

    def __init__(self, kind: Any, name: str | None = None) -> None:
        self.kind = kind
        # A dict is itself a schema; its values stay plain.
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

    def response_format(self) -> ResponseFormatJSONSchema:
        """Return the `response_format` parameter of chat completions."""
        inner: JSONSchema = {"name": self.name, "schema": self.schema, "strict": self.strict}
        return {"type": "json_schema", "json_schema": inner}

    def text_format(self) -> dict[str, Any]:
        """Return the ``text={"format": ...}`` of the Responses API."""
        return {"type": "json_schema", "name": self.name, "schema": self.schema, "strict": self.strict}

    def instructions(self) -> str:
        """Return the schema as instructions in words; they contain "JSON", which some servers require in a prompt."""
        schema = json.dumps(self.schema, ensure_ascii=False, separators=(",", ":"))
        return (
            "Answer with one JSON value and nothing else: no explanation, no Markdown. "
            f"It has to fit this JSON schema:\n{schema}"
        )

    def decode(self, text: str) -> T:
        """Return the text as a value of the type; reasoning, Markdown fences and words around the JSON are skipped.

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
        """Return the plain values in an unfinished text, `None` without any; see `growing`."""
        growing = self.growing()
        growing.feed(text)
        return growing.value

    def growing(self) -> PartialValue:
        """Return a reader for a text in pieces. Each piece is parsed once, however often the value is read."""
        return PartialValue(self.wrapped)

    def validate(self, value: Any) -> T:
        """Return a plain JSON value as a value of the type. Raises `ShapeError`."""
        return self.decode(msgspec.json.encode(value).decode())

    # ---------------------------------------------------------------- decoding

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
        # Null stands for a property left out; a model that the schema did not constrain may omit the wrapping.
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
            raise self._decode_failure(error, text) from error
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
            reason = "it contains half of a UTF-16 pair"
        message = f"It is not valid JSON: {reason}. It begins with {_shortened(text)}."
        if not text.strip():
            message = "It is empty; one JSON value is expected."
            if whole.strip():
                message = "It contains reasoning but no answer; one JSON value is expected after the reasoning."
        return ShapeError(message, text=whole, name=self.name, is_json=False)

    def _decode_failure(self, error: Exception, text: bytes) -> ShapeError:
        value = msgspec.json.decode(text)
        prefix = "$.value" if self.wrapped and self._adapter is not None else "$"
        return self._failure(_faults(error, value, self._plain, prefix), text)

    def _held(self, value: Any, text: bytes) -> T:
        """Validate a value against a schema given as a dict."""
        found = _violations(value, self._plain)
        first = next(found, None)
        if first is not None:
            raise self._failure(chain([first], found), text)
        return cast("T", value["value"] if self.wrapped else value)

    def _failure(self, found: Iterable[tuple[str, str]], text: bytes) -> ShapeError:
        listed = list(islice(found, _LISTED))
        message = "\n".join(dict.fromkeys(line for _, line in listed))
        return ShapeError(message, path=listed[0][0], text=text.decode("utf-8", "replace"), name=self.name)


class PartialValue:
    """The plain value in a text that is still being written. Made by `Shape.growing`."""

    def __init__(self, wrapped: bool) -> None:
        self._json: AnswerJSON = AnswerJSON()
        self._wrapped = wrapped

    def feed(self, piece: str) -> None:
        """Add the next piece of the text."""
        self._json.feed(piece)

    @property
    def value(self) -> Any:
        """The value so far, not validated, `None` before any.

        It contains unfinished strings, but numbers only when they are finished. Its lists and dicts grow: copy them to
        keep a state.
        """
        value = self._json.value
        return value.get("value") if self._wrapped and is_dict(value) else value


@functools.lru_cache(maxsize=256)
def _cached(kind: Any, name: str | None, exact: Any) -> Shape[Any]:
    return Shape(kind, name)


@overload
def shape_of(kind: type[T], *, name: str | None = None) -> Shape[T]: ...


@overload
def shape_of(kind: Any, *, name: str | None = None) -> Shape[Any]: ...


def shape_of(kind: Any, *, name: str | None = None) -> Shape[Any]:
    """Return the shape of a type, made once.

    A type is a msgspec Struct, dataclass, TypedDict, NamedTuple or pydantic model, a list, `Literal`, `Enum`, union or
    scalar; a dict is a JSON schema, whose values stay plain. `name` is its name in requests, by default the type's own.
    Raises `TypeError` for a type without a schema; the text says what to change.
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
    """Return whether pydantic has to decode a type: it is one of pydantic's, or contains one."""
    if "pydantic" not in sys.modules:
        return False
    return is_pydantic(kind) or any(is_pydantics(one) for one in get_args(kind) if one is not kind)


def from_pydantic(kind: Any, value: Any) -> Any:
    """Decode a pydantic model inside another type: msgspec's `dec_hook`. Raises `ValueError` for an invalid value."""
    if not is_pydantic(kind):
        raise NotImplementedError
    try:
        return adapter_of(kind).validate_json(msgspec.json.encode(value))
    except ValueError as error:  # pydantic's own text has lines of advice for developers
        listed: Any = cast("Any", getattr(error, "errors", list))()
        errors = "; ".join(f"{'.'.join(map(str, one['loc'])) or kind.__name__}: {one['msg']}" for one in listed)
        raise ValueError(errors or str(error)) from error


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
    """Return a name that the API accepts: at most 64 letters, digits, ``_`` and ``-``."""
    return re.sub(r"[^a-zA-Z0-9_-]+", "_", name).strip("_")[:64] or "answer"


# -------------------------------------------------------------------- texts


def _jsons_in(text: str) -> Iterator[bytes]:
    """Yield the JSON values in a text: the whole text, else those in fences, and those that begin with a bracket."""
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
    """Return the value without nulls for properties left out, by the schema before it was made strict."""
    if not is_dict(schema) or not (is_list(value) or is_dict(value)):
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
    """Return whether a container may be intended for a schema, by its type and its properties with a constant value."""
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


resolve_annotations(__name__)

"""The signature of a tool: its parameters as one msgspec Struct, described by the function's docstring."""

from __future__ import annotations

import functools
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any, NamedTuple, TypeAlias, Union, cast

import msgspec

from ..core.schema.from_type import adapted, has_validators, json_schema, strict, tighten, with_limits
from ..core.schema.jsonschema import Schema, resolve
from ..core.schema.structured import Shape, ShapeError

__all__ = ["Parameters", "function_of", "name_of", "object_in", "read_docstring"]

# A heading that ends the description: in Google style with a colon, in numpy style underlined.
_OF_PARAMETERS = re.compile("args|arguments|params|((keyword|other) )?parameters|keyword (args|arguments)")
_SECTIONS = re.compile(
    f"{_OF_PARAMETERS.pattern}|returns?|yields?|receives|raises?|except|exceptions|warns|warnings|attributes|examples?|"
    "notes?|see also|references|todo"
)
_FIELD = re.compile(r":(\w+)(?:\s+([^:\n]*))?:(?=\s|$)\s*(.*)")
_FIELD_WORDS = frozenset({"param", "parameter", "arg", "argument", "key", "keyword"})
_GOOGLE = re.compile(r"\*{0,2}(\w++)\s*+(?:\(.*?\)\s*+)?:(?!:)\s*(.*)")
_NUMPY = re.compile(r"\*{0,2}(\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?$")


def read_docstring(text: str | None) -> tuple[str, dict[str, str]]:
    """Return the description of a function, and the descriptions of its parameters by name.

    Google, numpy and reST styles are understood. The lines of a paragraph are joined.
    """
    lines = inspect.cleandoc(text or "").splitlines()
    described: list[str] = []
    parameters: dict[str, str] = {}
    place = 0
    while place < len(lines):
        heading = _heading(lines, place)
        if heading is not None:
            word, numpy = heading
            begin = place + (2 if numpy else 1)
            place = _section_end(lines, begin, numpy)
            if _OF_PARAMETERS.fullmatch(word):
                entries = _numpy_entries if numpy else _google_entries
                parameters.update(entries(lines[begin:place]))
        elif _FIELD.match(lines[place]):
            begin, place = place, place + 1
            while place < len(lines) and lines[place][:1] in ("", " ", "\t") and not _FIELD.match(lines[place]):
                place += 1
            _take_field(lines[begin:place], parameters)
        else:
            described.append(lines[place])
            place += 1
    return _joined(described), parameters


def _heading(lines: list[str], place: int) -> tuple[str, bool] | None:
    """Return the heading in a line, and whether it is underlined; `None` if the line is not a heading."""
    line = lines[place]
    if line[:1] in ("", " ", "\t"):
        return None
    after = lines[place + 1] if place + 1 < len(lines) else ""
    word = line.strip().rstrip(":").lower()
    if not _SECTIONS.fullmatch(word):
        return None
    if re.fullmatch(r"-{3,}\s*", after):
        return word, True
    return (word, False) if line.rstrip().endswith(":") else None


def _section_end(lines: list[str], begin: int, numpy: bool) -> int:
    place = begin
    while place < len(lines):
        line = lines[place]
        if _heading(lines, place) is not None or (not numpy and line[:1] not in ("", " ", "\t")):
            break
        place += 1
    return place


def _google_entries(lines: list[str]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    depth = min((_indent(line) for line in lines if line.strip()), default=0)
    current: list[str] = []
    for line in lines:
        match = _GOOGLE.match(line.strip()) if line.strip() and _indent(line) == depth else None
        if match:
            current = found.setdefault(match[1], [])
            current.append(match[2])
        else:
            current.append(line.strip())
    return {name: _joined(parts) for name, parts in found.items()}


def _numpy_entries(lines: list[str]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in lines:
        match = _NUMPY.match(line) if line[:1] not in ("", " ", "\t") else None
        if match:
            current = []
            for name in match[1].split(","):
                found[name.strip().lstrip("*")] = current
        else:
            current.append(line.strip())
    return {name: _joined(parts) for name, parts in found.items()}


def _take_field(lines: list[str], parameters: dict[str, str]) -> None:
    match = _FIELD.match(lines[0])
    assert match is not None
    word, subject, first = match[1], match[2], match[3]
    if word in _FIELD_WORDS and subject and subject.split():
        name = subject.split()[-1].lstrip("*\\")  # `:param int days:` names the type first
        parameters[name] = _joined([first, *(line.strip() for line in lines[1:])])


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _joined(lines: list[str]) -> str:
    """Join the lines of each paragraph, except indented lines and items of lists."""
    paragraphs: list[str] = []
    open_ = False
    for line in lines:
        if not line.strip():
            open_ = False
            continue
        apart = line[:1] in (" ", "\t") or re.match(r"([-*+]|\d+[.)])\s", line) is not None
        if open_ and not apart:
            paragraphs[-1] += f" {line.strip()}"
        elif open_:
            paragraphs[-1] += f"\n{line.rstrip()}"
        else:
            paragraphs.append(line.rstrip())
        open_ = True
    return "\n\n".join(paragraphs).strip()


Function: TypeAlias = Callable[..., Any]

_SIMPLE = (str, int, float, bool, type(None), Enum)  # defaults of these types are shown to the model


class _Parameter(NamedTuple):
    name: str
    kind: Any  # the annotation
    default: Any  # `inspect.Parameter.empty` without one
    positional: bool  # positional-only


class Parameters:
    """The parameters that a model fills in.

    `schema` is the JSON schema of the arguments, `strict` whether strict mode accepts it; `bind` converts the model's
    arguments to those of the function.
    """

    def __init__(self, function: Function, name: str, descriptions: dict[str, str], strictly: bool | None) -> None:
        self._parameters = _parameters_of(function, name)
        kinds = _hints_of(function, name, self._parameters)
        fields: list[Any] = []
        names: dict[str, str] = {}
        for place, one in enumerate(self._parameters):
            what = f"The parameter {one.name!r} of the tool {name}"
            fields.append(_field(f"p{place}", one._replace(kind=kinds[one.name]), descriptions.get(one.name), what))
            names[f"p{place}"] = one.name
        self._fields = tuple(field[0] for field in fields)
        try:
            made = msgspec.defstruct(
                f"{name}_arguments", fields, rename=names, kw_only=True, forbid_unknown_fields=True
            )
            self._shape: Shape[Any] = Shape(made, f"{name}_arguments")
        except TypeError as error:
            raise TypeError(f"The parameters of the tool {name}: {error}") from error
        self.strict: bool = self._shape.strict and strictly is not False
        plain = json_schema(made)
        self.schema: Schema = _untitled(
            strict(plain) if strictly else _rooted(plain) if strictly is False else tighten(plain)[0]
        )

    def bind(self, arguments: str) -> tuple[list[Any], dict[str, Any]]:
        """Return positional and keyword arguments for the model's JSON text; ``""`` and ``null`` mean no arguments.

        An argument that the model omitted, or gave as null where null does not fit, gets the function's default. Raises
        `ShapeError`, whose message is for the model.
        """
        given = object_in(arguments)  # `decode` alone would accept anything after the first value of the text
        try:
            made = self._shape.decode(arguments if given else "{}")
        except ShapeError:
            made = self._from_texts(given)
            if made is None:
                raise
        placed: list[Any] = []
        named: dict[str, Any] = {}
        for field, one in zip(self._fields, self._parameters, strict=True):
            value = getattr(made, field)
            if value is msgspec.UNSET:
                value = one.default
            if one.positional:
                placed.append(value)
            else:
                named[one.name] = value
        return placed, named

    def _from_texts(self, given: dict[str, Any]) -> Any:
        """Decode arguments some of which are texts ("3" for 3, "true" for true); return `None` if they do not fit."""
        omissible = {one.name for one in self._parameters if one.default is not inspect.Parameter.empty}
        kept = {name: value for name, value in given.items() if value is not None or name not in omissible}
        try:
            return msgspec.convert(kept, self._shape.kind, strict=False, dec_hook=_no_pydantic)
        except (ValueError, TypeError, NotImplementedError):
            return None


def _no_pydantic(kind: Any, value: Any) -> Any:
    raise NotImplementedError  # pydantic was tried before, and converts texts to numbers itself


def object_in(arguments: str) -> dict[str, Any]:
    """Return the JSON object that a model wrote; ``""`` and ``null`` are empty ones. Raises `ShapeError` otherwise."""
    text = arguments.strip()
    if text in ("", "null"):
        return {}
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        problem = str(error).removeprefix("JSON is malformed: ")
    except (RecursionError, UnicodeError):
        problem = "it is nested too deeply, or has invalid characters"
    raise ShapeError(f"They have to be one JSON object: {problem}.", text=arguments)


def function_of(function: Any) -> Function:
    """Return the plain function in a partial, method or callable object: it has annotations and docstring."""
    while isinstance(function, functools.partial):
        function = function.func
    if not (inspect.isroutine(function) or inspect.isclass(function)):
        function = type(function).__call__
    return cast("Function", inspect.unwrap(getattr(function, "__func__", function)))


def name_of(function: Any) -> str:
    """Return the name of a function, or of the class of a callable object."""
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", None) or type(function).__name__)


def _parameters_of(function: Function, name: str) -> list[_Parameter]:
    bound = _bound_by_partials(function)
    found: list[_Parameter] = []
    try:
        signature = inspect.signature(function)
    except ValueError as error:
        raise TypeError(
            f"The parameters of the tool {name} cannot be read ({error}); wrap it in a function that has annotations"
        ) from error
    for one in signature.parameters.values():
        if one.name in bound:
            continue  # set by the partial: the model neither sees nor sets it
        if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
            stars = "*" if one.kind is one.VAR_POSITIONAL else "**"
            raise TypeError(
                f"The tool {name} takes {stars}{one.name}, which no schema can express; name its parameters, or "
                "take a list"
            )
        if one.annotation is one.empty:
            raise TypeError(
                f"The parameter {one.name!r} of the tool {name} has no annotation; add its type, as in {one.name}: str"
            )
        found.append(_Parameter(one.name, one.annotation, one.default, one.kind is one.POSITIONAL_ONLY))
    return found


def _bound_by_partials(function: Any) -> set[str]:
    names: set[str] = set()
    while isinstance(function, functools.partial):
        names.update(function.keywords)
        function = function.func
    return names


def _hints_of(function: Function, name: str, parameters: list[_Parameter]) -> dict[str, Any]:
    """Return the annotations of the parameters as types. Not the return type: it may not exist at run time."""
    inner = function_of(function)
    holder = types.SimpleNamespace(__annotations__={one.name: one.kind for one in parameters})
    names = getattr(inner, "__globals__", None) or vars(sys.modules.get(inner.__module__, types))
    try:
        return typing.get_type_hints(holder, globalns=names, include_extras=True)
    except (NameError, AttributeError, SyntaxError, TypeError) as error:
        raise TypeError(
            f"The annotations of the tool {name} cannot be evaluated: {error}. The types that they name must be "
            "globals of the module that defines the function."
        ) from error


def _field(field: str, one: _Parameter, description: str | None, what: str) -> tuple[str, Any, Any]:
    """Return the Struct's field for a parameter. Raises `TypeError`, which names it, if it has no schema."""
    try:
        made = _made_field(field, one, description)
        json_schema(msgspec.defstruct("_Alone", [made]))
    except (TypeError, ValueError, NameError) as error:
        raise TypeError(f"{what}: {error}") from error
    return made


def _made_field(field: str, one: _Parameter, description: str | None) -> tuple[str, Any, Any]:
    empty = inspect.Parameter.empty
    kind = adapted(one.kind) if has_validators(one.kind) else with_limits(one.kind)
    default: Any = msgspec.field()
    if one.default is not empty:
        simple = isinstance(one.default, _SIMPLE)
        default = msgspec.field(default=one.default if simple else msgspec.UNSET)
        kind = kind if simple else Union[kind, msgspec.UnsetType]  # noqa: UP007 (made at run time)
    if description and not _is_described(one.kind):
        kind = Annotated[kind, msgspec.Meta(description=description)]
    return field, kind, default


def _is_described(kind: Any) -> bool:
    return any(getattr(note, "description", None) for note in getattr(kind, "__metadata__", ()))


def _rooted(schema: Schema) -> Schema:
    """Return a schema that is a reference into its own definitions with the reference resolved."""
    root = resolve(schema, schema)
    defs = {name: one for name, one in schema.get("$defs", {}).items() if one is not root}
    return {**root, "$defs": defs} if defs else root


def _untitled(schema: Schema) -> Schema:
    """Return a schema without the name of the Struct that it was made of."""
    return {name: value for name, value in schema.items() if name != "title"}

"""Validation of requests against the schemas of OpenAI's API description; violations are raised as `HTTPError`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, Final, cast

import msgspec

from ..core.model.plain import is_dict, is_list
from ..core.schema.compiled import compile_schema
from ..core.schema.jsonschema import Violation, validation_errors
from ..endpoints import ENDPOINTS
from .errors import HTTPError
from .form import UploadedFile

__all__ = ["REQUEST_KINDS", "body_schema", "check_body", "decode_object", "kinds_of_field"]

REQUEST_KINDS: Final[dict[str, Callable[[Any], bool]]] = {
    "file": lambda value: isinstance(value, UploadedFile),
    # JSON Schema accepts 1.0 as an integer and has no upper limit; the API refuses both.
    "integer": lambda value: type(value) is int and -(2**63) <= value < 2**63,
}
"""The types of JSON and of forms in the API's terms."""
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_SHOWN = 100  # characters of a wrong value that a message shows


@cache
def body_schema(operation: str) -> dict[str, Any]:
    """Return the schema of an operation's body, with the schemas it references under ``$defs``."""
    from .request_schemas import BODIES, DEFINITIONS  # 60 kB of text, for servers that validate

    schema: dict[str, Any] = msgspec.json.decode(BODIES[operation])
    found: dict[str, Any] = {}
    todo = _references(BODIES[operation])
    while todo:
        name = todo.pop()
        if name not in found:
            found[name] = msgspec.json.decode(DEFINITIONS[name])
            todo |= _references(DEFINITIONS[name])
    return {**schema, "$defs": found}


@cache
def _compiled(operation: str) -> tuple[Sequence[str], Callable[[Any], bool]]:
    """Return the names of the required properties, and a function that tells whether a body fits."""
    schema = body_schema(operation)
    return tuple(schema.get("required", ())), compile_schema(schema, kinds=REQUEST_KINDS)


def kinds_of_field(operation: str) -> Callable[[str], frozenset[str]]:
    """Return a function that returns the JSON types allowed for a field of an operation's body."""
    schema = body_schema(operation)

    def kinds(node: dict[str, Any]) -> Iterator[str]:
        while "$ref" in node:
            node = schema["$defs"][node["$ref"].removeprefix("#/$defs/")]
        given = node.get("type", ())
        yield from [given] if isinstance(given, str) else given
        for one in node.get("anyOf", ()):
            yield from kinds(one)

    return lambda name: frozenset(kinds(schema["properties"].get(name, {})))


def _references(text: str) -> set[str]:
    return set(re.findall(r'"#/\$defs/([^"]+)"', text))


def decode_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a request's body. Raises `HTTPError` (400) for anything else."""
    if not body:
        raise HTTPError(400, "The request has no body; a JSON object was expected.")
    try:
        value: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise HTTPError(400, f"The body of the request is not valid JSON: {error}.") from None
    if not is_dict(value):
        raise HTTPError(400, f"The body of the request must be a JSON object, not {_kind_of(value)}.")
    return value


def check_body(operation: str, body: dict[str, Any], *, strict: bool, types: bool = True) -> None:
    """Raise `HTTPError` (400) for the first violation of the operation's schema.

    A property that is null counts as not given. Unknown properties are refused only with `strict`. Without `types` only
    missing properties are checked.
    """
    required, fits = _compiled(operation)
    for name in required:
        if body.get(name) is None:
            raise _missing(name)
    if strict:
        schema = body_schema(operation)
        for name in body:
            if name not in schema["properties"] and name not in ENDPOINTS[operation].known:
                message = f"Unrecognized request argument supplied: {name}"
                raise HTTPError(400, message, param=name, code="unknown_parameter")
    if not types or fits(body):
        return
    for violation in validation_errors(body, body_schema(operation), kinds=REQUEST_KINDS, null_is_absent=True):
        raise _refusal(violation, body)


def _missing(param: str) -> HTTPError:
    message = f"Missing required parameter: '{param}'."
    return HTTPError(400, message, param=param, code="missing_required_parameter")


def _refusal(violation: Violation, body: dict[str, Any]) -> HTTPError:
    param = violation.path.removeprefix("$").removeprefix(".")
    if violation.kind == "missing":
        return _missing(f"{param}.{violation.name}".removeprefix("."))
    found = _at(violation.path, body)
    if violation.kind == "type":
        expected = violation.expected.replace(", null", "").removesuffix(" or null")  # null counts as not given
        message = f"Invalid type for '{param}': expected {expected}, got {_kind_of(found)}."
        return HTTPError(400, message, param=param, code="invalid_type")
    shown = found if isinstance(found, str) else str(found).lower() if isinstance(found, bool) else _shown(found)
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
    message = f"Invalid value for '{param}': expected {violation.expected}, got {shown!r}."
    return HTTPError(400, message, param=param, code="invalid_value")


def _shown(value: Any) -> str:
    if is_list(value) or is_dict(value):
        return f"{_kind_of(value)} with {len(value)} items"
    return str(value)


def _at(path: str, body: Any) -> Any:
    """Return the value at a path; `None` if a property's name holds a dot, which makes the path ambiguous."""
    for name, index in _STEP.findall(path):
        try:
            body = body[name] if name else body[int(index)]
        except (KeyError, IndexError, TypeError):
            return None
    return body


def _kind_of(value: object) -> str:
    """Return the JSON name of the value's type, with an article."""
    if value is None:
        return "null"
    if isinstance(value, UploadedFile):
        return "a file"
    kinds = {bool: "a boolean", int: "an integer", float: "a number", str: "a string", list: "an array"}
    return kinds.get(cast("type[Any]", type(value)), "an object")

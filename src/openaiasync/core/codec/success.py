"""Decides whether the body of a successful status is an answer: gateways also send errors and empty objects with 200.

Two questions decide. Is there any field that this type of answer consists of? And if there is also a field that servers
put into errors, is there the field with the answer's content? Fields that the type declares are values, never signs of
an error.
"""

from __future__ import annotations

import typing
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, NamedTuple, cast

import msgspec

from ..model.base import BaseModel, OpenModel
from ..model.lenient import flatten, is_struct
from ..model.mixins import CONTENTS, has_content
from ..model.plain import as_dict, as_list, is_dict, is_list
from .decode import DecodeError, Decoder, parsed
from .error_body import parse_error

__all__ = [
    "EMPTY",
    "ERROR",
    "NOTHING",
    "as_page",
    "deleted",
    "error_of_choice",
    "has_words",
    "is_confirmed",
    "is_error",
    "is_nothing",
    "object_in",
    "read_leniently",
    "says_something",
]

# The reasons to reject a body as an answer.
ERROR = "an error"
NOTHING = "the answer has none of the requested content"
EMPTY = "the answer is empty"

# Fields that many types of answers share with errors, so that they do not identify an answer.
_GENERAL = frozenset(
    {"id", "object", "type", "created", "created_at", "model", "status", "usage", "metadata", "system_fingerprint"}
)
_MEMBERS = frozenset({"error", "errors", "last_error"})  # fields in which answers of several types describe an error
_WORDS = ("msg", "message", "error_msg", "error_message", "errmsg", "status_msg", "detail", "reason", "description")
_CODES = ("code", "error_code", "errcode", "status_code", "statusCode", "ret", "retcode")
_FINE = frozenset({"", "0", "200", "ok", "success", "succeeded", "successful"})
_DELETED = (_FINE - {""}) | {"deleted", "true"}
_BAD = frozenset({"error", "fail", "failed", "failure"})
_FAILED = ("error", "network_error")  # OpenRouter; Zhipu, when its model fails
_OTHER_ERRORS = (
    "detail", "errors", "fault", "error_msg", "errorMessage", "error_message", "Error", "__type", "exception",
)  # fmt: skip


class _AnswerFacts(NamedTuple):
    """The facts about a class of answers that decide."""

    declared: frozenset[str]
    required: frozenset[str]
    lists: frozenset[str]
    main: frozenset[str]
    content: frozenset[str]
    constants: dict[str, tuple[Any, ...]]


@cache
def _facts(kind: Any) -> _AnswerFacts:
    declared: set[str] = set()
    required: set[str] = set()
    lists: set[str] = set()
    constants: dict[str, tuple[Any, ...]] = {}
    for field in msgspec.structs.fields(kind):
        name, members = field.encode_name, flatten(field.type)
        declared.add(name)
        if members and all(typing.get_origin(member) is typing.Literal for member in members):
            constants[name] = tuple(value for member in members for value in typing.get_args(member))
        elif field.required and name not in _MEMBERS:
            required.add(name)
            if all(typing.get_origin(member) is list for member in members):
                lists.add(name)
    if (about := CONTENTS.get((typing.get_origin(kind) or kind).__name__)) is not None:
        required.add(about)  # its content, which the description makes optional for images
    config = cast("type[BaseModel]", typing.get_origin(kind) or kind).__struct_config__
    if config.tag is not None:
        declared.add(cast("str", config.tag_field))
        constants[cast("str", config.tag_field)] = (config.tag,)
    main = frozenset(required) - _GENERAL
    # Images require nothing but `created`: there any optional field shows that an answer is there.
    content = frozenset(required if main or not required else declared - _GENERAL - _MEMBERS | required)
    return _AnswerFacts(frozenset(declared), frozenset(required), frozenset(lists), main, content, constants)


def read_leniently(decoder: Decoder[Any], value: Any, body: bytes) -> tuple[Any, str]:
    """Return the answer built from plain values, and the reason to reject it, "" without one. Raises `DecodeError`.

    `body` holds the bytes of the values.
    """
    if is_dict(value):
        if is_error(decoder.kind, value):  # with the partial answer, if an error followed the beginning of one
            return decoder.build(value, body) if value.get("choices") else None, ERROR
        if is_nothing(decoder.kind, value):
            return None, NOTHING
    answer = decoder.decode(body) if decoder.strict else decoder.build(value, body)
    return answer, "" if has_content(answer) else EMPTY


def object_in(body: bytes) -> dict[str, Any] | None:
    """Return the fields of a body that is a JSON object."""
    if not body.lstrip().startswith(b"{"):
        return None
    try:
        value: Any = parsed(body)
    except DecodeError:
        return None
    return value if is_dict(value) else None


# -------------------------------------------------------------------------------------------------- errors


def is_error(kind: Any, fields: Mapping[str, Any]) -> bool:
    """Whether an object in place of an answer of this type is an error object, by its own fields."""
    members = [member for member in flatten(kind) if is_struct(member)]
    if not members:
        return _is_error(_AnswerFacts(frozenset(), frozenset(), frozenset(), frozenset(), frozenset(), {}), fields)
    return all(_is_error(_facts(member), fields) for member in members)


def _is_error(facts: _AnswerFacts, fields: Mapping[str, Any]) -> bool:
    unknown = fields.keys() - facts.declared
    if "error" in unknown and says_something(fields["error"]):
        return bool(facts.declared) or not fields.get("id")  # an answer without a schema may have a field of this name
    if ("choices" in facts.declared or not facts.declared) and any(
        map(_is_failed_choice, as_list(fields.get("choices")))
    ):
        return True
    for name in ("object", "type"):
        if fields.get(name) == "error" and "error" not in facts.constants.get(name, ()):
            return True
    if "base_resp" in unknown and not _is_fine(as_dict(fields["base_resp"]).get("status_code")):  # MiniMax
        return True
    if not _is_marked(fields, unknown) or any(fields.get(name) in values for name, values in facts.constants.items()):
        return False  # a constant of the type identifies it
    solid = {name for name in facts.required if fields.get(name) is not None}
    if facts.main:
        return not facts.main & solid
    return fields.get("id") is None


def _is_failed_choice(choice: Any) -> bool:
    """Whether a choice ended with an error, and is incomplete."""
    fields = as_dict(choice)
    return fields.get("finish_reason") in _FAILED or ("error" in fields and says_something(fields["error"]))


def error_of_choice(body: Any) -> Any:
    """Return the error object of a choice that ended with an error, `None` without one."""
    for choice in filter(_is_failed_choice, as_list(as_dict(body).get("choices"))):
        error: Any = choice.get("error")
        return error if says_something(error) else {"message": f"the answer ended with {choice['finish_reason']!r}"}
    return None


def _is_marked(fields: Mapping[str, Any], unknown: Collection[str]) -> bool:
    """Whether the fields that the type does not declare are those of an error."""
    if "success" in unknown and fields["success"] in (False, "false"):
        return True
    if any(name in unknown and not _is_fine(fields[name]) for name in _CODES) and any(
        name in unknown and fields[name] for name in _WORDS
    ):
        return True
    kind = fields["type"] if "type" in unknown else None
    if isinstance(kind, str) and kind.lower().endswith(("error", "exception")) and has_words(fields):
        return True
    status = fields["status"] if "status" in unknown else None
    if (isinstance(status, str) and status.lower() in _BAD) or (type(status) is int and status >= 400):
        return True
    return any(name in unknown and bool(fields[name]) for name in _OTHER_ERRORS)


def has_words(fields: Mapping[str, Any]) -> bool:
    """Whether an object has a text under one of the names of an error's message."""
    return any(isinstance(fields.get(name), str) and fields[name] for name in _WORDS)


def _is_fine(code: Any) -> bool:
    if isinstance(code, str):
        return code.lower() in _FINE
    return code is None or code is True or (isinstance(code, int) and (code == 0 or 200 <= code < 300))


def says_something(error: Any) -> bool:
    """Whether an error field reports an error: some servers send an empty object, or a code 0, with each answer."""
    if not is_dict(error):
        return bool(error)
    fine = any(error.get(name) is not None and _is_fine(error[name]) for name in _CODES)
    return not fine and any(error.values())


# -------------------------------------------------------------------------------------------------- nothing


def is_nothing(kind: Any, fields: Mapping[str, Any]) -> bool:
    """Whether an object has none of the fields that an answer of this type needs. (A null list is an empty one.)"""
    members = [member for member in flatten(kind) if is_struct(member)]
    if not members or not fields:
        return not fields
    return all(_is_nothing(_facts(member), fields) for member in members)


def _is_nothing(facts: _AnswerFacts, fields: Mapping[str, Any]) -> bool:
    if facts.lists and fields.get("object") == "list":
        return False  # servers written in Go omit an empty list
    present = any(fields.get(name) is not None or (name in facts.lists and name in fields) for name in facts.content)
    return bool(facts.required) and not present


# -------------------------------------------------------------------------------------------------- other shapes

_LISTS = ("models", "items", "results", "list", "objects")


def as_page(value: Any, name: str, *, models: bool) -> Any:
    """Return the plain values of a page that a server sends as a bare list (Together) or under another name.

    `name` is the name of the collection in the path. With `models`, the name replaces a missing id (Ollama, Gemini).
    """
    if is_list(value):
        page: dict[str, Any] = {"object": "list", "data": value, "has_more": False}
    elif is_dict(value):
        page = value
        other = next((one for one in (name, *_LISTS) if is_list(page.get(one))), None)
        if page.get("data") is None and other is not None:
            rest = {key: item for key, item in page.items() if key != other}
            page = {"has_more": False, **rest, "data": page[other]}  # nothing says that there is more
    else:
        return value
    if models and is_list(page.get("data")):
        page = {**page, "data": [_as_model(item) for item in page["data"]]}
    return page


def _as_model(item: Any) -> Any:
    if isinstance(item, str):
        return {"id": item}
    if is_dict(item):
        name: Any = item.get("id") or item.get("model") or item.get("name")
        return item if item.get("id") is not None or not isinstance(name, str) else {**item, "id": name}
    return item


def is_confirmed(body: bytes) -> bool:
    """Whether a body confirms a deletion in a server's own way: ``{"success": true}``, ``true``, ``OK``."""
    value: Any = parse_error(body)
    if not is_dict(value):
        return _confirms(value)
    names = ("success", "ok", "deleted", "status", "result", *_CODES)
    marks = [value[name] for name in names if value.get(name) is not None]
    return bool(marks) and all(map(_confirms, marks))


def _confirms(mark: Any) -> bool:
    if isinstance(mark, str):
        return mark.lower() in _DELETED
    return mark is True or (type(mark) is int and _is_fine(mark))


def deleted(kind: Any, ids: Mapping[str, str], last: str) -> dict[str, Any]:
    """Return the plain values of a deletion that the server confirmed without a body.

    `ids` are the ids in the request's path by their names, `last` is the id of the deleted object.
    """
    members = [member for member in flatten(kind) if is_struct(member)]
    if not members or members[0] is OpenModel:
        return {"id": last, "deleted": True}
    facts = _facts(members[0])
    made: dict[str, Any] = {name: values[0] for name, values in facts.constants.items() if len(values) == 1}
    made |= {name: value for name, value in ids.items() if name in facts.declared}
    if "deleted" in facts.declared:
        made["deleted"] = True
    if "id" in facts.declared:  # a type without `deleted` is the object to which the deleted part belonged
        made["id"] = last if "deleted" in facts.declared else next(iter(ids.values()), last)
    return made

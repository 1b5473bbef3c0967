"""Strict decoding: required fields and types are checked, unknown fields are kept and never an error."""

from __future__ import annotations

import functools
import typing
from typing import Any, cast

import msgspec

from ..model.lenient import (
    UNFIT,
    flatten,
    is_struct,
    likely_members,
    resolve,
)

__all__ = ["check"]


def check(value: Any, kind: Any) -> None:
    """Raise `msgspec.ValidationError`, which names the place, where a plain value does not fit a type."""
    try:
        msgspec.convert(known_part(value, kind), kind, dec_hook=resolve)
    except UnicodeEncodeError as error:  # half a UTF-16 pair where the type takes base64
        raise msgspec.ValidationError(f"Invalid base64 encoded string: {error.reason}") from None


def known_part(value: Any, kind: Any) -> Any:
    """The value without the fields that its type does not declare, at any depth."""
    if type(value) is list:
        items = _items(kind, list, 0)
        values: list[Any] = cast("Any", value)
        return values if items is None else [known_part(item, items) for item in values]
    if type(value) is not dict:
        return value
    fields: dict[str, Any] = cast("Any", value)
    structs = [member for member in flatten(kind) if is_struct(member)]
    if structs:
        return _of_struct(fields, structs)
    held = _items(kind, dict, 1)
    return fields if held is None else {name: known_part(item, held) for name, item in fields.items()}


def _of_struct(fields: dict[str, Any], structs: list[Any]) -> dict[str, Any]:
    """The known part for the member that the value is meant to be: of several, the first that it fits."""
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
    return {name: known_part(item, declared[name]) for name, item in fields.items() if name in declared}


@functools.cache
def _types(struct: Any) -> dict[str, Any]:
    """The type of each field by its name on the wire."""
    types = {field.encode_name: field.type for field in msgspec.structs.fields(struct)}
    config = (typing.get_origin(struct) or struct).__struct_config__
    return types if config.tag is None else types | {config.tag_field: str}


@functools.cache
def _items(kind: Any, origin: type, index: int) -> Any:
    found = [typing.get_args(member)[index] for member in flatten(kind) if typing.get_origin(member) is origin]
    return typing.Union[tuple(found)] if found else None  # noqa: UP007 (made at run time)

"""JSON schemas compiled to functions that return whether a value fits, for servers that check every request.

`validation_errors` explains the errors, and takes a hundred times as long: it is for the values that do not fit.
Supported are the keywords of `server/request_schemas.py`; for a schema with any other `compile_schema` raises.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, cast

from ..model.plain import is_dict, is_list
from .jsonschema import KINDS, Schema

__all__ = ["compile_schema"]

Check = Callable[[Any], bool]
_KEYWORDS = frozenset(
    [
        "$defs",
        "$ref",
        "additionalProperties",
        "anyOf",
        "enum",
        "items",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minimum",
        "pattern",
        "properties",
        "required",
        "type",
        "x-discriminator",
        "x-mapping",
    ]
)


def compile_schema(schema: Schema, *, kinds: Mapping[str, Callable[[Any], bool]]) -> Check:
    """Return a function that returns whether a value fits the schema; null counts as absent.

    `kinds` adds names of types to those of JSON. Raises `TypeError` for keywords that are not supported.
    """
    return _Compiler(schema, {**KINDS, **kinds}).check(schema)


def _always(value: Any) -> bool:
    return True


class _Compiler:
    def __init__(self, root: Schema, kinds: Mapping[str, Check]) -> None:
        self._root = root
        self._kinds = kinds
        self._named: dict[str, Check] = {}

    def check(self, schema: Schema) -> Check:
        unknown = schema.keys() - _KEYWORDS
        if unknown:
            raise TypeError(f"the keyword {min(unknown)!r} cannot be compiled")
        if "$ref" in schema:
            return self._reference(str(schema["$ref"]))
        checks = [*self._plain(schema), *self._limits(schema)]
        if "properties" in schema or "required" in schema or "additionalProperties" in schema:
            checks.append(self._members(schema))
        if "x-discriminator" in schema:
            checks.append(self._discriminated(schema))
        if "items" in schema:
            item = self.check(schema["items"])
            checks.append(lambda value: not is_list(value) or all(map(item, value)))
        if "anyOf" in schema:
            variants = [self.check(one) for one in schema["anyOf"]]
            checks.append(lambda value: any(variant(value) for variant in variants))
        return _all(checks)

    def _reference(self, name: str) -> Check:
        """Compile a definition at its first use: definitions refer to each other, and few of them are used."""

        def check(value: Any) -> bool:
            found = self._named.get(name)
            if found is None:
                found = self._named[name] = self.check(self._root["$defs"][name.removeprefix("#/$defs/")])
            return found(value)

        return check

    def _plain(self, schema: Schema) -> list[Check]:
        checks: list[Check] = []
        if "type" in schema:
            kinds = schema["type"] if is_list(schema["type"]) else [schema["type"]]
            fits = [self._kinds[kind] for kind in kinds]
            checks.append(fits[0] if len(fits) == 1 else lambda value: any(one(value) for one in fits))
        if "enum" in schema:
            values = frozenset(schema["enum"])  # of strings and null
            checks.append(lambda value: isinstance(value, str | None) and value in values)
        return checks

    def _limits(self, schema: Schema) -> list[Check]:
        low, high = schema.get("minimum"), schema.get("maximum")
        checks: list[Check] = []
        if low is not None or high is not None:
            number = self._kinds["number"]
            checks.append(
                lambda value: not number(value) or ((low is None or value >= low) and (high is None or value <= high))
            )
        for kind, least, most in (
            (str, "minLength", "maxLength"),
            (list, "minItems", "maxItems"),
            (dict, "minProperties", "maxProperties"),
        ):
            if least in schema or most in schema:
                checks.append(_sized(kind, schema.get(least, 0), schema.get(most)))
        if "pattern" in schema:
            search = re.compile(schema["pattern"]).search
            checks.append(lambda value: not isinstance(value, str) or search(value) is not None)
        return checks

    def _members(self, schema: Schema) -> Check:
        required = frozenset(cast("list[str]", schema.get("required", ())))
        members = {name: self.check(one) for name, one in cast("Schema", schema.get("properties", {})).items()}
        rest: Any = schema.get("additionalProperties", True)
        other = self.check(rest) if is_dict(rest) else _always

        def check(value: Any) -> bool:
            if not is_dict(value):
                return True
            if not required <= value.keys():
                return False
            for name, one in value.items():
                if (one is not None or name in required) and not members.get(name, other)(one):
                    return False
            return True

        return check

    def _discriminated(self, schema: Schema) -> Check:
        name = str(schema["x-discriminator"])
        mapping = {tag: self.check(one) for tag, one in cast("Schema", schema["x-mapping"]).items()}

        def check(value: Any) -> bool:
            if not is_dict(value):
                return True
            tag = value.get(name)
            variant = mapping.get(tag) if isinstance(tag, str) else None
            return variant is not None and variant(value)

        return check


def _sized(kind: type[Any], least: int, most: int | None) -> Check:
    def check(value: Any) -> bool:
        return not isinstance(value, kind) or (least <= len(value) and (most is None or len(value) <= most))

    return check


def _all(checks: list[Check]) -> Check:
    if not checks:
        return _always
    if len(checks) == 1:
        return checks[0]
    if len(checks) == 2:
        first, second = checks
        return lambda value: first(value) and second(value)
    return lambda value: all(check(value) for check in checks)

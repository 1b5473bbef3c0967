"""JSON schemas compiled to functions that return whether a value fits, for servers that check every request.

`validation_errors` explains the errors, and takes a hundred times as long: it is for the values that do not fit.
Supported are the keywords of `server/request_schemas.py`; for a schema with any other `compile_schema` raises.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

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


# The test for each type, as Python source; other types are looked up in `kinds`.
_TESTS = {
    "array": "isinstance(v, list)",
    "boolean": "(v is True or v is False)",
    "null": "v is None",
    "number": "(isinstance(v, (int, float)) and v is not True and v is not False)",
    "object": "isinstance(v, dict)",
    "string": "isinstance(v, str)",
}


def compile_schema(schema: Schema, *, kinds: Mapping[str, Callable[[Any], bool]]) -> Check:
    """Return a function that returns whether a value fits the schema; null counts as absent.

    `kinds` adds names of types to those of JSON. Raises `TypeError` for keywords that are not supported.
    """
    return _Compiler(schema, {**KINDS, **kinds}, _TESTS.keys() - kinds.keys()).check(schema)


def _check_keywords(schema: Schema) -> None:
    unknown = schema.keys() - _KEYWORDS
    if unknown:
        raise TypeError(f"the keyword {min(unknown)!r} cannot be compiled")
    rest: Any = schema.get("additionalProperties")
    for inner in (
        *schema.get("properties", {}).values(),
        *schema.get("x-mapping", {}).values(),
        *schema.get("anyOf", ()),
        *([schema["items"]] if "items" in schema else []),
        *([rest] if is_dict(rest) else []),
    ):
        _check_keywords(inner)


class _Compiler:
    """Writes each schema as one Python expression over the value `v`, and evaluates it to a function.

    Schemas are compiled when a value first meets them: there are thousands, and a request uses few of them.
    """

    def __init__(self, root: Schema, kinds: Mapping[str, Check], plain: Collection[str]) -> None:
        self._root = root
        self._plain = frozenset(plain)
        self._names: dict[str, Any] = {f"kind_{name}": test for name, test in kinds.items()}
        self._references: dict[str, str] = {}
        _check_keywords({name: one for name, one in root.items() if name != "$defs"})

    def check(self, schema: Schema) -> Check:
        found: Check = eval(f"lambda v: {self._expression(schema)}", self._names)  # the library's own schemas
        return found

    def _bound(self, value: object) -> str:
        """Return a name that stands for a value in expressions."""
        name = f"x{len(self._names)}"
        self._names[name] = value
        return name

    def _expression(self, schema: Schema) -> str:
        if "$ref" in schema:
            return self._reference(str(schema["$ref"]))
        tests = [*self._types(schema), *self._limits(schema)]
        if "properties" in schema or "required" in schema or "additionalProperties" in schema:
            tests.append(self._of_objects(schema, self._members(schema)))
        if "x-discriminator" in schema:
            tests.append(self._of_objects(schema, self._discriminated(schema)))
        if "items" in schema:
            item = self._later(schema["items"])
            tests.append(f"(not isinstance(v, list) or all(map({item}, v)))")
        if "anyOf" in schema:
            tests.append(f"({' or '.join(self._expression(one) for one in schema['anyOf']) or 'False'})")
        return f"({' and '.join(tests) or 'True'})"

    def _of_objects(self, schema: Schema, check: Check) -> str:
        """Return the expression of a test of objects; values of other types pass if the schema allows them."""
        name = self._bound(check)
        return f"{name}(v)" if schema.get("type") == "object" else f"(not isinstance(v, dict) or {name}(v))"

    def _later(self, schema: Schema) -> str:
        """Return the name of the schema's function, which is compiled when it is first called."""
        name = self._bound(None)

        def check(value: Any) -> bool:
            found = self._names[name] = self.check(schema)
            return found(value)

        self._names[name] = check
        return name

    def _reference(self, reference: str) -> str:
        """Return the expression of a definition, written out where it is used: a call costs more than most tests."""
        found = self._references.get(reference)
        if found is None:
            definition = self._root["$defs"][reference.removeprefix("#/$defs/")]
            _check_keywords(definition)
            self._references[reference] = f"{self._later(definition)}(v)"  # within the definition itself
            found = self._references[reference] = self._expression(definition)
        return found

    def _types(self, schema: Schema) -> list[str]:
        tests: list[str] = []
        if "type" in schema:
            kinds: list[str] = schema["type"] if is_list(schema["type"]) else [schema["type"]]
            found = [_TESTS[kind] if kind in self._plain else f"kind_{kind}(v)" for kind in kinds]
            tests.append(f"({' or '.join(found)})")
        if "enum" in schema:  # of strings and null
            values = self._bound(frozenset(schema["enum"]))
            tests.append(f"((isinstance(v, str) or v is None) and v in {values})")
        return tests

    def _limits(self, schema: Schema) -> list[str]:
        tests: list[str] = []
        low, high = schema.get("minimum"), schema.get("maximum")
        if low is not None or high is not None:
            bounds = [f"v >= {low!r}"] * (low is not None) + [f"v <= {high!r}"] * (high is not None)
            tests.append(f"(not kind_number(v) or ({' and '.join(bounds)}))")
        for kind, least, most in (
            ("str", "minLength", "maxLength"),
            ("list", "minItems", "maxItems"),
            ("dict", "minProperties", "maxProperties"),
        ):
            if least in schema or most in schema:
                size = f"{schema.get(least, 0)} <= len(v)" + (f" <= {schema[most]}" if most in schema else "")
                tests.append(f"(not isinstance(v, {kind}) or {size})")
        if "pattern" in schema:
            search = self._bound(re.compile(schema["pattern"]).search)
            tests.append(f"(not isinstance(v, str) or {search}(v) is not None)")
        return tests

    def _members(self, schema: Schema) -> Check:
        required: frozenset[str] = frozenset(schema.get("required", ()))
        properties: dict[str, Schema] = schema.get("properties", {})
        members: dict[str, Check] = {}
        rest: Any = schema.get("additionalProperties", True)
        other = self._later(rest) if is_dict(rest) else None

        def check(value: dict[str, Any]) -> bool:
            if not required <= value.keys():
                return False
            for name, one in value.items():
                if one is None and name not in required:
                    continue
                fits = members.get(name)
                if fits is None:
                    if name in properties:
                        fits = members[name] = self.check(properties[name])
                    elif other is None:
                        continue
                    else:
                        fits = self._names[other]
                if not fits(one):
                    return False
            return True

        return check

    def _discriminated(self, schema: Schema) -> Check:
        name = str(schema["x-discriminator"])
        variants: dict[str, Schema] = schema["x-mapping"]
        compiled: dict[str, Check] = {}

        def check(value: dict[str, Any]) -> bool:
            tag = value.get(name)
            if not isinstance(tag, str):
                return False
            variant = compiled.get(tag)
            if variant is None:
                if tag not in variants:
                    return False
                variant = compiled[tag] = self.check(variants[tag])
            return variant(value)

        return check

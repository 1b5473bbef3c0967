"""Writes `spec/optional.toml`: required fields of the description that the official client's types can do without.

Both libraries have to be installed. Classes are compared by their official module and name, and from there on field by
field, members of unions by name or by their constants. What is found is added to what the table has; a field that the
official types require again stays, for servers that were written against the older ones.

    python tools/loosen.py --spec ../shared/spec/openapi.json
    python tools/generate --spec ../shared/spec/openapi.json
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import pkgutil
import sys
import types
import typing
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "spec" / "optional.toml"
HEADER = """\
# Fields that the description requires and the official client's types ({version}) do without: servers leave them
# out, or send null. Written by tools/loosen.py. Keys are those of overrides.toml, whose own [optional] holds what other
# servers leave out.

[optional]
"""

Found = dict[tuple[str, str], set[str]]  # (module below `types`, class) → fields by their names on the wire


def loose_fields() -> Found:
    """Return the fields of answers and their parts that are required here and optional in the official types."""
    found: Found = {}
    done: set[tuple[Any, Any]] = set()
    todo = list(_pairs())
    while todo:
        ours, theirs = todo.pop()
        if (ours, theirs) in done:
            continue
        done.add((ours, theirs))
        todo += _compare(ours, theirs, found)
    return found


def _pairs() -> Iterator[tuple[Any, Any]]:
    """Every answer with the official class of the same module and name."""
    import openaiasync.types as package

    for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        module = importlib.import_module(info.name)
        try:
            official = importlib.import_module(info.name.replace("openaiasync", "openai", 1))
        except ImportError:
            continue
        for name in getattr(module, "__all__", ()):
            theirs = getattr(official, name, None)
            if _is_struct(getattr(module, name)) and _is_model(theirs):
                yield getattr(module, name), theirs


def _compare(ours: Any, theirs: Any, found: Found) -> Iterator[tuple[Any, Any]]:
    """Note the fields of one pair of classes; yield the pairs of what their fields hold."""
    import msgspec

    from openaiasync.core.model.lenient import flatten

    official = {field.alias or name: field for name, field in theirs.model_fields.items()}
    for field in msgspec.structs.fields(ours):
        other = official.get(field.encode_name)
        if other is None:
            continue
        nullable = not _holds_none(field.type)
        if field.required and (not other.is_required() or (nullable and _holds_none(other.annotation))):
            owner = _owner(ours, field.name)
            where = owner.__module__.removeprefix("openaiasync.types.")
            found.setdefault((where, owner.__name__), set()).add(field.encode_name)
        yield from _partners(_classes(flatten(field.type), _is_struct), _classes([other.annotation], _is_model))


def _owner(cls: Any, field: str) -> Any:
    """The class that declares a field of a class: hand-written ones inherit those of generated ones."""
    return next(base for base in cls.__mro__ if field in inspect.get_annotations(base))


def _partners(ours: list[Any], theirs: list[Any]) -> Iterator[tuple[Any, Any]]:
    if len(ours) == len(theirs) == 1:
        yield ours[0], theirs[0]
        return
    for one in ours:
        for other in theirs:
            if one.__name__ == other.__name__ or (_constant(one) and _constant(one) == _constant(other)):
                yield one, other


def _constant(cls: Any) -> Any:
    """Return the value that the field `type` must have."""
    import msgspec

    if hasattr(cls, "model_fields"):
        kind = cls.model_fields["type"].annotation if "type" in cls.model_fields else None
    elif cls.__struct_config__.tag is not None:
        return (cls.__struct_config__.tag,)
    else:
        kind = next((field.type for field in msgspec.structs.fields(cls) if field.encode_name == "type"), None)
    return typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else None


def _classes(kinds: Sequence[Any], wanted: Any) -> list[Any]:
    """The classes in types: members of unions, items of lists, values of mappings."""
    from openaiasync.core.model.lenient import flatten

    found: list[Any] = []
    for kind in kinds:
        if wanted(kind):
            found.append(kind)
        elif typing.get_origin(kind) in (list, dict, typing.Union, types.UnionType):
            found += _classes([one for part in typing.get_args(kind) for one in flatten(part)], wanted)
        elif typing.get_origin(kind) is typing.Annotated:
            found += _classes(typing.get_args(kind)[:1], wanted)
        elif hasattr(kind, "__value__"):
            found += _classes([kind.__value__], wanted)
    return found


def _holds_none(kind: Any) -> bool:
    if typing.get_origin(kind) is typing.Annotated:
        return _holds_none(typing.get_args(kind)[0])
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return any(_holds_none(part) for part in typing.get_args(kind))
    return kind in (None, type(None), Any, object)


def _is_struct(kind: Any) -> bool:
    from openaiasync.core.model.base import BaseModel

    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and hasattr(kind, "model_fields")


def table(found: Found, keys: dict[tuple[str, str], str], before: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return the table by the description's keys, with its previous entries."""
    fields = {key: set(names) for key, names in before.items()}
    for place, names in found.items():
        fields.setdefault(keys[place], set()).update(names)
    return {key: sorted(names) for key, names in sorted(fields.items())}


def text(fields: dict[str, list[str]]) -> str:
    """The table as TOML."""
    lines = [HEADER.format(version=f"openai {version('openai')}")]
    for key, names in fields.items():
        shown = key if key.isidentifier() else f'"{key}"'
        lines.append(f"{shown} = [{', '.join(f'{chr(34)}{name}{chr(34)}' for name in names)}]\n")
    return "".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    from generate.build import Tables
    from generate.tables import read_toml

    parser = argparse.ArgumentParser(prog="loosen", description="Find required fields that the official types omit.")
    parser.add_argument("--spec", type=Path, required=True, metavar="PATH", help="the OpenAPI description (JSON)")
    options = parser.parse_args(arguments)
    before: dict[str, list[str]] = read_toml(TABLE)["optional"] if TABLE.exists() else {}
    places = Tables(ROOT / "spec").places(options.spec)
    fields = table(loose_fields(), {(place.module, place.name): key for key, place in places.items()}, before)
    TABLE.write_text(text(fields), encoding="utf-8")
    print(f"{sum(map(len, fields.values()))} fields of {len(fields)} objects")
    return 0


if __name__ == "__main__":
    sys.exit(main())

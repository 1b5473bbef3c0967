"""What `Annotated` says of a type beyond msgspec's `Meta`: limits that msgspec can hold, and validators of pydantic.

Nothing of it is silently left out. Limits become msgspec's; a type with validators is read by pydantic as a whole; what
neither can run is refused when the schema is made.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

import msgspec

__all__ = ["adapted", "has_validators", "with_limits"]

_NUMBERS = ("gt", "ge", "lt", "le", "multiple_of")
_LIMITS = (*_NUMBERS, "min_length", "max_length", "pattern")
_WORDS = ("title", "description")


class _Fits(type):
    """Any value is an instance: pydantic has made it, and msgspec asks whether it is one."""

    def __instancecheck__(cls, instance: object) -> bool:
        return True


def adapted(kind: Any) -> Any:
    """A class that stands for a type which pydantic has to read, wherever msgspec takes a type."""
    return _Fits("Validated", (), {"__pydantic_validator__": None, "__adapted__": kind})


# ---------------------------------------------------------------- limits


def with_limits(kind: Any) -> Any:
    """A type whose limits and descriptions by others (annotated_types, pydantic's `Field`) are msgspec's as well."""
    notes: tuple[Any, ...] = getattr(kind, "__metadata__", ())
    if notes:
        inner = with_limits(kind.__origin__)
        limits = _limits_in(notes)
        if not limits and inner is kind.__origin__:
            return kind
        kept = [note for note in notes if isinstance(note, msgspec.Meta) or not _limits_in((note,))]
        return Annotated[(inner, *kept, msgspec.Meta(**limits))] if limits else Annotated[(inner, *notes)]
    args, origin = get_args(kind), get_origin(kind)
    if not args or origin is Literal:
        return kind
    made: tuple[Any, ...] = tuple(with_limits(one) for one in args)  # a list, as of a Callable's, stays as it is
    if all(one is other for one, other in zip(made, args, strict=True)):
        return kind
    if origin in (Union, types.UnionType):
        return Union[made]  # noqa: UP007 (made at run time)
    return kind.copy_with(made) if hasattr(kind, "copy_with") else origin[made]


def _limits_in(notes: tuple[Any, ...]) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    for note in notes:
        for one in (note, *_inside(note)):
            if not isinstance(one, msgspec.Meta):
                limits |= {name: value for name in (*_LIMITS, *_WORDS) if (value := _said(one, name)) is not None}
    return limits


def _inside(note: Any) -> tuple[Any, ...]:
    """The notes that pydantic's `Field` holds."""
    inner: Any = getattr(note, "metadata", None)
    return tuple(cast("Any", inner)) if isinstance(inner, (list, tuple)) else ()


def _said(note: Any, name: str) -> Any:
    value = getattr(note, name, None)
    if name in _NUMBERS:
        return value if isinstance(value, (int, float)) else None
    if name in ("min_length", "max_length"):
        return value if isinstance(value, int) else None
    return value if isinstance(value, str) else None


# ---------------------------------------------------------------- validators


def has_validators(kind: Any) -> bool:
    """Whether pydantic has to read a type because of what `Annotated` says in it, also in the fields of its classes.

    Raises `TypeError` where pydantic cannot: it is not there, or the field is one of a msgspec Struct.
    """
    found = _Search().any(kind)
    if found and "pydantic" not in sys.modules:
        raise TypeError(
            f"What Annotated says with {found} needs pydantic to be run; use msgspec.Meta, or import pydantic."
        )
    return bool(found)


class _Search:
    def __init__(self) -> None:
        self._seen: set[Any] = set()

    def any(self, kind: Any) -> str:
        """What was found first, in a word; "" if nothing."""
        for note in getattr(kind, "__metadata__", ()):
            if _validates(note):
                return type(note).__name__
        inner = [kind.__origin__] if hasattr(kind, "__metadata__") else [*self._parts(kind)]
        return next((found for one in inner if (found := self.any(one))), "") or self._fields(kind)

    def _parts(self, kind: Any) -> Iterator[Any]:
        if get_origin(kind) is not Literal:
            yield from get_args(kind)

    def _fields(self, kind: Any) -> str:
        cls: Any = get_origin(kind) or kind
        if not inspect.isclass(cls) or cls in self._seen or hasattr(cls, "__pydantic_validator__"):
            return ""
        self._seen.add(cls)
        struct = issubclass(cls, msgspec.Struct)
        of_typing = hasattr(cls, "__total__") or hasattr(cls, "_field_defaults")  # a TypedDict, a NamedTuple
        if not (struct or dataclasses.is_dataclass(cls) or of_typing):
            return ""
        try:
            hints = typing.get_type_hints(cls, include_extras=True)
        except (NameError, AttributeError, TypeError, SyntaxError):  # said where the schema is made
            return ""
        for name, one in hints.items():
            # A limit in a class cannot be handed to msgspec: the class is made already.
            found = self.any(one) or next((type(note).__name__ for note in _foreign_limits(one)), "")
            if found and struct:
                raise TypeError(
                    f"The field {name!r} of the Struct {cls.__name__} says something with {found} that msgspec does "
                    "not run; use msgspec.Meta, or check it in __post_init__."
                )
            if found:
                return found
        return ""


def _foreign_limits(kind: Any) -> Iterator[Any]:
    """The notes, anywhere in a type, that limit values and are not msgspec's."""
    for note in getattr(kind, "__metadata__", ()):
        if not isinstance(note, msgspec.Meta) and any(name in _LIMITS for name in _limits_in((note,))):
            yield note
    for one in get_args(kind) if get_origin(kind) is not Literal else ():
        yield from _foreign_limits(one)


def _validates(note: Any) -> bool:
    """Whether a note does more than to describe or to limit as msgspec can."""
    library = type(note).__module__.partition(".")[0]
    if isinstance(note, (msgspec.Meta, str, type)):
        return False
    if hasattr(note, "__get_pydantic_core_schema__"):
        return True
    if library == "annotated_types":
        return type(note).__name__ in ("Predicate", "Timezone") or any(
            getattr(note, name, None) is not None and _said(note, name) is None for name in _LIMITS
        )
    if library not in ("pydantic", "pydantic_core"):
        return False
    if hasattr(note, "metadata"):  # a Field
        return any(map(_validates, _inside(note)))
    said = {name for name, value in getattr(note, "__dict__", {}).items() if value is not None}
    return not said <= {*_LIMITS, *_WORDS}

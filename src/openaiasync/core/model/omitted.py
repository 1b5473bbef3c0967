"""The official client's markers for "no value given", recognised from either library by their type's name.

`omit` leaves a parameter, or a default header, out of the request; `NOT_GIVEN` and `not_given` mean the same and exist
for compatibility.
"""

from __future__ import annotations

from typing import Literal

__all__ = ["NOT_GIVEN", "NotGiven", "Omit", "is_omitted", "not_given", "omit"]


class NotGiven:
    """The type of `NOT_GIVEN`: a parameter that the caller did not set. Falsy."""

    def __bool__(self) -> Literal[False]:
        return False

    def __repr__(self) -> str:
        return "NOT_GIVEN"


class Omit:
    """The type of `omit`: leave this parameter or header out, even where a default would fill it in. Falsy."""

    def __bool__(self) -> Literal[False]:
        return False

    def __repr__(self) -> str:
        return "omit"


not_given: NotGiven = NotGiven()
NOT_GIVEN = not_given
omit: Omit = Omit()

_NAMES = frozenset({"NotGiven", "Omit"})


def is_omitted(value: object) -> bool:
    """Whether a value is one of these markers, ours or `openai`'s (by the type's name, without importing it)."""
    return type(value).__name__ in _NAMES

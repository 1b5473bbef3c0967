"""Names that people look for on answers, and where the value is: `answer.content` says ``.text``."""

from __future__ import annotations

from typing import Any, NoReturn

__all__ = ["Elsewhere", "shown_names"]


class Elsewhere:
    """An attribute that does not exist, whose `AttributeError` says what to use instead.

    Reading attributes that exist costs nothing more, as it would with ``__getattr__``; a field of that name that a
    server sent is in the instance's `__dict__` and wins, since this is not a data descriptor. `dir` leaves it out.
    """

    __slots__ = ("_advice", "_name")

    def __init__(self, advice: str) -> None:
        self._advice = advice
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type) -> NoReturn:
        if instance is None:
            raise AttributeError(f"type object {owner.__name__!r} has no attribute {self._name!r}")
        text = f"{type(instance).__name__!r} object has no attribute {self._name!r}: {self._advice}"
        raise AttributeError(text, name=self._name, obj=instance)

    def __repr__(self) -> str:
        return f"<no attribute: {self._advice}>"


def shown_names(kind: type, names: Any) -> list[str]:
    """Return the names without those of an `Elsewhere`."""
    hidden = {name for base in kind.__mro__ for name, value in vars(base).items() if type(value) is Elsewhere}
    return [name for name in names if name not in hidden]
